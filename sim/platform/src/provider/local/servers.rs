//! The command of each server: its flags, files and environment. The scenario's knobs become flags
//! here.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use alertstorm_model::scenario::Scenario;
use alertstorm_model::scenario::knobs::{Flags, VaultStorage};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::assets::Assets;
use super::ca::Certificates;
use super::process::Spec;
use crate::identity::node_name;
use crate::provider::state::write_private;
use crate::provider::{Program, secret};

/// The issuer of ServiceAccount tokens.
pub const ISSUER: &str = "https://kubernetes.default.svc";
/// Minimum number of node identities, so that a kept platform can be used with more nodes later.
const NODES_AT_LEAST: u32 = 200;

/// The ports of a platform, all on 127.0.0.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// kube-apiserver.
    pub api_server: u16,
    /// etcd's clients.
    pub etcd: u16,
    /// etcd's peers. There are none, but the flag is required.
    pub etcd_peer: u16,
    /// etcd's metrics.
    pub etcd_metrics: u16,
    /// kube-controller-manager's metrics.
    pub controller_manager: u16,
    /// kube-scheduler's metrics.
    pub scheduler: u16,
    /// Vault.
    pub vault: u16,
    /// Vault's cluster port.
    pub vault_cluster: u16,
    /// PostgreSQL.
    pub postgres: u16,
}

impl Ports {
    /// Free ports. All are bound until the last is found, so that they differ.
    ///
    /// # Errors
    /// If a port cannot be bound.
    pub fn free() -> io::Result<Self> {
        let held: Vec<std::net::TcpListener> =
            (0..9).map(|_| std::net::TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
        let port = |n: usize| held[n].local_addr().map(|address| address.port());
        Ok(Self {
            api_server: port(0)?,
            etcd: port(1)?,
            etcd_peer: port(2)?,
            etcd_metrics: port(3)?,
            controller_manager: port(4)?,
            scheduler: port(5)?,
            vault: port(6)?,
            vault_cluster: port(7)?,
            postgres: port(8)?,
        })
    }
}

/// The secrets of a platform. They are stored in files with mode 0600 only.
#[derive(Clone, Serialize, Deserialize)]
pub struct Secrets {
    /// Token of the cluster administrator, with which a run is set up.
    pub admin: String,
    /// Token of the investigation controller.
    pub backend: String,
    /// Token of the reader of metrics.
    pub scraper: String,
    /// Token of Vault, for TokenReviews and ServiceAccount tokens.
    pub vault_reviewer: String,
    controller_manager: String,
    scheduler: String,
    /// Tokens of the nodes, by number.
    pub nodes: Vec<String>,
    /// Password of PostgreSQL's superuser.
    pub postgres_admin: String,
    /// Initial password of Vault's user of PostgreSQL.
    pub postgres_vault: String,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "secrets of a platform with {} nodes", self.nodes.len())
    }
}

impl Secrets {
    /// Random secrets for at least `nodes` nodes.
    pub fn random(nodes: u32) -> Self {
        Self {
            admin: secret::token(),
            backend: secret::token(),
            scraper: secret::token(),
            vault_reviewer: secret::token(),
            controller_manager: secret::token(),
            scheduler: secret::token(),
            nodes: (0..nodes.max(NODES_AT_LEAST)).map(|_| secret::token()).collect(),
            postgres_admin: secret::token(),
            postgres_vault: secret::token(),
        }
    }

    /// Every one of them.
    pub(super) fn all(&self) -> Vec<String> {
        let Self {
            admin,
            backend,
            scraper,
            vault_reviewer,
            controller_manager,
            scheduler,
            nodes,
            postgres_admin,
            postgres_vault,
        } = self;
        let named = [
            admin,
            backend,
            scraper,
            vault_reviewer,
            controller_manager,
            scheduler,
            postgres_admin,
            postgres_vault,
        ];
        named.into_iter().chain(nodes).cloned().collect()
    }

    /// Text of the API server's static token file: token, user, uid, groups.
    fn token_file(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        for (token, user, groups) in [
            (&self.admin, "alertstorm:admin", "system:masters"),
            (&self.backend, "alertstorm:backend", ""),
            (&self.scraper, "alertstorm:scraper", ""),
            (&self.vault_reviewer, "alertstorm:vault", ""),
            (&self.controller_manager, "system:kube-controller-manager", ""),
            (&self.scheduler, "system:kube-scheduler", ""),
        ] {
            let _ = writeln!(text, "{token},{user},{user},\"{groups}\"");
        }
        for (n, token) in self.nodes.iter().enumerate() {
            let name = node_name(n);
            let _ = writeln!(text, "{token},system:node:{name},{name},\"system:nodes\"");
        }
        text
    }
}

/// Paths and ports of a platform.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The platform's folder.
    pub root: PathBuf,
    /// Certificates, tokens and configurations.
    pub private: PathBuf,
    /// Output of the servers, and audit trails.
    pub logs: PathBuf,
    /// Certificates.
    pub certificates: Certificates,
    /// Ports.
    pub ports: Ports,
}

