//! The kind provider: a kind cluster with real kubelets and real pods, and Vault in dev mode and
//! PostgreSQL as containers beside it, on its network.

mod beside;
mod config;
pub mod image;

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alertstorm_model::scenario::{FaultKind, Plan, Scenario};
use futures::future::BoxFuture;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use tokio::time::{Instant, sleep};

use super::command::{CommandError, run};
use super::state::{self, Folder, ProcessId, Record, write_private};
use super::{Failure, Program, Provider, Usage, secret};
use crate::platform::{Agents, Identities, MetricsOf, Page, Platform, PodSpec, Trails};
use crate::postgres::VAULT_USER;
use crate::vault::setup::Surroundings;
use crate::vault::{Vault, VaultError};
use beside::Beside;

/// The name of this provider, and of its folder of states.
const NAME: &str = "kind";
/// What kind calls clusters that have no name of their own here.
const PREFIX: &str = "alertstorm-";
/// The image of the agent, as `alertstorm setup kind` makes it.
pub const AGENT_IMAGE: &str = concat!("alertstorm/agent:", env!("CARGO_PKG_VERSION"));
/// A cluster that is mended is ready by then.
const READY_WITHIN: Duration = Duration::from_secs(180);
/// The folder of a run's own files, in that of its cluster.
const PRIVATE: &str = "private";
/// How long the nodes may take.
const WAIT: &str = "180s";

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
    /// Whether the cluster outlives the run.
    pub keep: bool,
}

/// A kind cluster, and what is beside it.
pub struct Kind {
    name: String,
    folder: Folder,
    record: Record,
    /// Whether the cluster was there before, or is to stay.
    stays: bool,
    beside: Beside,
    platform: Platform,
    workers: Vec<String>,
    generation: AtomicU64,
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the kind cluster {}", self.name)
    }
}

/// The network that kind puts its nodes on.
fn network() -> String {
    std::env::var("KIND_EXPERIMENTAL_DOCKER_NETWORK").unwrap_or_else(|_| "kind".to_owned())
}

async fn clusters() -> Result<Vec<String>, CommandError> {
    let listed = run("kind", &["get", "clusters"]).await?;
    Ok(listed.lines().map(str::to_owned).collect())
}

/// What is known of a cluster that we use, in its folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Known {
    /// Whether it is to be deleted with the run that uses it.
    ours: bool,
    /// The label of the containers beside it.
    platform: String,
}

/// Removes what runs that were killed left behind: clusters, containers, folders. How many there
/// were.
///
/// # Errors
/// Where `kind` or Docker fails.
pub async fn clean() -> Result<usize, Failure> {
    let mut cleaned = 0;
    let clusters = clusters().await?;
    for folder in state::all(NAME)? {
        let Ok(record) = folder.record() else { continue };
        let name = folder.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let abandoned = record.owner.is_some_and(|owner| !owner.is_alive());
        if abandoned {
            end(&name, &folder, record).await?;
            cleaned += 1;
        } else if record.owner.is_none() && !clusters.contains(&name) {
            // Somebody deleted a cluster that was kept.
            folder.remove()?;
        }
    }
    Ok(cleaned)
}

/// Ends what a run made. A cluster that stays keeps its folder, which holds its audit trail.
async fn end(name: &str, folder: &Folder, record: Record) -> Result<(), Failure> {
    let known: Known = serde_json::from_value(record.platform.clone())?;
    let label = format!("label={}={}", beside::LABEL, known.platform);
    let left = run("docker", &["ps", "--all", "--quiet", "--filter", &label]).await?;
    let left: Vec<&str> = left.split_whitespace().collect();
    if !left.is_empty() {
        let args: Vec<&str> = ["rm", "--force", "--volumes"].into_iter().chain(left).collect();
        run("docker", &args).await?;
    }
    if known.ours {
        run("kind", &["delete", "cluster", "--name", name]).await?;
        return Ok(folder.remove()?);
    }
    if clusters().await?.iter().any(|there| there == name) {
        mend(name).await?;
    }
    std::fs::remove_dir_all(folder.private(PRIVATE)?)?;
    Ok(folder.write_record(&Record { owner: None, ..record })?)
}

