//! The local provider: a real control plane, Vault and PostgreSQL as processes of this machine.
//! They listen on loopback only, and each platform has secrets and a certificate authority of its
//! own.

pub mod assets;
mod ca;
mod error;
mod flags;
mod handover;
#[cfg(test)]
mod phase_table;
mod postgres;
mod process;
mod ready;
mod servers;
pub mod setup;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use alertstorm_agent::names::Names;
use alertstorm_agent::postgres::Login;
use alertstorm_agent::vault::{Address, Vault};
use alertstorm_agent::{postgres as server, trust};
use alertstorm_model::scenario::Scenario;
use futures::future::LocalBoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::program::Program;
use super::progress::Progress;
use super::secret;
use super::state::{self, Folder, ProcessId, Record, Using};
use crate::lease::{self, Holder};
use crate::postgres::{close_other_databases, set_up, take_down};
use crate::sweep::{end_agents, forget_pods, sweep, sweep_vault};

pub use assets::{Assets, Missing};
pub use error::LocalError;
use error::io_error;
pub use flags::UnknownFlag;
pub use process::{Death, Servers};
use servers::{Layout, Ports, Secrets};

/// A start fails if a server is not ready by then.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// For so long the deletion of a run's objects is tried again: a server may die meanwhile.
const SWEEP_WITHIN: Duration = Duration::from_secs(60);
/// The pause before that.
const SWEEP_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// Interval between readiness checks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Unseal key and root token of Vault. The key is needed after each restart.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Unsealed {
    key: String,
    root: String,
}

/// The file `kept.json` of a kept platform, with mode 0600.
#[derive(Clone, Serialize, Deserialize)]
struct Kept {
    secrets: Secrets,
    unsealed: Unsealed,
    ports: Ports,
}

/// A running local platform.
pub struct Local {
    folder: Folder,
    layout: Layout,
    secrets: Secrets,
    /// The names of the run's objects.
    names: Names,
    /// Renews the run's Lease.
    holder: std::sync::Mutex<Option<Holder>>,
    unsealed: std::sync::Mutex<Unsealed>,
    servers: Servers,
    supervisor: tokio::task::JoinHandle<()>,
    keep: bool,
    stopped: std::sync::atomic::AtomicBool,
    generation: std::sync::atomic::AtomicU64,
    address: Address,
    database: server::Address,
}

