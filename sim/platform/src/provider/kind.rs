//! The kind provider: a kind cluster with real kubelets and real pods, and containers of Vault (in
//! dev mode) and PostgreSQL on the cluster's network.

mod cleanup;
mod config;
mod error;
mod handover;
pub mod image;
mod nodes;
mod sidecars;
mod supervisor;

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alertstorm_agent::names::Names;
use alertstorm_agent::vault::{Vault, VaultError};
use alertstorm_model::scenario::{FaultKind, Plan};
use futures::future::{BoxFuture, LocalBoxFuture};
use serde_json::Value;
use tokio::time::sleep;

use super::command::run;
use super::error::ProviderError;
use super::interface::Provider;
use super::program::{Program, Usage};
use super::progress::Progress;
use super::state::{Folder, ProcessId, Record};
use super::{images, secret};
use crate::lease::{self, Holder};
use crate::platform::Platform;
use cleanup::{Known, end};
use handover::platform_of;
use nodes::{COMPONENTS, NAME, PRIVATE, clusters, create, read_config, repair};
use sidecars::Sidecars;
use supervisor::{Found, Sidecar, supervise};

pub use cleanup::clean;
pub use error::KindError;
pub use nodes::Options;

/// Prefix of the random names of clusters.
const PREFIX: &str = "alertstorm-";
/// A kind cluster with its sidecar containers.
pub struct Kind {
    name: String,
    folder: Folder,
    record: Record,
    /// Whether the cluster existed before, or `--keep` was given: it is not deleted at the end.
    stays: bool,
    sidecars: Sidecars,
    platform: Platform,
    workers: Vec<String>,
    generation: Arc<AtomicU64>,
    found: Found,
    supervisor: tokio::task::JoinHandle<()>,
    /// Renews the run's Lease.
    _holder: Holder,
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the kind cluster {}", self.name)
    }
}

/// The Docker network of kind's nodes.
fn network() -> String {
    std::env::var("KIND_EXPERIMENTAL_DOCKER_NETWORK").unwrap_or_else(|_| "kind".to_owned())
}

