//! The local provider: a real control plane, Vault and PostgreSQL as processes of this machine, on
//! loopback alone, with secrets of their own and an authority of their own.

pub mod assets;
mod ca;
mod flags;
mod handover;
mod postgres;
mod process;
mod ready;
mod servers;
pub mod setup;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use alertstorm_agent::trust;
use alertstorm_agent::vault::{Address, VaultError};
use alertstorm_model::scenario::Scenario;
use futures::future::LocalBoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::causes::with_causes;
use super::program::Program;
use super::progress::Progress;
use super::state::{self, Folder, ProcessId, Record};
use crate::connection::ConnectionError;
use crate::postgres::VAULT_USER;

pub use assets::{Assets, Missing};
pub use flags::UnknownFlag;
pub use process::{Death, Servers};
use servers::{Layout, Ports, Secrets};

/// A server that is not ready by then will not be.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// How often readiness is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Why there is no local platform.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// A start failed, and what it had created could not be removed.
    #[error(
        "{}; and then what it had created could not be removed: {}; `alertstorm clean` removes it",
        with_causes(.first),
        with_causes(.cleanup)
    )]
    AndCleanup {
        /// Why the start failed.
        first: Box<Self>,
        /// Why the removal failed.
        cleanup: Box<Self>,
    },
    /// Programs are missing.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Missing(Vec<Missing>),
    /// The scenario names flags that the servers do not have.
    #[error("unknown flags")]
    UnknownFlags(Vec<UnknownFlag>),
    /// A file or a process could not be made.
    #[error("could not {what}")]
    Io {
        /// What was to be done.
        what: String,
        /// Why not.
        source: io::Error,
    },
    /// A certificate could not be made.
    #[error(transparent)]
    Ca(#[from] ca::CaError),
    /// PostgreSQL could not be prepared.
    #[error(transparent)]
    Postgres(#[from] postgres::PostgresError),
    /// A server ended or did not get ready.
    #[error("{program} did not get ready: {why}\n{said}")]
    NotReady {
        /// Which.
        program: &'static str,
        /// Why.
        why: String,
        /// The last lines that it wrote.
        said: String,
    },
    /// Vault refused to be set up.
    #[error("vault could not be unsealed")]
    Vault(#[from] VaultError),
    /// The authority's own certificate cannot be used.
    #[error("the authority's own certificate cannot be used")]
    Authority(#[from] rustls::Error),
    /// The API server cannot be reached.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// A platform is kept, and has other settings than the scenario.
    #[error("a platform is kept whose {0} differ from this scenario's; `alertstorm down` ends it")]
    KeptDiffers(String),
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> LocalError {
    let what = what.into();
    move |source| LocalError::Io { what, source }
}

/// What Vault gave when it was made: it is needed again after each restart.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Unsealed {
    key: String,
    root: String,
}

/// What a kept platform's folder holds besides its record, readable by its owner alone.
#[derive(Clone, Serialize, Deserialize)]
struct Kept {
    secrets: Secrets,
    unsealed: Unsealed,
    ports: Ports,
}

/// A local platform.
pub struct Local {
    folder: Folder,
    layout: Layout,
    secrets: Secrets,
    unsealed: std::sync::Mutex<Unsealed>,
    servers: Servers,
    supervisor: tokio::task::JoinHandle<()>,
    keep: bool,
    stopped: std::sync::atomic::AtomicBool,
    generation: std::sync::atomic::AtomicU64,
    address: Address,
}

impl std::fmt::Debug for Local {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Local").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// Checks that every flag that the scenario names is one of its server's.
///
/// # Errors
/// Where a server cannot be asked; [`LocalError::UnknownFlags`].
pub fn check_flags(scenario: &Scenario, assets: &Assets) -> Result<(), LocalError> {
    let plane = &scenario.cluster.control_plane;
    let mut unknown = Vec::new();
    for (program, flags) in [
        (Program::ApiServer, &plane.apiserver.flags),
        (Program::Etcd, &plane.etcd.flags),
        (Program::ControllerManager, &plane.controller_manager.flags),
        (Program::Scheduler, &plane.scheduler.flags),
    ] {
        let names = flags.keys().map(String::as_str);
        let asked = flags::unknown(program, assets.path(program), names);
        unknown.extend(asked.map_err(io_error(format!("ask {} for its flags", program.file())))?);
    }
    if unknown.is_empty() { Ok(()) } else { Err(LocalError::UnknownFlags(unknown)) }
}

/// The settings of the servers: a kept platform serves scenarios with the same ones.
fn settings(scenario: &Scenario) -> Value {
    let plane = &scenario.cluster.control_plane;
    serde_json::json!({
        "kube-apiserver": plane.apiserver,
        "etcd": {"quota": plane.etcd.quota, "flags": plane.etcd.flags},
        "kube-controller-manager": plane.controller_manager,
        "kube-scheduler": plane.scheduler,
        "vault": {
            "storage": scenario.vault.storage,
            "revocation_workers": scenario.vault.revocation_workers,
        },
        "postgres": {
            "max_connections": scenario.postgres.max_connections,
            "flags": scenario.postgres.flags,
        },
    })
}

impl Local {
    /// A platform for a scenario: the one that is kept, or a new one. What an earlier run left
    /// behind is cleaned up first.
    ///
    /// # Errors
    /// [`LocalError`]; nothing is left running then.
    pub fn start<'a>(
        scenario: &'a Scenario,
        keep: bool,
        progress: Progress<'a>,
    ) -> LocalBoxFuture<'a, Result<Self, LocalError>> {
        Box::pin(Self::take_or_make(scenario, keep, progress))
    }

    async fn take_or_make(
        scenario: &Scenario,
        keep: bool,
        progress: Progress<'_>,
    ) -> Result<Self, LocalError> {
        let assets = Assets::find().map_err(LocalError::Missing)?;
        check_flags(scenario, &assets)?;
        state::clean().map_err(io_error("clean up after an earlier run"))?;
        if let Some((folder, record)) =
            state::kept().map_err(io_error("look for a kept platform"))?.into_iter().next()
        {
            progress("using the platform that is kept");
            return Self::attach(scenario, &assets, folder, record);
        }
        let folder = Folder::create("local").map_err(io_error("make the platform's folder"))?;
        let local = Self::make(scenario, keep, folder)?;
        match local.begin(scenario, &assets, progress).await {
            Ok(()) => Ok(local),
            Err(error) => {
                let Err(cleanup) = local.finish() else { return Err(error) };
                let (first, cleanup) = (Box::new(error), Box::new(cleanup));
                Err(LocalError::AndCleanup { first, cleanup })
            }
        }
    }

    fn make(scenario: &Scenario, keep: bool, folder: Folder) -> Result<Self, LocalError> {
        let owner = if keep { None } else { ProcessId::own() };
        let record = Record { owner, servers: Vec::new(), platform: settings(scenario) };
        folder.write_record(&record).map_err(io_error("write the platform's record"))?;
        let private = folder.private("private").map_err(io_error("make a private folder"))?;
        let logs = folder.private("logs").map_err(io_error("make the folder of logs"))?;
        let certificates = ca::Certificates::make(&private)?;
        let ports = Ports::free().map_err(io_error("find free ports"))?;
        let secrets = Secrets::random(scenario.cluster.nodes.get());
        let layout = Layout { root: folder.path().to_owned(), private, logs, certificates, ports };
        Self::with(folder, layout, secrets, Unsealed::default(), keep)
    }

    fn with(
        folder: Folder,
        layout: Layout,
        secrets: Secrets,
        unsealed: Unsealed,
        keep: bool,
    ) -> Result<Self, LocalError> {
        let ca = std::fs::read_to_string(&layout.certificates.ca)
            .map_err(io_error("read the authority's certificate"))?;
        let address = Address { url: layout.vault(), tls: trust::only(&ca)? };
        let servers = Servers::new(folder.clone());
        let supervisor = tokio::spawn(servers.clone().supervise());
        let unsealed = std::sync::Mutex::new(unsealed);
        let stopped = std::sync::atomic::AtomicBool::new(false);
        let generation = std::sync::atomic::AtomicU64::new(0);
        Ok(Self {
            folder,
            layout,
            secrets,
            unsealed,
            servers,
            supervisor,
            keep,
            stopped,
            generation,
            address,
        })
    }

    fn attach(
        scenario: &Scenario,
        assets: &Assets,
        folder: Folder,
        record: Record,
    ) -> Result<Self, LocalError> {
        let wanted = settings(scenario);
        let differ: Vec<&str> = wanted
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(name, value)| record.platform[name.as_str()] != **value)
            .map(|(name, _)| name.as_str())
            .collect();
        if !differ.is_empty() {
            return Err(LocalError::KeptDiffers(format!("settings of {}", differ.join(", "))));
        }
        let private = folder.path().join("private");
        let text = std::fs::read(private.join("kept.json"))
            .map_err(io_error("read the kept platform's secrets"))?;
        let kept: Kept = serde_json::from_slice(&text)
            .map_err(io::Error::from)
            .map_err(io_error("read the kept platform's secrets"))?;
        if kept.secrets.nodes.len() < scenario.cluster.nodes.get() as usize {
            return Err(LocalError::KeptDiffers("number of nodes".to_owned()));
        }
        let layout = Layout {
            root: folder.path().to_owned(),
            certificates: ca::Certificates::within(&private),
            private,
            logs: folder.path().join("logs"),
            ports: kept.ports,
        };
        let specs = servers::specs(scenario, &layout, assets, &kept.secrets)
            .map_err(io_error("write the servers' files"))?;
        let local = Self::with(folder, layout, kept.secrets, kept.unsealed, true)?;
        for (program, id) in record.servers {
            let spec = specs.iter().find(|(of, _)| *of == program).map(|(_, spec)| spec.clone());
            let spec = match spec {
                Some(spec) => spec,
                None => postgres::again(&scenario.postgres, &local.layout, assets)?,
            };
            local.servers.adopt(program, spec, id);
        }
        Ok(local)
    }

    async fn begin(
        &self,
        scenario: &Scenario,
        assets: &Assets,
        progress: Progress<'_>,
    ) -> Result<(), LocalError> {
        let start = |program: Program, spec| {
            let what = format!("start {}", program.file());
            self.servers.start(program, spec).map_err(io_error(what))
        };
        let mut specs = servers::specs(scenario, &self.layout, assets, &self.secrets)
            .map_err(io_error("write the servers' files"))?;
        let rest = specs.split_off(3);
        progress("starting etcd, kube-apiserver and Vault");
        for (program, spec) in specs {
            start(program, spec)?;
        }
        progress("starting PostgreSQL");
        let spec = postgres::prepare(&scenario.postgres, &self.layout, assets, &self.secrets)?;
        start(Program::Postgres, spec)?;
        self.ready(Program::Postgres).await?;
        let admin = (postgres::ADMIN, self.secrets.postgres_admin.as_str());
        let vault = (VAULT_USER, self.secrets.postgres_vault.as_str());
        crate::postgres::set_up(self.postgres(), admin, vault)
            .await
            .map_err(|error| self.not_ready(Program::Postgres, error.to_string()))?;
        self.ready(Program::Vault).await?;
        progress("waiting for kube-apiserver");
        self.ready(Program::ApiServer).await?;
        progress("starting kube-controller-manager and kube-scheduler");
        for (program, spec) in rest {
            start(program, spec)?;
        }
        if self.keep { self.write_kept() } else { Ok(()) }
    }

    fn write_kept(&self) -> Result<(), LocalError> {
        let unsealed = self.unsealed();
        let kept = Kept { secrets: self.secrets.clone(), unsealed, ports: self.layout.ports };
        let text = serde_json::to_vec(&kept).map_err(io::Error::from);
        let path = self.layout.private.join("kept.json");
        text.and_then(|text| state::write_private(&path, &text))
            .map_err(io_error("write the platform's secrets"))
    }

    fn unsealed(&self) -> Unsealed {
        self.unsealed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// The administrator's kubeconfig, for whoever wants to look around.
    pub fn kubeconfig(&self) -> PathBuf {
        self.layout.admin()
    }

    /// The servers as processes.
    pub const fn servers(&self) -> &Servers {
        &self.servers
    }

    fn postgres(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.layout.ports.postgres))
    }

    /// The end of a run: the platform is ended, unless it is kept.
    ///
    /// # Errors
    /// Where its folder cannot be removed.
    pub fn stop(&self) -> Result<(), LocalError> {
        self.supervisor.abort();
        if self.stopped.swap(true, std::sync::atomic::Ordering::SeqCst) {
            return Ok(());
        }
        if self.keep {
            return self.write_kept();
        }
        self.finish()
    }

    fn finish(&self) -> Result<(), LocalError> {
        self.supervisor.abort();
        self.stopped.store(true, std::sync::atomic::Ordering::SeqCst);
        self.servers.stop();
        self.folder.remove().map_err(io_error("remove the platform's folder"))
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        // After a panic too nothing is left running; whoever wants to hear of a failure stops it.
        if let Err(error) = self.stop() {
            tracing::error!(%error, "the local platform could not be stopped");
        }
    }
}

/// Ends every platform that is kept; how many there were.
///
/// # Errors
/// Where a folder cannot be removed.
pub fn down() -> Result<usize, LocalError> {
    let kept = state::kept().map_err(io_error("look for kept platforms"))?;
    for (folder, record) in &kept {
        // PostgreSQL gives its shared memory back when it is asked to end.
        for (program, id) in &record.servers {
            if *program == Program::Postgres {
                id.signal(rustix::process::Signal::INT);
                id.wait(Duration::from_secs(5));
            }
        }
        folder.remove().map_err(io_error("remove the platform's folder"))?;
    }
    state::clean().map_err(io_error("clean up after earlier runs"))?;
    Ok(kept.len())
}
