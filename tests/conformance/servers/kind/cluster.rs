//! The cluster provider. The kind cluster of the other tests stands for somebody else's cluster: a
//! kubeconfig, with a Vault and a PostgreSQL of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use alertstorm_platform::provider::images;
use serde_json::Value;

use super::super::{CLUSTER, create_cluster, reserve_cluster, shard_image};
use crate::common::root;

const SCENARIO: &str = "name: visitors
alerts: [{flood: 8, over: 2s, mix: {network: 1, database: 1, application: 1, security: 1}}]
agents: busy.yaml
phase: limited-write
controller: {job: {cpu_request_millis: 10, memory_request: 32Mi, memory_limit: 1Gi}}
vault: {secrets: {network: {engine: pki, ttl: 20s}, database: {engine: postgresql, ttl: 20s}}}
";

fn docker(args: &[&str]) -> String {
    let done = Command::new("docker").args(args).output().expect("docker");
    assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}

/// A container that is removed when the test ends.
pub struct Container(String);

impl Container {
    pub fn start(args: &[&str]) -> Self {
        let run = ["run", "--detach", "--network", "kind"];
        Self(docker(&run.into_iter().chain(args.iter().copied()).collect::<Vec<_>>()))
    }

    pub fn ip(&self) -> String {
        let format = "{{(index .NetworkSettings.Networks \"kind\").IPAddress}}";
        docker(&["inspect", "--format", format, &self.0])
    }

    fn exec(&self, args: &[&str]) -> String {
        docker(&["exec", &self.0].into_iter().chain(args.iter().copied()).collect::<Vec<_>>())
    }
}

/// Vault's listener inside its container, for its own command-line tool.
const INSIDE: &str = "http://127.0.0.1:8400";

/// Starts a Vault that speaks TLS on the container's address, which is known only when it runs. The
/// file of its certificate authority is `ca.crt` in `folder`.
fn start_vault(folder: &Path) -> Container {
    let (mount, image) = (format!("{}:/tls", folder.display()), "hashicorp/vault:1.21");
    let env = ["--entrypoint", "vault", "--env", "VAULT_DEV_ROOT_TOKEN_ID=visiting"];
    // This one only keeps the container alive.
    let first = ["--volume", &mount, image, "server", "-dev"];
    let first = env.into_iter().chain(first).chain(["-dev-listen-address=127.0.0.1:8300"]);
    let container = Container::start(&first.collect::<Vec<_>>());
    let made = rcgen::generate_simple_self_signed([container.ip()]).expect("a certificate");
    let listener = serde_json::json!({"listener": [{"tcp": {
        "address": "0.0.0.0:8200", "tls_cert_file": "/tls/ca.crt", "tls_key_file": "/tls/ca.key",
    }}]});
    for (name, text) in [
        ("ca.crt", made.cert.pem()),
        ("ca.key", made.signing_key.serialize_pem()),
        ("vault.json", listener.to_string()),
    ] {
        fs::write(folder.join(name), text).expect("a file for Vault");
    }
    let serve = ["vault", "server", "-dev", "-dev-listen-address=127.0.0.1:8400"];
    let exec = ["exec", "--detach", &container.0].into_iter().chain(serve);
    docker(&exec.chain(["-config=/tls/vault.json"]).collect::<Vec<_>>());
    container
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rm", "--force", &self.0]).output();
    }
}

struct Place {
    folder: tempfile::TempDir,
    kubeconfig: String,
    vault: Container,
    postgres: Container,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let profile = root().join("tests/conformance/profiles/busy.yaml");
        fs::copy(profile, folder.path().join("busy.yaml")).expect("the profile");
        fs::write(folder.path().join("visitors.yaml"), SCENARIO).expect("the scenario");
        let kubeconfig = Command::new("kind")
            .args(["get", "kubeconfig", "--name", CLUSTER])
            .output()
            .expect("kind");
        let postgres = ["--env", "POSTGRES_USER=dba", "--env", "POSTGRES_PASSWORD=visiting"];
        let args = ["--env", "POSTGRES_DB=postgres", "postgres:17", "postgres"];
        let listen = ["-c", "listen_addresses=*"];
        Self {
            kubeconfig: String::from_utf8(kubeconfig.stdout).expect("UTF-8"),
            vault: start_vault(folder.path()),
            postgres: Container::start(
                &postgres.into_iter().chain(args).chain(listen).collect::<Vec<_>>(),
            ),
            folder,
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn write(&self, name: &str, kubeconfig: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, kubeconfig).expect("the kubeconfig");
        path
    }

    fn run(&self, kubeconfig: &Path, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_alertstorm"))
            .args(["run", "visitors.yaml", "--on", "cluster", "--run-id", "visitors", "-o", "runs"])
            .args(["--agent-image", images::AGENT, "--api-server-for-vault"])
            .arg(format!("https://{}-control-plane:6443", CLUSTER))
            .args(args)
            .current_dir(self.path())
            .stdin(std::process::Stdio::null())
            .env("KUBECONFIG", kubeconfig)
            .env("VAULT_ADDR", format!("https://{}:8200", self.vault.ip()))
            .env("VAULT_CACERT", self.path().join("ca.crt"))
            .env("VAULT_TOKEN", "visiting")
            .env("ALERTSTORM_POSTGRES", format!("dba@{}:5432?sslmode=disable", self.postgres.ip()))
            .env("PGPASSWORD", "visiting")
            .output()
            .expect("alertstorm")
    }
}

