//! The cluster itself: creation with kind, and repair after a fault.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alertstorm_model::scenario::Scenario;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::config;
use super::error::KindError;
use crate::provider::Program;
use crate::provider::command::{CommandError, run};
use crate::provider::state::{Folder, write_private};

/// Name of this provider, and of the folder of its state.
pub(super) const NAME: &str = "kind";
/// Name of the folder of a run's private files, in the folder of its cluster.
pub(super) const PRIVATE: &str = "private";

/// A repair fails if the cluster is not ready by then.
const READY_WITHIN: Duration = Duration::from_secs(180);

/// How long `kind create cluster` waits for the nodes.
const WAIT: &str = "180s";

/// The control plane's static pods.
pub(super) const COMPONENTS: [Program; 4] =
    [Program::ApiServer, Program::Etcd, Program::ControllerManager, Program::Scheduler];

/// Options of the command line.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The cluster's name; an existing cluster is used and not deleted.
    pub name: Option<String>,
    /// The image of its nodes; `None` for kind's default.
    pub image: Option<String>,
    /// A kind configuration file, merged into the generated one.
    pub config: Option<PathBuf>,
    /// The image of the agent; `None` for that of `alertstorm setup kind`.
    pub agent_image: Option<String>,
    /// The image of the shards; `None` without shards.
    pub shard_image: Option<String>,
    /// Whether the cluster outlives the run.
    pub keep: bool,
}

pub(super) async fn clusters() -> Result<Vec<String>, CommandError> {
    let listed = run("kind", &["get", "clusters"]).await?;
    Ok(listed.lines().map(str::to_owned).collect())
}

/// Repairs a cluster after a fault that was not reverted: starts its nodes, moves the manifests of
/// the control plane back, and waits until all are ready.
pub(super) async fn repair(name: &str) -> Result<(), KindError> {
    let nodes = run("kind", &["get", "nodes", "--name", name]).await?;
    let nodes: Vec<&str> = nodes.split_whitespace().collect();
    let args: Vec<&str> = ["start"].into_iter().chain(nodes.iter().copied()).collect();
    run("docker", &args).await?;
    let control_plane = format!("{name}-control-plane");
    let files = COMPONENTS.map(|program| format!("/etc/kubernetes/{}.yaml", program.file()));
    let script = format!(
        "for file in {}; do [ ! -e $file ] || mv $file /etc/kubernetes/manifests/; done",
        files.join(" ")
    );
    run("docker", &["exec", &control_plane, "sh", "-c", &script]).await?;
    let until = Instant::now() + READY_WITHIN;
    let asked = ["exec", &control_plane, "kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf"];
    let health = |component: &str, port: u16| {
        let pod = format!("https:{component}-{control_plane}:{port}");
        format!("/api/v1/namespaces/kube-system/pods/{pod}/proxy/healthz")
    };
    // The status of a mirror pod may be stale, so the components are asked themselves.
    let manager = health("kube-controller-manager", 10257);
    let scheduler = health("kube-scheduler", 10259);
    let nodes = ["wait", "--for=condition=Ready", "--timeout=60s", "nodes", "--all"];
    for wait in [&["get", "--raw", &manager][..], &["get", "--raw", &scheduler], &nodes] {
        let args: Vec<&str> = asked.iter().chain(wait).copied().collect();
        while let Err(error) = run("docker", &args).await {
            if Instant::now() > until {
                return Err(error.into());
            }
            sleep(Duration::from_secs(1)).await;
        }
    }
    Ok(())
}

pub(super) fn read_config(path: &Path) -> Result<Value, KindError> {
    let wrong = |why: String| KindError::Config { path: path.to_owned(), why };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    serde_saphyr::from_str(&text).map_err(|error| wrong(error.to_string()))
}

pub(super) async fn create(
    scenario: &Scenario,
    name: &str,
    folder: &Folder,
    options: &Options,
    extra: Option<Value>,
) -> Result<(), KindError> {
    let trail = folder.path().join("trail");
    // Root inside the node's container writes into it.
    std::fs::DirBuilder::new().mode(0o711).create(&trail)?;
    let policy = include_str!("../../../../../kind-config/audit-policy.yaml");
    write_private(&trail.join(config::POLICY_FILE), policy.as_bytes())?;
    let file = folder.path().join("cluster.json");
    let cluster = config::cluster(scenario, &trail, extra);
    write_private(&file, &serde_json::to_vec_pretty(&cluster)?)?;
    let private = folder.private(PRIVATE)?;
    let (file, kubeconfig) = (file.display().to_string(), private.join("kubeconfig"));
    let kubeconfig = kubeconfig.display().to_string();
    let mut args = vec!["create", "cluster", "--name", name, "--config", &file];
    // kind would otherwise change the user's kubeconfig.
    args.extend(["--kubeconfig", &kubeconfig, "--wait", WAIT]);
    if let Some(image) = &options.image {
        args.extend(["--image", image]);
    }
    run("kind", &args).await?;
    Ok(())
}