impl std::fmt::Debug for Local {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Local").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// Checks that the servers have all flags that the scenario sets.
///
/// # Errors
/// [`LocalError::UnknownFlags`]; [`LocalError::Io`] if `--help` of a server fails.
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

/// The settings of the servers. A kept platform can be used by scenarios with the same ones.
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
    /// Starts a platform for a scenario, or attaches to the kept one. Platforms of killed runs are
    /// removed first.
    ///
    /// # Errors
    /// If a program is missing, or a server does not start; all processes are stopped then.
    pub fn start<'a>(
        scenario: &'a Scenario,
        keep: bool,
        progress: Progress<'a>,
    ) -> LocalBoxFuture<'a, Result<Self, LocalError>> {
        Box::pin(Self::attach_or_create(scenario, keep, progress))
    }

    async fn attach_or_create(
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
            progress("using the kept platform");
            let before = record.run.clone();
            let local = Self::attach(scenario, &assets, folder, record)?;
            // A server may have died while no run supervised it.
            local.all_ready().await?;
            // Only one run at a time uses it, so this one was killed.
            if let Some(before) = before {
                progress("removing what an earlier run left on the kept platform");
                local.sweep(&Names::of_run(&before.id)).await?;
            }
            local.begin_run().await?;
            return Ok(local);
        }
        let folder = Folder::create("local").map_err(io_error("create the platform's folder"))?;
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
        let record = Record { owner, run: None, servers: Vec::new(), platform: settings(scenario) };
        folder.write_record(&record).map_err(io_error("write the platform's record"))?;
        let private = folder.private("private").map_err(io_error("create the private folder"))?;
        let logs = folder.private("logs").map_err(io_error("create the folder of logs"))?;
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
            .map_err(io_error("read the CA certificate"))?;
        let address = Address { url: layout.vault(), namespace: None, tls: trust::only(&ca)? };
        // In plain text, which does not leave this machine; the server also offers TLS.
        let database = server::Address::plain((Ipv4Addr::LOCALHOST, layout.ports.postgres).into());
        let servers = Servers::new(folder.clone());
        let supervisor = tokio::spawn(servers.clone().supervise());
        let unsealed = std::sync::Mutex::new(unsealed);
        let stopped = std::sync::atomic::AtomicBool::new(false);
        let generation = std::sync::atomic::AtomicU64::new(0);
        Ok(Self {
            folder,
            layout,
            secrets,
            names: Names::of_run(&secret::run_id()),
            holder: std::sync::Mutex::default(),
            unsealed,
            servers,
            supervisor,
            keep,
            stopped,
            generation,
            address,
            database,
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
        if let Some(Using { by, .. }) = record.run.as_ref().filter(|run| run.by.is_alive()) {
            return Err(LocalError::InUse(by.pid));
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
        self.ready(Program::Vault).await?;
        progress("waiting for kube-apiserver");
        self.ready(Program::ApiServer).await?;
        progress("starting kube-controller-manager and kube-scheduler");
        for (program, spec) in rest {
            start(program, spec)?;
        }
        if self.keep { self.write_kept() } else { self.begin_run().await }
    }

    fn login<'a>(&'a self, database: &'a str) -> Login<'a> {
        let password = Some(self.secrets.postgres_admin.as_str());
        Login { to: self.postgres(), from: None, user: postgres::ADMIN, password, database }
    }

    fn root(&self) -> Result<Vault, LocalError> {
        Ok(Vault::new(&self.address, None, &self.unsealed().root)?)
    }

    /// Creates what the platform has for each run: its namespace with a Lease, its database and roles.
    async fn begin_run(&self) -> Result<(), LocalError> {
        if let (true, Some(by)) = (self.keep, ProcessId::own()) {
            self.record_run(Some(Using { by, id: self.names.id().clone() }))?;
        }
        let (to, admin) = (self.postgres(), self.superuser());
        set_up(to, admin, &self.names, &self.secrets.postgres_vault).await?;
        close_other_databases(to, admin, &self.names).await?;
        let holder = lease::hold(&self.admin()?, &self.names).await?;
        *self.holder.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(holder);
        Ok(())
    }

    fn record_run(&self, run: Option<Using>) -> Result<(), LocalError> {
        let record = self.folder.record().map_err(io_error("read the platform's record"))?;
        let record = Record { run, ..record };
        self.folder.write_record(&record).map_err(io_error("write the platform's record"))
    }

    /// Deletes what a run created on the kept platform. Its hollow nodes no longer run. Tried again
    /// for a minute: each step leaves out what an earlier attempt deleted.
    async fn sweep(&self, names: &Names) -> Result<(), LocalError> {
        let until = Instant::now() + SWEEP_WITHIN;
        loop {
            let swept = match self.all_ready().await {
                Ok(()) => self.sweep_once(names).await,
                Err(error) => Err(error),
            };
            match swept {
                Err(error) if Instant::now() < until => {
                    tracing::warn!(%error, "the clean-up is tried again");
                    tokio::time::sleep(SWEEP_AGAIN_AFTER).await;
                }
                swept => return swept,
            }
        }
    }

    async fn sweep_once(&self, names: &Names) -> Result<(), LocalError> {
        let admin = self.admin()?;
        end_agents(&admin, names).await?;
        forget_pods(&admin, names).await?;
        // Vault revokes leases in the database, which is therefore dropped after them.
        sweep_vault(&self.root()?, names).await.map_err(LocalError::SweepVault)?;
        take_down(self.login("postgres"), names).await?;
        sweep(&admin, names).await?;
        Ok(())
    }

    /// Ends the run: deletes what it created if the platform is kept.
    async fn end_run(&self) -> Result<(), LocalError> {
        let swept = match self.keep {
            true => self.leave().await,
            false => Ok(()),
        };
        drop(self.holder.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take());
        let stopped = self.stop();
        swept.and(stopped)
    }

    /// Deletes what the run created on the kept platform, and leaves it with all its servers.
    async fn leave(&self) -> Result<(), LocalError> {
        self.sweep(&self.names).await?;
        self.record_run(None)?;
        // From here on nobody restarts a server that has died.
        self.all_ready().await
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

    /// The path of the administrator's kubeconfig, for kubectl.
    pub fn kubeconfig(&self) -> PathBuf {
        self.layout.admin()
    }

    /// Address, user and password of PostgreSQL's administrator.
    ///
    /// Only for tests, in which the platform stands for somebody else's servers.
    #[doc(hidden)]
    pub fn postgres_admin(&self) -> (SocketAddr, String, String) {
        (self.database.at, postgres::ADMIN.to_owned(), self.secrets.postgres_admin.clone())
    }

    /// The servers as processes.
    pub const fn servers(&self) -> &Servers {
        &self.servers
    }

    const fn postgres(&self) -> &server::Address {
        &self.database
    }

    /// User and password of PostgreSQL's superuser.
    fn superuser(&self) -> (&str, &str) {
        (postgres::ADMIN, &self.secrets.postgres_admin)
    }

    /// Stops the servers and removes the folder, unless the platform is kept.
    ///
    /// # Errors
    /// If the folder cannot be removed, or the secrets of a kept platform cannot be written.
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
        // Also stops the servers after a panic. A caller that needs the error calls `stop`.
        if let Err(error) = self.stop() {
            tracing::error!(%error, "the local platform could not be stopped");
        }
    }
}

/// Every secret in the folder of a platform that is kept: bearer tokens, passwords of PostgreSQL,
/// Vault's unseal key and root token, and each line of the private keys.
///
/// Only for tests, which search the files of a run for them.
///
/// # Errors
/// Where a file cannot be read.
#[doc(hidden)]
pub fn secrets_of_kept(folder: &Path) -> io::Result<Vec<String>> {
    let private = folder.join("private");
    let kept: Kept = serde_json::from_slice(&std::fs::read(private.join("kept.json"))?)?;
    let mut all = kept.secrets.all();
    all.extend([kept.unsealed.key, kept.unsealed.root]);
    let files = ca::Certificates::within(&private);
    for key in [files.server_key, files.etcd_client_key, files.service_accounts] {
        let text = std::fs::read_to_string(key)?;
        all.extend(text.lines().filter(|line| !line.starts_with("-----")).map(str::to_owned));
    }
    all.retain(|secret| !secret.is_empty());
    Ok(all)
}

/// Stops and removes all kept platforms; their number.
///
/// # Errors
/// If a folder cannot be removed.
pub fn down() -> Result<usize, LocalError> {
    let kept = state::kept().map_err(io_error("look for kept platforms"))?;
    for (folder, record) in &kept {
        // PostgreSQL frees its shared memory on SIGINT, but not on SIGKILL.
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
