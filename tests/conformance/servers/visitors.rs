//! Runs on servers that are not their own. A local platform stands for somebody else's cluster, Vault
//! and PostgreSQL; the runs have the rights of `kind-config/least`, and no others.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use alertstorm_agent::postgres::{Address, Login, connect};
use alertstorm_agent::vault::Vault;
use alertstorm_platform::connection::Lanes;
use alertstorm_platform::provider::Provider;
use alertstorm_platform::provider::local::Local;
use alertstorm_platform::{Client, Platform, RunId, call, objects};
use serde_json::{Value, json};

use super::{pods, rights};
use crate::common::{self, root};

/// Long enough for every wait here, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

const SCENARIO: &str = "name: visitors
alerts: [{flood: 8, over: 40s, mix: {network: 1, database: 1, application: 1, security: 1}}]
agents: busy.yaml
phase: limited-write
controller: {job: {ttl_after_finished: 5s}}
vault: {secrets: {network: {engine: pki, ttl: 20s}, database: {engine: postgresql, ttl: 20s},
                  application: {engine: kubernetes, ttl: 600s}}}
";

/// The servers, an administrator's access to them, and what a visitor gets.
struct Visited {
    runtime: tokio::runtime::Runtime,
    folder: tempfile::TempDir,
    local: Arc<Local>,
    platform: Platform,
    /// Vault's token of the visitors.
    token: String,
}

impl Visited {
    fn new() -> Self {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let folder = tempfile::tempdir().expect("a folder");
        let profile = root().join("tests/conformance/profiles/busy.yaml");
        fs::copy(profile, folder.path().join("busy.yaml")).expect("the profile");
        fs::write(folder.path().join("visitors.yaml"), SCENARIO).expect("the scenario");
        let plan = common::plan(SCENARIO.replace("busy.yaml", "profiles/busy.yaml").as_str(), &[]);
        let (local, platform, token) = runtime.block_on(async {
            let local = Local::start(plan.scenario(), false, &|_: &str| {}).await;
            let local = Arc::new(local.unwrap_or_else(|error| panic!("{error}")));
            let platform = local.platform().expect("a platform");
            let token = grant(&local, &platform).await;
            tokio::spawn(pods::run(platform.clone(), folder.path().to_owned()));
            (local, platform, token)
        });
        let this = Self { runtime, folder, local, platform, token };
        this.write_kubeconfig();
        this.wait_for_admission();
        this
    }