impl Layout {
    /// Vault's audit trail.
    pub fn vault_audit(&self) -> PathBuf {
        self.logs.join("vault-audit.log")
    }

    /// The API server's audit trail.
    pub fn api_audit(&self) -> PathBuf {
        self.logs.join("api-audit.log")
    }

    /// The output of a server.
    pub fn log(&self, program: Program) -> PathBuf {
        self.logs.join(format!("{}.log", program.file()))
    }

    /// The administrator's kubeconfig.
    pub fn admin(&self) -> PathBuf {
        self.private.join("admin.kubeconfig")
    }

    /// The URL of the API server.
    pub fn api_server(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports.api_server)
    }

    /// The URL of Vault.
    pub fn vault(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports.vault)
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// The scenario's flags as `--name=value`.
fn extra(flags: &Flags) -> impl Iterator<Item = String> {
    flags.iter().map(|(name, value)| format!("--{name}={}", value.0))
}

/// Writes the files of all servers except PostgreSQL; their commands, in the order of their start.
///
/// # Errors
/// If a file cannot be written.
pub fn specs(
    scenario: &Scenario,
    layout: &Layout,
    assets: &Assets,
    secrets: &Secrets,
) -> io::Result<Vec<(Program, Spec)>> {
    write_private(&layout.private.join("tokens.csv"), secrets.token_file().as_bytes())?;
    let policy = include_str!("../../../../../kind-config/audit-policy.yaml");
    write_private(&layout.private.join("audit-policy.yaml"), policy.as_bytes())?;
    write_private(&layout.admin(), kubeconfig_text(layout, &secrets.admin)?.as_bytes())?;
    let mut specs = vec![
        (Program::Etcd, etcd(scenario, layout, assets)?),
        (Program::ApiServer, api_server(scenario, layout, assets)),
        (Program::Vault, vault(scenario, layout, assets)?),
    ];
    for (program, token) in [
        (Program::ControllerManager, &secrets.controller_manager),
        (Program::Scheduler, &secrets.scheduler),
    ] {
        specs.push((program, client(program, token, scenario, layout, assets)?));
    }
    Ok(specs)
}

fn spec(program: Program, args: Vec<String>, layout: &Layout, assets: &Assets) -> Spec {
    let path = assets.path(program).to_owned();
    Spec { path, args, env: Vec::new(), user: None, log: layout.log(program) }
}