impl Kind {
    /// A platform for a plan: the named cluster where it is there, or a new one. What an earlier run
    /// left behind is cleaned up first.
    ///
    /// # Errors
    /// What is missing or failed; nothing is left running then.
    pub async fn start(
        plan: &Plan,
        options: &Options,
        tell: &(dyn Fn(&str) + Sync),
    ) -> Result<Self, Failure> {
        let agent = options.agent_image.clone().unwrap_or_else(|| AGENT_IMAGE.to_owned());
        run("docker", &["image", "inspect", "--format", "{{.Id}}", &agent]).await.map_err(
            |error| format!("{error}\nthe agent's image {agent} comes by: alertstorm setup kind"),
        )?;
        let extra = options.config.as_deref().map(read_config).transpose()?;
        clean().await?;
        let clusters = clusters().await?;
        let name = options.name.clone().unwrap_or_else(|| format!("{PREFIX}{}", secret::name()));
        let there = clusters.contains(&name);
        let folder = Folder::named(NAME, &name)?;
        if let Ok(Record { owner: Some(owner), .. }) = folder.record() {
            return Err(format!("the cluster {name} is in use by process {}", owner.pid).into());
        }
        let stays = there || options.keep;
        let platform = secret::name();
        let known = Known { ours: !stays, platform: platform.clone() };
        let record = Record {
            owner: ProcessId::own(),
            servers: Vec::new(),
            platform: serde_json::to_value(known)?,
        };
        std::fs::DirBuilder::new().recursive(true).mode(0o711).create(folder.path())?;
        folder.write_record(&record)?;
        let made = async {
            if !there {
                tell(&format!("creating the kind cluster {name}"));
                create(&plan.scenario, &name, &folder, options, extra).await?;
            }
            if there {
                tell(&format!("taking the kind cluster {name}"));
                mend(&name).await?;
            }
            tell("loading the agent's image");
            run("kind", &["load", "docker-image", &agent, "--name", &name]).await?;
            tell("starting Vault and PostgreSQL beside it");
            let private = folder.private(PRIVATE)?;
            let beside = Beside::start(&plan.scenario, &network(), &platform, &private).await?;
            let made = platform_of(&name, &folder, &beside, agent, &plan.scenario, there).await?;
            Ok((made, beside))
        };
        match made.await {
            Ok(((platform, workers), beside)) => {
                let generation = AtomicU64::new(1);
                Ok(Self { name, folder, record, stays, beside, platform, workers, generation })
            }
            Err(error) => {
                end(&name, &folder, record).await?;
                Err(error)
            }
        }
    }

    /// Its name, where it stays.
    pub fn stays(&self) -> Option<&str> {
        self.stays.then_some(&self.name)
    }

    fn control_plane(&self) -> String {
        format!("{}-control-plane", self.name)
    }

    /// A component of the control plane is a static pod: without its manifest the kubelet does not
    /// start it again.
    async fn component(&self, program: Program, begins: bool) -> Result<(), Failure> {
        let (node, file) = (self.control_plane(), program.file());
        let (there, away) = (format!("/etc/kubernetes/manifests/{file}.yaml"), "/etc/kubernetes/");
        let script = match begins {
            // It may be down already.
            true => format!("mv {there} {away}; pkill -KILL -f '^{file} ' || true"),
            false => format!("mv {away}{file}.yaml {there}"),
        };
        run("docker", &["exec", &node, "sh", "-c", &script]).await?;
        Ok(())
    }