    /// The API server takes notice of a new ValidatingAdmissionPolicy some seconds later.
    fn wait_for_admission(&self) {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "theirs", "labels": {"alertstorm.dev/run": "theirs"}}});
        let token = self.harness_token();
        self.runtime.block_on(async {
            let client = self.harness(&token);
            let until = Instant::now() + PATIENCE;
            let path = "/api/v1/namespaces?dryRun=All";
            while objects::post(&client, path, &namespace).await.is_ok() {
                assert!(Instant::now() < until, "the policy has no effect");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn vault(&self) -> Vault {
        self.local.vault().expect("a client")
    }

    /// The harness's kubeconfig: its ServiceAccount's token.
    fn write_kubeconfig(&self) {
        let token = self.harness_token();
        let ca = self.path().join("ca.crt");
        fs::write(&ca, &self.platform.ca).expect("the CA");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "visited",
            "clusters": [{"name": "visited", "cluster": {
                "server": self.platform.api_server, "certificate-authority": ca,
            }}],
            "users": [{"name": "harness", "user": {"token": token}}],
            "contexts": [{"name": "visited", "context": {"cluster": "visited", "user": "harness"}}],
        });
        fs::write(self.path().join("config"), config.to_string()).expect("the kubeconfig");
    }

    fn harness_token(&self) -> String {
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
                             "spec": {"audiences": [], "expirationSeconds": 3600}});
        let path = "/api/v1/namespaces/alertstorm/serviceaccounts/harness/token";
        let answer = self.runtime.block_on(objects::post(&self.platform.admin, path, &request));
        answer.expect("a token")["status"]["token"].as_str().expect("a token").to_owned()
    }

    /// A client of the API server with the harness's token.
    fn harness(&self, token: &str) -> Client {
        let tls = alertstorm_agent::trust::only(&self.platform.ca).expect("a CA");
        let lanes = Lanes::new("test", &self.platform.api_server, &tls, 1).expect("an address");
        lanes.client("test", token, "default").expect("a client")
    }

    fn command(&self, args: &[&str]) -> Command {
        let (at, user, password) = self.local.postgres_admin();
        let mut command = Command::new(env!("CARGO_BIN_EXE_alertstorm"));
        command
            .args(args)
            .current_dir(self.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .env("KUBECONFIG", self.path().join("config"))
            .env("VAULT_ADDR", &self.platform.vault.url)
            .env("VAULT_CACERT", self.path().join("ca.crt"))
            .env("VAULT_TOKEN", &self.token)
            .env("ALERTSTORM_POSTGRES", format!("{user}@{at}"))
            .env("PGPASSWORD", password);
        command
    }

    /// Starts a run; the run `one` with an identity per investigation, others with a shared one.
    fn run(&self, id: &str) -> Child {
        let identity = if id == "one" { "per-investigation" } else { "shared-agent" };
        let set = format!("identity={identity}");
        let args = ["run", "visitors.yaml", "--on", "cluster", "--yes", "--run-id", id, "-o", id];
        self.command(&args)
            .args(["--set", &set, "--agent-image=agent"])
            .spawn()
            .expect("alertstorm")
    }

    fn output(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("alertstorm")
    }

    fn report(&self, id: &str) -> Value {
        let path = self.path().join(id).join("visitors-1-1/report.json");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        serde_json::from_str(&text).expect("JSON")
    }

    fn create(&self, path: &str, object: &Value) {
        let done = self.runtime.block_on(objects::post(&self.platform.admin, path, object));
        done.unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    fn get(&self, path: &str) -> Option<Value> {
        self.runtime.block_on(objects::get(&self.platform.admin, path)).expect("an answer")
    }

    fn write_vault(&self, path: &str, body: Value) {
        self.runtime.block_on(self.vault().write(path, body)).expect(path);
    }

    fn sql(&self, statement: &str) -> Vec<String> {
        let (at, user, password) = self.local.postgres_admin();
        let to = &Address::plain(at);
        self.runtime.block_on(async {
            let (user, password) = (user.as_str(), Some(password.as_str()));
            let login = Login { to, from: None, user, password, database: "postgres" };
            let client = connect(login).await.expect("a login");
            let rows = client.query(statement, &[]).await;
            let rows = rows.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
            rows.iter().map(|row| row.get(0)).collect()
        })
    }

    /// The name of everything that exists outside of namespaces and belongs to a run, a dead one or a
    /// stranger: all that begins with `alertstorm`.
    fn everything(&self) -> Vec<String> {
        let mut all = Vec::new();
        for kind in ["Namespace", "ClusterRole", "ClusterRoleBinding", "FlowSchema"] {
            let list = self.get(&objects::collection(kind, "")).expect("a list");
            let names = list["items"].as_array().expect("items").iter();
            let names = names.map(|item| item["metadata"]["name"].as_str().expect("a name"));
            all.extend(names.map(|name| format!("{kind} {name}")));
        }
        let vault = self.vault();
        self.runtime.block_on(async {
            for path in ["sys/mounts", "sys/auth"] {
                let answer = vault.read(path).await.expect(path);
                let mounts = answer.data.as_object().expect("mounts").keys();
                all.extend(mounts.map(|mount| format!("{path} {mount}")));
            }
            let policies = vault.list("sys/policies/acl").await.expect("policies");
            all.extend(policies.into_iter().map(|name| format!("policy {name}")));
        });
        all.extend(self.sql("SELECT 'role ' || rolname FROM pg_roles"));
        all.extend(self.sql("SELECT 'database ' || datname FROM pg_database"));
        all.retain(|name| name.contains("alertstorm") || name.starts_with("role v-"));
        all.sort_unstable();
        all
    }

    /// Waits until the run of this id has a namespace, and its agents have begun.
    fn wait_until_busy(&self, id: &str) {
        let until = Instant::now() + PATIENCE;
        let events = self.path().join(id).join("visitors-1-1/events.jsonl");
        while !fs::read_to_string(&events).unwrap_or_default().contains("job_created") {
            assert!(Instant::now() < until, "the run {id} did not begin");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Objects of another owner under the names of the run `id`; their paths at the API server.
    fn plant(&self, id: &str, marker: &str, labels: &Value) -> Vec<String> {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": format!("alertstorm-{id}"), "labels": labels}});
        self.create("/api/v1/namespaces", &namespace);
        let roles = objects::collection("ClusterRole", "");
        let name = format!("alertstorm-{id}-scraper");
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": name, "labels": labels}, "rules": []});
        self.create(&roles, &role);
        let kv = json!({"type": "kv", "description": marker});
        self.write_vault(&format!("sys/mounts/alertstorm-{id}/network"), kv);
        self.write_vault(&format!("alertstorm-{id}/network/kept"), json!({"secret": id}));
        let auth = json!({"type": "kubernetes", "description": marker});
        self.write_vault(&format!("sys/auth/alertstorm-{id}-kubernetes"), auth);
        let policy = format!("# {marker}\npath \"secret/*\" {{ capabilities = [\"read\"] }}\n");
        let name = format!("alertstorm-{id}-agent-limited-write-network");
        self.write_vault(&format!("sys/policies/acl/{name}"), json!({"policy": policy}));
        self.sql(&format!("CREATE ROLE alertstorm_{id}_reads NOLOGIN"));
        self.sql(&format!("COMMENT ON ROLE alertstorm_{id}_reads IS '{marker}'"));
        self.sql(&format!("CREATE DATABASE alertstorm_{id}"));
        self.sql(&format!("COMMENT ON DATABASE alertstorm_{id} IS '{marker}'"));
        vec![
            format!("/api/v1/namespaces/alertstorm-{id}"),
            format!("{roles}/alertstorm-{id}-scraper"),
        ]
    }
}

impl Drop for Visited {
    fn drop(&mut self) {
        if let Err(error) = self.runtime.block_on(self.local.end()) {
            assert!(std::thread::panicking(), "{error}");
        }
        // Its handles must be dropped inside the runtime.
        let _within = self.runtime.enter();
    }
}

/// Applies the files of `kind-config/least`, as an administrator does; Vault's token of the harness.
async fn grant(local: &Local, platform: &Platform) -> String {
    let least = root().join("kind-config/least");
    for file in ["rbac.yaml", "admission.yaml"] {
        let text = fs::read_to_string(least.join(file)).expect(file);
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text).expect(file);
        for object in documents {
            let (kind, _) = objects::kind_and_name(&object);
            let admission = "/apis/admissionregistration.k8s.io/v1";
            let path = match kind {
                "ValidatingAdmissionPolicy" => format!("{admission}/validatingadmissionpolicies"),
                "ValidatingAdmissionPolicyBinding" => {
                    format!("{admission}/validatingadmissionpolicybindings")
                }
                kind => objects::collection(kind, "alertstorm"),
            };
            let done = objects::post(&platform.admin, &path, &object).await;
            done.unwrap_or_else(|error| panic!("{path}: {error}"));
        }
    }
    let vault = local.vault().expect("a client");
    let trail = json!({"type": "file", "options": {"file_path": platform.trails.vault}});
    vault.write("sys/audit/trail", trail).await.expect("a trail");
    let policy = fs::read_to_string(least.join("vault-policy.hcl")).expect("the policy");
    let path = "sys/policies/acl/load-test-harness";
    vault.write(path, json!({"policy": policy})).await.expect("the policy");
    let role = json!({"policies": ["load-test-harness"], "no_default_policy": true, "ttl": "1h"});
    let answer = vault.write("auth/token/create-orphan", role).await.expect("a token");
    answer.token.expect("a token").secret
}

fn printed(done: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr))
}

