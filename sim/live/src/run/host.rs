//! What a run needs beside the engine: watches, faults, samples, and the judgement at its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use alertstorm_model::event::{Event, Fact, Sample};
use alertstorm_model::scenario::{FaultKind, Plan};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::RunError;
use crate::engine::Host;
use crate::forensics::{self, Truth};
use crate::jobs::Jobs;
use crate::kubelet::HollowNode;
use crate::local::{Local, Program};
use crate::platform::{Clients, NAMESPACE, Platform};
use crate::reporter::{Note, Reporter};
use crate::scrape::Scraper;
use crate::vault::leases::{self, LeaseBook};
use crate::vault::setup;
use crate::watch;

/// What the run needs beside the engine.
pub(super) struct Run {
    pub plan: Arc<Plan>,
    pub local: Arc<Local>,
    pub platform: Platform,
    pub reporter: Reporter,
    pub book: LeaseBook,
    pub nodes: Vec<HollowNode>,
    pub scraper: Arc<Scraper>,
    pub sampling: Arc<AtomicBool>,
    /// Leases that were alive when Vault lost its memory.
    pub lost: Arc<AtomicUsize>,
    /// What was configured last: a Vault of another generation knows nothing of it.
    pub generation: Arc<Mutex<u64>>,
    pub runtime: tokio::runtime::Handle,
    pub restart: Arc<dyn Fn() + Send + Sync>,
}

impl Run {
    /// Watches, and asks Vault for its leases, as long as the run lasts.
    pub fn follow(
        &self,
        clients: &Clients,
        selector: &str,
        tasks: &mut JoinSet<()>,
    ) -> Result<(), RunError> {
        let (namespace, selector) = (NAMESPACE.to_owned(), selector.to_owned());
        let backend = clients.backend()?;
        let reporter = self.reporter.clone();
        tasks.spawn(watch::jobs(backend.clone(), namespace.clone(), selector.clone(), reporter));
        let shared_watch = self.plan.scenario.cluster.node.shared_watch;
        let tellers: std::collections::BTreeMap<String, _> =
            self.nodes.iter().map(|node| (node.name().to_owned(), node.teller())).collect();
        let also = move |change: watch::PodChange| {
            if !shared_watch {
                return;
            }
            match change {
                watch::PodChange::Is(pod) => {
                    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
                    if let Some(teller) = node.and_then(|node| tellers.get(&node)) {
                        let _ = teller.send(watch::PodChange::Is(pod));
                    }
                }
                watch::PodChange::Gone(name) => {
                    for teller in tellers.values() {
                        let _ = teller.send(watch::PodChange::Gone(name.clone()));
                    }
                }
                watch::PodChange::All(_) => {}
            }
        };
        let reporter = self.reporter.clone();
        tasks.spawn(watch::pods(backend, namespace, selector, reporter, also));
        let local = Arc::clone(&self.local);
        let prefixes = leases::prefixes(&self.plan.scenario);
        tasks.spawn(leases::follow(move || local.vault(), self.book.clone(), prefixes));
        Ok(())
    }

    pub fn plan_faults(&self, tasks: &mut JoinSet<()>) {
        for (number, fault) in self.plan.faults.iter().enumerate() {
            for (at, begins) in [(fault.from, true), (fault.until, false)] {
                let reporter = self.reporter.clone();
                tasks.spawn(async move {
                    tokio::time::sleep_until(reporter.clock().instant(at)).await;
                    reporter.note(Note::Fault(number, begins));
                });
            }
        }
    }

    /// Sees to a Vault that is back: it is unsealed, and where it lost its memory it is configured
    /// again, and the leases that it forgot are told.
    fn vault_back(&self) -> impl Future<Output = ()> + Send + use<> {
        let (local, plan) = (Arc::clone(&self.local), Arc::clone(&self.plan));
        let (around, book) = (self.platform.around.clone(), self.book.clone());
        let (generation, lost) = (Arc::clone(&self.generation), Arc::clone(&self.lost));
        let reporter = self.reporter.clone();
        async move {
            let mut configured = generation.lock().await;
            if let Err(error) = local.ready(Program::Vault).await {
                return reporter.note(Note::Invalid(format!("vault did not come back: {error}")));
            }
            let now = local.generation();
            if std::mem::replace(&mut *configured, now) == now {
                return;
            }
            let forgotten = book.lost(&book.open());
            lost.fetch_add(forgotten, Ordering::SeqCst);
            reporter.note(Note::Remark(format!(
                "vault lost its memory: it knows nothing of {forgotten} leases that were alive; \
                 nobody revokes them, and at their source they live until their own time is over"
            )));
            let done = async { setup::configure(&local.vault()?, &plan.scenario, &around).await };
            if let Err(error) = done.await {
                let why = format!("vault could not be configured again: {error}");
                reporter.note(Note::Invalid(why));
            }
        }
    }