impl Kind {
    /// Uses the named cluster, or creates a new one. Clusters of killed runs are deleted first.
    ///
    /// # Errors
    /// If an image is missing, or `kind` or Docker fails; what was created is removed then.
    pub fn start<'a>(
        plan: &'a Plan,
        options: &'a Options,
        progress: Progress<'a>,
    ) -> LocalBoxFuture<'a, Result<Self, KindError>> {
        Box::pin(Self::attach_or_create(plan, options, progress))
    }

    async fn attach_or_create(
        plan: &Plan,
        options: &Options,
        progress: Progress<'_>,
    ) -> Result<Self, KindError> {
        let agent = options.agent_image.clone().unwrap_or_else(|| images::AGENT.to_owned());
        let found = run("docker", &["image", "inspect", "--format", "{{.Id}}", &agent]).await;
        found.map_err(|source| KindError::NoAgentImage { image: agent.clone(), source })?;
        let extra = options.config.as_deref().map(read_config).transpose()?;
        clean().await?;
        let clusters = clusters().await?;
        let name = options.name.clone().unwrap_or_else(|| format!("{PREFIX}{}", secret::name()));
        let there = clusters.contains(&name);
        let folder = Folder::named(NAME, &name)?;
        if let Ok(Record { owner: Some(owner), .. }) = folder.record() {
            return Err(KindError::InUse { name, pid: owner.pid });
        }
        let stays = there || options.keep;
        let names = Names::of_run(&secret::run_id());
        let known = Known { ours: !stays, run: names.id().clone() };
        let record = Record {
            owner: ProcessId::own(),
            run: None,
            servers: Vec::new(),
            platform: serde_json::to_value(known)?,
        };
        std::fs::DirBuilder::new().recursive(true).mode(0o711).create(folder.path())?;
        folder.write_record(&record)?;
        let made = async {
            if !there {
                progress(&format!("creating the kind cluster {name}"));
                create(plan.scenario(), &name, &folder, options, extra).await?;
            }
            if there {
                progress(&format!("using the kind cluster {name}"));
                repair(&name).await?;
            }
            progress("loading the images of its pods");
            for image in [Some(&agent), options.shard_image.as_ref()].into_iter().flatten() {
                run("kind", &["load", "docker-image", image, "--name", &name]).await?;
            }
            progress("starting Vault and PostgreSQL on its network");
            let private = folder.private(PRIVATE)?;
            let sidecars = Sidecars::start(plan.scenario(), &network(), &names, &private).await?;
            let made =
                platform_of(&name, &folder, &sidecars, agent, plan.scenario(), there).await?;
            let holder = lease::hold(&made.0.admin, &names).await?;
            Ok::<_, KindError>((made, sidecars, holder))
        };
        match made.await {
            Ok(((platform, workers), sidecars, holder)) => {
                let (generation, found) = (Arc::new(AtomicU64::new(1)), Found::default());
                let of = |program, id: &str| Sidecar { program, id: id.to_owned() };
                let supervisor = tokio::spawn(supervise(
                    [
                        of(Program::Vault, sidecars.vault.id()),
                        of(Program::Postgres, sidecars.postgres.id()),
                    ],
                    platform.admin.clone(),
                    found.clone(),
                    Arc::clone(&generation),
                ));
                let _holder = holder;
                Ok(Self {
                    name,
                    folder,
                    record,
                    stays,
                    sidecars,
                    platform,
                    workers,
                    generation,
                    found,
                    supervisor,
                    _holder,
                })
            }
            Err(error) => {
                let Err(cleanup) = end(&name, &folder, record).await else { return Err(error) };
                let (first, cleanup) = (Box::new(error), Box::new(cleanup));
                Err(KindError::AndCleanup { first, cleanup })
            }
        }
    }

    /// The cluster's name if it is not deleted at the end.
    pub fn stays(&self) -> Option<&str> {
        self.stays.then_some(&self.name)
    }

    fn control_plane(&self) -> String {
        format!("{}-control-plane", self.name)
    }

    /// Stops or starts a component of the control plane. It is a static pod, which the kubelet does
    /// not restart without its manifest.
    async fn component(&self, program: Program, begins: bool) -> Result<(), KindError> {
        let (node, file) = (self.control_plane(), program.file());
        let (there, away) = (format!("/etc/kubernetes/manifests/{file}.yaml"), "/etc/kubernetes/");
        let script = match begins {
            // `pkill` fails if the process is already down.
            true => format!("mv {there} {away}; pkill -KILL -f '^{file} ' || true"),
            false => format!("mv {away}{file}.yaml {there}"),
        };
        run("docker", &["exec", &node, "sh", "-c", &script]).await?;
        Ok(())
    }

    /// Usage of the control plane's static pods, from the kubelet's summary API.
    async fn components(&self) -> BTreeMap<Program, Usage> {
        let node = self.control_plane();
        let path = format!("/api/v1/nodes/{node}/proxy/stats/summary");
        let Ok(request) = http::Request::get(path).body(Vec::new()) else {
            return BTreeMap::new();
        };
        // No figures while the control plane is down.
        let summary: Value = self.platform.admin.request(request).await.unwrap_or_else(|error| {
            tracing::debug!(%error, node, "no usage of the control plane");
            Value::Null
        });
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

impl Drop for Kind {
    fn drop(&mut self) {
        self.supervisor.abort();
    }
}

impl Provider for Kind {
    fn platform(&self) -> Result<Platform, ProviderError> {
        Ok(self.platform.clone())
    }

    fn can(&self, fault: FaultKind) -> bool {
        match fault {
            // Slowing a disk down needs privileges that the harness does not have, and Vault in dev
            // mode cannot be unsealed again.
            FaultKind::SlowFsync | FaultKind::VaultSealed => false,
            FaultKind::NodeDown => !self.workers.is_empty(),
            _ => true,
        }
    }

    fn vault(&self) -> Result<Vault, VaultError> {
        self.sidecars.root()
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    fn vault_ready(&self) -> BoxFuture<'_, Result<(), ProviderError>> {
        Box::pin(async { Ok(self.sidecars.vault_ready().await?) })
    }

    fn usage(&self) -> BoxFuture<'_, BTreeMap<Program, Usage>> {
        Box::pin(async {
            let mut usage = self.components().await;
            usage.extend(self.sidecars.vault.usage().await.map(|used| (Program::Vault, used)));
            usage
                .extend(self.sidecars.postgres.usage().await.map(|used| (Program::Postgres, used)));
            usage
        })
    }

    fn outage(&self, program: Program, begins: bool) -> BoxFuture<'_, Result<(), ProviderError>> {
        Box::pin(async move {
            if begins {
                self.found.hold(program);
            }
            let done = match program {
                Program::Vault => {
                    if !begins {
                        // In dev mode its storage is in memory, and lost with the process.
                        self.generation.fetch_add(1, Ordering::SeqCst);
                    }
                    self.sidecars.vault.outage(begins).await
                }
                Program::Postgres => self.sidecars.postgres.outage(begins).await,
                other => self.component(other, begins).await,
            };
            if !begins {
                self.found.release(program);
            }
            Ok(done?)
        })
    }

    fn deaths(&self) -> Vec<Program> {
        self.found.take_deaths()
    }

    fn remarks(&self) -> Vec<String> {
        self.found.take_remarks()
    }

    fn power(&self, node: u32, on: bool) -> BoxFuture<'_, Result<(), ProviderError>> {
        Box::pin(async move {
            let worker = self.workers.get(node as usize % self.workers.len().max(1));
            let worker = worker.ok_or_else(|| KindError::NoWorker(self.name.clone()))?;
            // Without a grace period, like a power failure.
            let args: &[&str] =
                if on { &["start", worker] } else { &["stop", "--time", "0", worker] };
            run("docker", args).await.map_err(KindError::from)?;
            Ok(())
        })
    }

    fn settle_trails(&self) -> BoxFuture<'_, Result<(), ProviderError>> {
        Box::pin(async {
            // The API server writes its audit log shortly after its response.
            sleep(Duration::from_millis(300)).await;
            Ok(self.sidecars.settle().await?)
        })
    }

    fn is_kept(&self) -> bool {
        self.stays
    }

    fn end(&self) -> BoxFuture<'_, Result<(), ProviderError>> {
        Box::pin(async {
            // Their containers are removed.
            self.found.hold(Program::Vault);
            self.found.hold(Program::Postgres);
            let ended = end(&self.name, &self.folder, self.record.clone()).await;
            self.supervisor.abort();
            Ok(ended?)
        })
    }
}