fn ended(child: Child) -> Output {
    child.wait_with_output().expect("an end")
}

/// A run is complete, and a slow harness, due to the shared machine, is its only fault.
fn is_complete(report: &Value) {
    assert_eq!(report["provider"], "cluster");
    assert_eq!(report["accounting"]["finished"], 8, "{report:#}");
    assert_eq!(report["leases"]["active"], 0, "{report:#}");
    assert!(report["leases"]["issued"].as_u64().is_some_and(|issued| issued > 0), "{report:#}");
    let late = |why: &Value| why.as_str().is_some_and(|why| why.starts_with("the harness was"));
    let invalid = report["invalid"].as_array().expect("reasons");
    assert!(invalid.iter().all(late), "{invalid:?}");
    // A request that lacks a right would be in a remark, if nowhere else.
    let denied = |remark: &Value| {
        remark.as_str().is_some_and(|text| text.contains("denies") || text.contains("403"))
    };
    let remarks = report["remarks"].as_array().expect("remarks");
    assert!(!remarks.iter().any(denied), "{remarks:?}");
}

/// Both runs share the API server, Vault and PostgreSQL, and have the published rights only. In the
/// meantime somebody cleans up after a run that was killed.
#[test]
#[ignore = "needs the servers of `alertstorm setup local`"]
fn two_runs_with_the_least_rights_and_a_clean_up_share_servers_and_leave_nothing_behind() {
    let visited = Visited::new();
    let before = visited.everything();
    let labels =
        |id: &str| json!({"app.kubernetes.io/managed-by": "alertstorm", "alertstorm.dev/run": id});
    let uid = visited.get("/api/v1/namespaces/kube-system").expect("it")["metadata"]["uid"].clone();
    let marker = format!("alertstorm run dead cluster {}", uid.as_str().expect("a uid"));
    visited.plant("dead", &marker, &labels("dead"));
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "alertstorm"},
        "spec": {"holderIdentity": "killed", "leaseDurationSeconds": 60,
                 "renewTime": "2026-01-01T00:00:00.000000Z"},
    });
    visited.create(&objects::collection("Lease", "alertstorm-dead"), &lease);

    let runs = [("one", visited.run("one")), ("two", visited.run("two"))];
    visited.wait_until_busy("one");
    visited.wait_until_busy("two");
    let clean = |args: &[&str]| {
        let args = [&["clean", "--on", "cluster"], args].concat();
        visited.command(&args).spawn().expect("alertstorm")
    };
    let named = clean(&["--yes", "--run", "one"]);
    let only = clean(&["--dry-run"]);
    let again = ended(visited.run("one"));
    assert_eq!(again.status.code(), Some(3), "{}", printed(&again));
    assert!(printed(&again).contains("marked as the run one's"), "{}", printed(&again));
    let (named, only) = (ended(named), ended(only));
    assert_eq!(named.status.code(), Some(3), "{}", printed(&named));
    assert!(printed(&named).contains("the run one is alive"), "{}", printed(&named));
    assert!(printed(&only).contains("Namespace alertstorm-dead"), "{}", printed(&only));
    assert!(visited.get("/api/v1/namespaces/alertstorm-dead").is_some(), "{}", printed(&only));
    let cleaned = visited.output(&["clean", "--on", "cluster", "--yes"]);
    assert_eq!(cleaned.status.code(), Some(0), "{}", printed(&cleaned));
    for (id, run) in runs {
        let done = ended(run);
        assert!(matches!(done.status.code(), Some(0 | 1 | 4)), "{id}: {}", printed(&done));
        is_complete(&visited.report(id));
    }
    assert!(printed(&cleaned).contains("removed: Kubernetes: Namespace alertstorm-dead"));
    assert_eq!(visited.everything(), before);
    let log = visited.platform.trails.api_server.clone().expect("an audit log");
    let unused = rights::unused(&log, &["alertstorm", "alertstorm-one", "alertstorm-two"]);
    assert_eq!(unused, Vec::<String>::new());
    let log = visited.platform.trails.vault.clone().expect("an audit trail");
    let unused = rights::unused_in_vault(&log, "load-test-harness");
    assert_eq!(unused, Vec::<String>::new());
}