fn printed(done: &Output) -> String {
    String::from_utf8_lossy(&done.stderr).into_owned()
}

fn kubectl(args: &[&str]) -> String {
    let node = format!("{}-control-plane", CLUSTER);
    let kubectl = ["exec", &node, "kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf"];
    docker(&kubectl.into_iter().chain(args.iter().copied()).collect::<Vec<_>>())
}

#[test]
#[ignore = "needs Docker, kind and the image of `alertstorm setup kind`"]
fn a_run_asks_before_it_uses_a_cluster_and_leaves_it_as_it_was() {
    let _reserved = reserve_cluster();
    create_cluster();
    let visitor = Place::new();
    let kubeconfig = visitor.write("config", &visitor.kubeconfig);
    // Until both servers answer.
    thread::sleep(Duration::from_secs(5));

    let asked = visitor.run(&kubeconfig, &[]);
    assert_eq!(asked.status.code(), Some(3), "{}", printed(&asked));
    assert!(printed(&asked).contains("Namespace alertstorm-visitors"), "{}", printed(&asked));
    assert!(printed(&asked).contains("nothing was written"), "{}", printed(&asked));
    assert!(printed(&asked).contains("are not encrypted"), "{}", printed(&asked));
    assert!(printed(&asked).contains("may connect to the databases postgres"));
    assert_eq!(kubectl(&["get", "namespace", "alertstorm-visitors", "--ignore-not-found"]), "");

    let production = visitor.kubeconfig.replace("kind-alertstorm-test", "acme-prod-eu");
    let production = visitor.write("production", &production);
    let refused = visitor.run(&production, &["--yes"]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(printed(&refused).contains("looks like production"), "{}", printed(&refused));

    // The default ServiceAccount of a namespace has no rights.
    let token = kubectl(&["create", "token", "default"]);
    let user = "  user:\n    token: ".to_owned() + &token + "\n";
    let (before, _) = visitor.kubeconfig.split_once("  user:\n").expect("a user");
    let nobody = visitor.write("nobody", &(before.to_owned() + &user));
    let refused = visitor.run(&nobody, &["--yes"]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(printed(&refused).contains("lacks these rights"), "{}", printed(&refused));
    assert!(printed(&refused).contains("create serviceaccounts/token in alertstorm-visitors"));

    // Production is used if it is named. Its load is generated in the cluster.
    let image = shard_image();
    let args = ["--yes", "--context", "acme-prod-eu", "--priority-level", "workload-low"];
    let shards = ["--shards", "2", "--shard-image", &image];
    let done = visitor.run(&production, &[&args[..], &shards].concat());
    assert!(matches!(done.status.code(), Some(0 | 1 | 4)), "{}", printed(&done));
    let text = fs::read_to_string(visitor.path().join("runs/visitors-1-1/report.json"));
    let report: Value = serde_json::from_str(&text.expect("a report")).expect("JSON");
    assert_eq!(report["provider"], "cluster");
    assert_eq!(report["accounting"]["finished"], 8, "{report:#}");
    assert_eq!(report["leases"]["active"], 0);
    // A slow harness is due to the shared machine, and breaks no promise.
    let late = |why: &Value| why.as_str().is_some_and(|why| why.starts_with("the harness was"));
    let invalid = report["invalid"].as_array().expect("reasons");
    assert!(invalid.iter().all(late), "{invalid:?}");
    let denied = report["audited"]["denials"]["vault_policy"].clone();
    assert_eq!(
        denied[1],
        Value::Null,
        "the audit trail of a server that is not ours is not read: {denied}"
    );

    // Nothing is left in the cluster, in Vault or in PostgreSQL.
    assert_eq!(kubectl(&["get", "namespace", "alertstorm-visitors", "--ignore-not-found"]), "");
    let ours = "--selector=app.kubernetes.io/managed-by=alertstorm";
    let kinds = "clusterroles,clusterrolebindings,flowschemas";
    assert_eq!(kubectl(&["get", kinds, ours, "--output=name"]), "");
    for what in ["secrets list", "auth list", "policy list"] {
        let env = format!("VAULT_ADDR={INSIDE}");
        let exec = ["exec", "--env", &env, "--env", "VAULT_TOKEN=visiting", &visitor.vault.0];
        let args: Vec<&str> = exec.into_iter().chain(["vault"]).chain(what.split(' ')).collect();
        assert!(!docker(&args).contains("alertstorm"), "{what}");
    }
    let query = "SELECT rolname FROM pg_roles WHERE rolname LIKE 'alertstorm%' OR rolname LIKE 'v-%' \
                 UNION SELECT datname FROM pg_database WHERE datname LIKE 'alertstorm%'";
    let psql = ["psql", "-h", "/tmp", "-U", "dba", "-d", "postgres", "-tAc", query];
    assert_eq!(visitor.postgres.exec(&psql), "");
}