fn etcd(scenario: &Scenario, layout: &Layout, assets: &Assets) -> io::Result<Spec> {
    let knobs = &scenario.cluster.control_plane.etcd;
    let (files, ports) = (&layout.certificates, layout.ports);
    let data = layout.root.join("etcd");
    fs::DirBuilder::new().recursive(true).create(&data)?;
    let client = format!("https://127.0.0.1:{}", ports.etcd);
    let peer = format!("https://127.0.0.1:{}", ports.etcd_peer);
    let mut args = vec![
        "--name=local".to_owned(),
        format!("--data-dir={}", data.join("data").display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=local={peer}"),
        format!("--listen-metrics-urls=http://127.0.0.1:{}", ports.etcd_metrics),
        "--client-cert-auth".to_owned(),
        "--peer-client-cert-auth".to_owned(),
        format!("--quota-backend-bytes={}", knobs.quota.0),
        "--log-level=warn".to_owned(),
    ];
    for side in ["", "peer-"] {
        args.push(format!("--{side}cert-file={}", text(&files.server)));
        args.push(format!("--{side}key-file={}", text(&files.server_key)));
        args.push(format!("--{side}trusted-ca-file={}", text(&files.ca)));
    }
    args.extend(extra(&knobs.flags));
    Ok(spec(Program::Etcd, args, layout, assets))
}

fn api_server(scenario: &Scenario, layout: &Layout, assets: &Assets) -> Spec {
    let plane = &scenario.cluster.control_plane;
    let knobs = &plane.apiserver;
    let files = &layout.certificates;
    let private = |name: &str| text(&layout.private.join(name));
    let mut args = vec![
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        // An endpoint of a service may not have a loopback address.
        "--endpoint-reconciler-type=none".to_owned(),
        format!("--secure-port={}", layout.ports.api_server),
        format!("--tls-cert-file={}", text(&files.server)),
        format!("--tls-private-key-file={}", text(&files.server_key)),
        format!("--etcd-servers=https://127.0.0.1:{}", layout.ports.etcd),
        format!("--etcd-cafile={}", text(&files.ca)),
        format!("--etcd-certfile={}", text(&files.etcd_client)),
        format!("--etcd-keyfile={}", text(&files.etcd_client_key)),
        format!("--etcd-compaction-interval={}s", plane.etcd.compaction_interval.0 / 1_000_000_000),
        format!("--service-account-issuer={ISSUER}"),
        format!("--service-account-key-file={}", text(&files.service_accounts_public)),
        format!("--service-account-signing-key-file={}", text(&files.service_accounts)),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--anonymous-auth=false".to_owned(),
        "--profiling=false".to_owned(),
        format!("--token-auth-file={}", private("tokens.csv")),
        format!("--audit-policy-file={}", private("audit-policy.yaml")),
        format!("--audit-log-path={}", text(&layout.api_audit())),
        // In MB; by default the audit log is rotated at 100.
        "--audit-log-maxsize=100000".to_owned(),
        format!("--max-requests-inflight={}", knobs.max_requests_inflight),
        format!("--max-mutating-requests-inflight={}", knobs.max_mutating_requests_inflight),
    ];
    args.extend(extra(&knobs.flags));
    spec(Program::ApiServer, args, layout, assets)
}

/// kube-controller-manager or kube-scheduler, with their client-side rate limits.
fn client(
    program: Program,
    token: &str,
    scenario: &Scenario,
    layout: &Layout,
    assets: &Assets,
) -> io::Result<Spec> {
    let plane = &scenario.cluster.control_plane;
    let files = &layout.certificates;
    let kubeconfig = layout.private.join(format!("{}.kubeconfig", program.file()));
    write_private(&kubeconfig, kubeconfig_text(layout, token)?.as_bytes())?;
    let kubeconfig = text(&kubeconfig);
    let mut args: Vec<String> =
        ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"]
            .iter()
            .map(|flag| format!("--{flag}={kubeconfig}"))
            .collect();
    args.extend([
        "--bind-address=127.0.0.1".to_owned(),
        format!("--tls-cert-file={}", text(&files.server)),
        format!("--tls-private-key-file={}", text(&files.server_key)),
        "--leader-elect=false".to_owned(),
        "--profiling=false".to_owned(),
    ]);
    let (qps, burst, flags) = if program == Program::ControllerManager {
        let knobs = &plane.controller_manager;
        args.extend([
            format!("--secure-port={}", layout.ports.controller_manager),
            format!("--root-ca-file={}", text(&files.ca)),
            // Each controller uses its own ServiceAccount, with the rights of upstream's RBAC.
            "--use-service-account-credentials=true".to_owned(),
            format!("--service-account-private-key-file={}", text(&files.service_accounts)),
            format!("--concurrent-job-syncs={}", knobs.concurrent_job_syncs),
            format!("--concurrent-ttl-after-finished-syncs={}", knobs.concurrent_ttl_syncs),
            format!("--concurrent-gc-syncs={}", knobs.concurrent_gc_syncs),
            format!(
                "--node-monitor-grace-period={}s",
                knobs.node_monitor_grace_period.0 / 1_000_000_000
            ),
        ]);
        (knobs.kube_api_qps.0, knobs.kube_api_burst.get(), &knobs.flags)
    } else {
        let knobs = &plane.scheduler;
        args.push(format!("--secure-port={}", layout.ports.scheduler));
        (knobs.kube_api_qps.0, knobs.kube_api_burst.get(), &knobs.flags)
    };
    args.extend([format!("--kube-api-qps={qps}"), format!("--kube-api-burst={burst}")]);
    args.extend(extra(flags));
    Ok(spec(program, args, layout, assets))
}

fn kubeconfig_text(layout: &Layout, token: &str) -> io::Result<String> {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "local", "cluster": {
            "server": layout.api_server(),
            "certificate-authority": text(&layout.certificates.ca),
        }}],
        "users": [{"name": "own", "user": {"token": token}}],
        "contexts": [{"name": "local", "context": {"cluster": "local", "user": "own"}}],
        "current-context": "local",
    });
    // JSON is YAML.
    serde_json::to_string_pretty(&config).map_err(io::Error::from)
}

fn vault(scenario: &Scenario, layout: &Layout, assets: &Assets) -> io::Result<Spec> {
    let knobs = &scenario.vault;
    let files = &layout.certificates;
    let storage = match knobs.storage {
        VaultStorage::Inmem => json!({"inmem": {}}),
        VaultStorage::Raft => {
            let data = layout.private.join("vault");
            fs::DirBuilder::new().recursive(true).create(&data)?;
            json!({"raft": {"path": text(&data), "node_id": "local"}})
        }
    };
    let cluster = format!("127.0.0.1:{}", layout.ports.vault_cluster);
    let config = json!({
        "storage": storage,
        "listener": [{"tcp": {
            "address": format!("127.0.0.1:{}", layout.ports.vault),
            "cluster_address": cluster,
            "tls_cert_file": text(&files.server),
            "tls_key_file": text(&files.server_key),
        }}],
        "api_addr": layout.vault(),
        "cluster_addr": format!("https://{cluster}"),
        "disable_mlock": true,
        "ui": false,
        "log_level": "warn",
        "telemetry": {"prometheus_retention_time": "24h", "disable_hostname": true},
    });
    let path = layout.private.join("vault.json");
    write_private(&path, &serde_json::to_vec_pretty(&config)?)?;
    let args = vec!["server".to_owned(), format!("-config={}", text(&path))];
    let mut spec = spec(Program::Vault, args, layout, assets);
    let workers = knobs.revocation_workers.to_string();
    spec.env.push(("VAULT_NUM_EXPIRATION_WORKERS", workers));
    Ok(spec)
}