#[test]
#[ignore = "needs the servers of `alertstorm setup local`"]
fn objects_of_somebody_else_under_a_runs_names_are_refused_together_and_stay_as_they_are() {
    let visited = Visited::new();
    // In Vault and PostgreSQL they are those of a run of this id in another cluster.
    let marker = "alertstorm run taken cluster another";
    let paths = visited.plant("taken", marker, &json!({"owner": "a-stranger"}));
    let before = (visited.everything(), paths.iter().map(|p| visited.get(p)).collect::<Vec<_>>());
    let dry = ["run", "visitors.yaml", "--on", "cluster", "--dry-run", "--run-id", "taken"];
    let dry = [&dry[..], &["--agent-image=agent"]].concat();
    let dry = visited.output(&dry);
    let refused = ended(visited.run("taken"));
    let cleaned = visited.output(&["clean", "--on", "cluster", "--yes", "--run", "taken"]);
    for done in [&dry, &refused] {
        assert_eq!(done.status.code(), Some(3), "{}", printed(done));
        for foreign in [
            "Kubernetes: Namespace alertstorm-taken",
            "Kubernetes: ClusterRole alertstorm-taken-scraper",
            "Vault: sys/mounts/alertstorm-taken/network",
            "Vault: sys/auth/alertstorm-taken-kubernetes",
            "Vault: sys/policies/acl/alertstorm-taken-agent-limited-write-network",
            "PostgreSQL: role alertstorm_taken_reads",
            "PostgreSQL: database alertstorm_taken",
        ] {
            assert!(printed(done).contains(&format!("{foreign}: it is not marked")), "{foreign}");
        }
        assert!(printed(done).contains("nothing was written"), "{}", printed(done));
    }
    assert!(printed(&dry).contains("  create  Vault: sys/mounts/alertstorm-taken/database"));
    assert!(printed(&dry).contains("  foreign Vault: sys/mounts/alertstorm-taken/network"));
    assert!(printed(&cleaned).contains("nothing was left behind"), "{}", printed(&cleaned));
    let after = (visited.everything(), paths.iter().map(|p| visited.get(p)).collect::<Vec<_>>());
    assert_eq!(after, before);
    let vault = visited.vault();
    let kept = visited.runtime.block_on(vault.read("alertstorm-taken/network/kept"));
    assert_eq!(kept.expect("the secret").data["secret"], "taken");
}