    /// What the control plane's static pods have used, as their kubelet has it.
    async fn components(&self) -> BTreeMap<Program, Usage> {
        let node = self.control_plane();
        let path = format!("/api/v1/nodes/{node}/proxy/stats/summary");
        let Ok(request) = http::Request::get(path).body(Vec::new()) else {
            return BTreeMap::new();
        };
        // A control plane that is down has no figures now.
        let summary: Value = self.platform.admin.request(request).await.unwrap_or_default();
        let mut usage = BTreeMap::new();
        for pod in summary["pods"].as_array().into_iter().flatten() {
            let name = pod["podRef"]["name"].as_str().unwrap_or_default();
            let of = |program: &&Program| name == format!("{}-{node}", program.file());
            let Some(program) = COMPONENTS.iter().find(of) else { continue };
            let mut sum = Usage::default();
            for container in pod["containers"].as_array().into_iter().flatten() {
                let nanos = container["cpu"]["usageCoreNanoSeconds"].as_u64().unwrap_or(0);
                sum.cpu += Duration::from_nanos(nanos);
                sum.resident += container["memory"]["workingSetBytes"].as_u64().unwrap_or(0);
            }
            usage.insert(*program, sum);
        }
        usage
    }
}

/// The control plane's static pods.
const COMPONENTS: [Program; 4] =
    [Program::ApiServer, Program::Etcd, Program::ControllerManager, Program::Scheduler];

/// Gives a cluster back what a fault took from it and nobody gave back: its nodes' power, and the
/// components of its control plane. Then it waits until it is ready.
async fn mend(name: &str) -> Result<(), Failure> {
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

fn read_config(path: &Path) -> Result<Value, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    let parsed = serde_saphyr::from_str(&text);
    Ok(parsed.map_err(|error| format!("{} is not YAML: {error}", path.display()))?)
}

async fn create(
    scenario: &Scenario,
    name: &str,
    folder: &Folder,
    options: &Options,
    extra: Option<Value>,
) -> Result<(), Failure> {
    let trail = folder.path().join("trail");
    // The node's root writes into it.
    std::fs::DirBuilder::new().mode(0o711).create(&trail)?;
    let policy = include_str!("../../../../kind-config/audit-policy.yaml");
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

/// The certificate of the API server's authority, as PEM text.
fn authority(kubeconfig: &Kubeconfig) -> Result<String, Failure> {
    use base64::Engine;
    let cluster = kubeconfig.clusters.first().and_then(|named| named.cluster.as_ref());
    let data = cluster.and_then(|cluster| cluster.certificate_authority_data.as_deref());
    let bytes = base64::engine::general_purpose::STANDARD.decode(data.unwrap_or_default())?;
    Ok(String::from_utf8(bytes)?)
}

fn metrics(node: &str) -> Vec<MetricsOf> {
    let pod = |component: &'static str, scheme: &str, port: u16| {
        let path = format!(
            "/api/v1/namespaces/kube-system/pods/{scheme}:{component}-{node}:{port}/proxy/metrics"
        );
        MetricsOf { component, page: Page::Proxied(path) }
    };
    vec![
        MetricsOf { component: "kube-apiserver", page: Page::ApiServer },
        pod("etcd", "http", 2381),
        pod("kube-controller-manager", "https", 10257),
        pod("kube-scheduler", "https", 10259),
    ]
}