    pub async fn judge(
        &self,
        truth: &Truth,
        from: &forensics::Read,
        interrupted: bool,
    ) -> Result<(forensics::Verdict, Vec<String>), RunError> {
        // The API server writes its trail a moment after its answer.
        sleep(Duration::from_millis(300)).await;
        let trails = self.platform.trails.clone();
        let (from, truth, book) = (*from, truth.clone(), self.book.clone());
        let read =
            tokio::task::spawn_blocking(move || forensics::judge(&trails, &from, &truth, &book));
        let mut verdict = match read.await {
            Ok(verdict) => verdict?,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        let vault = self.local.vault()?;
        let left = leases::listed(&vault, &leases::prefixes(&self.plan.scenario)).await?;
        let alive: std::collections::BTreeSet<String> = self.book.open().into_iter().collect();
        verdict.leases.alive = alive.intersection(&left).count() as u64;
        verdict.leases.alive_unbooked = left.difference(&alive).count() as u64;
        verdict.leases.booked_not_alive = alive.difference(&left).count() as u64;
        let mut invalid = Vec::new();
        // Where the run was broken off, agents are in the middle of things.
        if !interrupted {
            if !verdict.leases.agrees() {
                let leases = &verdict.leases;
                invalid.push(format!("the ledger does not reconcile with vault: {leases:?}"));
            }
            if !verdict.denials.agree() {
                let denials = &verdict.denials;
                invalid.push(format!("refusals do not match the trails: {denials:?}"));
            }
        }
        Ok((verdict, invalid))
    }

    /// Takes back what the run made on a platform that is kept.
    pub async fn clean(&self, jobs: &Jobs, selector: &str, admin: Client) -> Result<(), RunError> {
        jobs.clean(selector).await?;
        let vault = self.local.vault()?;
        for prefix in leases::prefixes(&self.plan.scenario) {
            let path = format!("sys/leases/revoke-prefix/{prefix}");
            vault.write(&path, serde_json::json!({})).await?;
        }
        let api: Api<Node> = Api::all(admin);
        for node in &self.nodes {
            api.delete(node.name(), &kube::api::DeleteParams::default()).await?;
        }
        Ok(())
    }

    /// A fault of a server's process: it is killed, and started again.
    fn outage(&self, program: Program, begins: bool) {
        if begins {
            self.local.servers().kill(program);
        } else if let Err(error) = self.local.servers().release(program) {
            let why = format!("{} could not be started again: {error}", program.file());
            self.reporter.note(Note::Invalid(why));
        } else if program == Program::Vault {
            self.runtime.spawn(self.vault_back());
        }
    }

    fn seal(&self, begins: bool) {
        if !begins {
            self.runtime.spawn(self.vault_back());
            return;
        }
        let (local, reporter) = (Arc::clone(&self.local), self.reporter.clone());
        self.runtime.spawn(async move {
            let Ok(vault) = local.vault() else { return };
            if let Err(error) = vaultrs::sys::seal(vault.raw()).await {
                reporter.note(Note::Invalid(format!("vault could not be sealed: {error}")));
            }
        });
    }
}

impl Host for Run {
    fn fault(&self, number: usize, begins: bool) {
        let fault = &self.plan.faults[number];
        match fault.kind {
            FaultKind::ApiServerDown => self.outage(Program::ApiServer, begins),
            // One member alone has no other to lead meanwhile: it is down.
            FaultKind::EtcdLeaderLoss => self.outage(Program::Etcd, begins),
            FaultKind::ControllerManagerDown => self.outage(Program::ControllerManager, begins),
            FaultKind::SchedulerDown => self.outage(Program::Scheduler, begins),
            FaultKind::VaultRestart => self.outage(Program::Vault, begins),
            FaultKind::PostgresDown => self.outage(Program::Postgres, begins),
            FaultKind::VaultSealed => self.seal(begins),
            FaultKind::NodeDown => {
                if let Some(node) = self.nodes.get(fault.node as usize) {
                    node.power(!begins);
                }
            }
            FaultKind::ControllerCrash if begins => self.reporter.note(Note::ControllerCrashes),
            FaultKind::ControllerCrash => (self.restart)(),
            FaultKind::SlowFsync => {}
        }
    }

    fn look(&self) {
        for death in self.local.servers().take_deaths() {
            let name = death.program.file();
            self.reporter.note(Note::Remark(format!("{name} died, and was started again")));
            if death.program == Program::Vault {
                self.runtime.spawn(self.vault_back());
            }
        }
    }

    fn sample(&self) {
        if self.sampling.swap(true, Ordering::SeqCst) {
            return;
        }
        let (scraper, local) = (Arc::clone(&self.scraper), Arc::clone(&self.local));
        let (reporter, sampling) = (self.reporter.clone(), Arc::clone(&self.sampling));
        self.runtime.spawn(async move {
            let vault = local.vault().ok();
            let usage = local.servers().usage();
            let sample: Sample = scraper.sample(&usage, vault.as_ref(), false).await;
            let at = reporter.now();
            let fact = Fact::Sample { sample: Box::new(sample) };
            reporter.note(Note::Fact(Event::platform(at, fact)));
            sampling.store(false, Ordering::SeqCst);
        });
    }
}