/// With the published files, the API server and Vault themselves refuse what would harm others.
#[test]
#[ignore = "needs the servers of `alertstorm setup local`"]
fn the_least_rights_do_not_reach_the_objects_of_others() {
    let visited = Visited::new();
    let labels = json!({"owner": "a-stranger"});
    let roles = objects::collection("ClusterRole", "");
    for name in ["alertstorm-theirs", "theirs"] {
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": name, "labels": labels}, "rules": []});
        visited.create(&roles, &role);
    }
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "theirs", "labels": {"alertstorm.dev/run": "theirs"}}});
    visited.create("/api/v1/namespaces", &namespace);
    let id: RunId = "mine".parse().expect("an id");
    let token = visited.harness_token();
    let refused: Vec<bool> = visited.runtime.block_on(async {
        let client = visited.harness(&token);
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
        let mut refused = Vec::new();
        for path in [
            format!("{roles}/alertstorm-theirs"),
            format!("{roles}/theirs"),
            format!("{roles}/alertstorm-harness"),
            "/api/v1/namespaces/theirs".to_owned(),
            "/api/v1/namespaces/kube-system".to_owned(),
        ] {
            let done = objects::delete_with(&client, &path, &options).await;
            refused.push(done.is_err_and(|error| call::is_refused(&error)));
        }
        // A namespace or a binding of another name, and more rights than it has.
        let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": "mine", "labels": {"alertstorm.dev/run": id.to_string()}},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
                        "name": "alertstorm-run"},
            "subjects": [{"kind": "ServiceAccount", "name": "harness", "namespace": "alertstorm"}]});
        let rules = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]);
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": "alertstorm-mine", "labels": {"alertstorm.dev/run": "mine"}},
            "rules": rules});
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "mine", "labels": {"alertstorm.dev/run": "mine"}}});
        for (path, object) in [
            (objects::collection("RoleBinding", "kube-system"), binding),
            (roles.clone(), role),
            ("/api/v1/namespaces".to_owned(), namespace),
        ] {
            let done = objects::post(&client, &path, &object).await;
            refused.push(done.is_err_and(|error| call::is_refused(&error)));
        }
        let secrets = objects::get(&client, "/api/v1/namespaces/kube-system/secrets").await;
        refused.push(secrets.is_err_and(|error| call::is_forbidden(&error)));
        refused
    });
    assert_eq!(refused, vec![true; 9]);
    let vault = visited.local.vault().expect("a client");
    visited.runtime.block_on(async {
        let mut theirs = Vault::new(&visited.platform.vault, None, "").expect("a client");
        theirs.set_token(&visited.token);
        vault.write("sys/mounts/theirs", json!({"type": "kv"})).await.expect("a mount");
        for path in ["sys/mounts/theirs", "sys/policies/acl/load-test-harness", "sys/auth/token"] {
            let denied = theirs.delete(path).await;
            assert!(denied.is_err(), "{path}");
        }
        assert!(theirs.read("theirs/secret").await.is_err());
        assert!(
            theirs
                .write("sys/policies/acl/load-test-harness", json!({"policy": ""}))
                .await
                .is_err()
        );
    });
}
