//! The cluster itself: made by kind, mended where a fault left it broken.

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

/// The name of this provider, and of its folder of states.
pub(super) const NAME: &str = "kind";
/// The folder of a run's own files, in that of its cluster.
pub(super) const PRIVATE: &str = "private";

/// A cluster that is mended is ready by then.
const READY_WITHIN: Duration = Duration::from_secs(180);

/// How long the nodes may take.
const WAIT: &str = "180s";

/// The control plane's static pods.
pub(super) const COMPONENTS: [Program; 4] =
    [Program::ApiServer, Program::Etcd, Program::ControllerManager, Program::Scheduler];

/// What a person may choose.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The cluster's name: one that is there is used, and left as it is.
    pub name: Option<String>,
    /// The image of its nodes.
    pub image: Option<String>,
    /// A file of kind's own configuration, merged into ours.
    pub config: Option<PathBuf>,
    /// The image of the agent.
    pub agent_image: Option<String>,
    /// The image of shards, where the run has some.
    pub shard_image: Option<String>,
    /// Whether the cluster outlives the run.
    pub keep: bool,
}

pub(super) async fn clusters() -> Result<Vec<String>, CommandError> {
    let listed = run("kind", &["get", "clusters"]).await?;
    Ok(listed.lines().map(str::to_owned).collect())
}

/// Gives a cluster back what a fault took from it and nobody gave back: its nodes' power, and the
/// components of its control plane. Then it waits until it is ready.
pub(super) async fn mend(name: &str) -> Result<(), KindError> {
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
    // What a mirror pod says may be old; who answers is there.
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
    // The node's root writes into it.
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
    // A person's own kubeconfig stays as it is.
    args.extend(["--kubeconfig", &kubeconfig, "--wait", WAIT]);
    if let Some(image) = &options.image {
        args.extend(["--image", image]);
    }
    run("kind", &args).await?;
    Ok(())
}