/// The platform that a cluster and what is beside it make, and the names of its workers.
async fn platform_of(
    name: &str,
    folder: &Folder,
    beside: &Beside,
    agent: String,
    scenario: &Scenario,
    there: bool,
) -> Result<(Platform, Vec<String>), Failure> {
    let text = run("kind", &["get", "kubeconfig", "--name", name]).await?;
    let kubeconfig = Kubeconfig::from_yaml(&text)?;
    let ca = authority(&kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let api_server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
    let node = format!("{name}-control-plane");
    let key = ["exec", &node, "cat", "/etc/kubernetes/pki/sa.pub"];
    let accounts_key = run("docker", &key).await?;
    let nodes = run("kind", &["get", "nodes", "--name", name]).await?;
    let mut workers: Vec<String> =
        nodes.lines().filter(|of| !of.contains("-control-plane")).map(str::to_owned).collect();
    workers.sort_unstable();
    let trail = folder.path().join("trail").join(config::TRAIL_FILE);
    let mut remarks = Vec::new();
    let (asked, got) = (scenario.cluster.nodes.get(), workers.len().max(1));
    if asked as usize != got {
        remarks.push(format!("the scenario's {asked} nodes are {got} here"));
    }
    if there {
        let why =
            "the cluster was there before: its control plane has the flags that it was made with";
        remarks.push(why.to_owned());
    }
    if !trail.is_file() {
        remarks.push("the API server's audit trail is not ours to read".to_owned());
    }
    let platform = Platform {
        provider: NAME,
        api_server,
        admin: Client::try_from(config)?,
        identities: Identities::Accounts,
        agents: Agents::Pods(PodSpec {
            image: agent,
            vault: beside.address.url.clone(),
            vault_ca: String::new(),
            postgres: beside.postgres_at(),
        }),
        vault: beside.address.clone(),
        around: Surroundings {
            api_server: format!("https://{node}:6443"),
            api_server_ca: ca.clone(),
            accounts_key,
            issuer: "https://kubernetes.default.svc.cluster.local".to_owned(),
            postgres: beside.postgres_at(),
            postgres_user: (VAULT_USER.to_owned(), beside.vault_password.clone()),
            // Docker keeps what a container writes there.
            audit: Some("stdout".to_owned()),
        },
        ca,
        postgres: beside.postgres_at(),
        trails: Trails {
            vault: Some(beside.vault.log.clone()),
            api_server: trail.is_file().then_some(trail),
            postgres: Some(beside.postgres.log.clone()),
        },
        metrics: metrics(&node),
        remarks,
    };
    Ok((platform, workers))
}

impl Provider for Kind {
    fn platform(&self) -> Result<Platform, Failure> {
        Ok(self.platform.clone())
    }

    fn can(&self, fault: FaultKind) -> bool {
        match fault {
            // A disk cannot be made slow from here, and Vault in dev mode is not unsealed again.
            FaultKind::SlowFsync | FaultKind::VaultSealed => false,
            FaultKind::NodeDown => !self.workers.is_empty(),
            _ => true,
        }
    }

    fn vault(&self) -> Result<Vault, VaultError> {
        self.beside.root()
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    fn vault_ready(&self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(self.beside.vault_ready())
    }

    fn usage(&self) -> BoxFuture<'_, BTreeMap<Program, Usage>> {
        Box::pin(async {
            let mut usage = self.components().await;
            usage.extend(self.beside.vault.usage().await.map(|used| (Program::Vault, used)));
            usage.extend(self.beside.postgres.usage().await.map(|used| (Program::Postgres, used)));
            usage
        })
    }

    fn outage(&self, program: Program, begins: bool) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            match program {
                Program::Vault => {
                    self.beside.vault.outage(begins).await?;
                    if !begins {
                        // In dev mode it keeps its data in memory.
                        self.generation.fetch_add(1, Ordering::SeqCst);
                    }
                    Ok(())
                }
                Program::Postgres => self.beside.postgres.outage(begins).await,
                other => self.component(other, begins).await,
            }
        })
    }

    fn deaths(&self) -> Vec<Program> {
        Vec::new()
    }

    fn power(&self, node: u32, on: bool) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let worker = self.workers.get(node as usize % self.workers.len().max(1));
            let worker = worker.ok_or("the cluster has no worker to switch off")?;
            // At once, as power goes.
            let args: &[&str] =
                if on { &["start", worker] } else { &["stop", "--time", "0", worker] };
            run("docker", args).await?;
            Ok(())
        })
    }

    fn settle_trails(&self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async {
            // The API server writes its trail a moment after its answer.
            sleep(Duration::from_millis(300)).await;
            self.beside.settle().await
        })
    }

    fn is_kept(&self) -> bool {
        self.stays
    }

    fn end(&self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(end(&self.name, &self.folder, self.record.clone()))
    }
}
