//! The engine's access to the platform during a run: watches, faults, and samples.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use alertstorm_agent::vault::VaultError;
use alertstorm_model::event::{Event, Fact};
use alertstorm_model::scenario::{FaultKind, Plan};
use alertstorm_platform::bearer::{self, Bearer, Validity};
use alertstorm_platform::bootstrap::{self, Issued, Own};
use alertstorm_platform::provider::{Program, Provider};
use alertstorm_platform::vault;
use alertstorm_platform::{Agents, Clients, Platform};
use futures::future::BoxFuture;
use kube::Client;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use crate::agent_reports::AgentReports;
use crate::engine::Host;
use crate::faults;
use crate::kubelet::{self, HollowNode};
use crate::leases;
use crate::pods::Pods;
use crate::reporter::{Observation, Reporter};
use crate::scrape::Scraper;
use crate::task::guarded;
use crate::tokens;
use crate::watch::{self, PodChange};

/// A run's platform and state, besides the engine.
pub(super) struct Run {
    pub plan: Arc<Plan>,
    pub provider: Arc<dyn Provider>,
    pub platform: Platform,
    /// Vault's token for TokenReviews.
    pub reviewer: Arc<RwLock<String>>,
    pub agent_reports: AgentReports,
    pub nodes: Vec<HollowNode>,
    pub scraper: Arc<Scraper>,
    /// Whether a sample is being taken.
    pub sampling: Arc<AtomicBool>,
    /// The generation of Vault's storage (see [`Provider::generation`]) that was configured last.
    pub generation: Arc<Mutex<u64>>,
    /// The generation of Vault's storage that holds the leases of the lease book.
    pub booked: Arc<AtomicU64>,
    pub runtime: tokio::runtime::Handle,
    /// Restarts the controller after a crash.
    pub restart: Arc<dyn Fn() + Send + Sync>,
    /// Whether shards generate the load. They also watch it, and crash their own controllers.
    pub sharded: bool,
}

impl Run {
    /// Starts the watches and the listing of Vault's leases.
    pub fn follow(&self, clients: &Clients, selector: &str, tasks: &mut JoinSet<()>) {
        if !self.sharded {
            self.watch(clients.backend().client(), selector, tasks);
        }
        let (provider, booked) = (Arc::clone(&self.provider), Arc::clone(&self.booked));
        // After Vault lost its storage its list is empty, which must not count as revocations.
        let client = move || match provider.generation() == booked.load(Ordering::SeqCst) {
            true => provider.vault(),
            false => Err(VaultError::Unavailable("it lost its storage".to_owned())),
        };
        let looking = tokens::follow(client.clone(), self.agent_reports.tokens.clone());
        let reporter = self.agent_reports.reporter.clone();
        tasks.spawn(guarded("the look-up of Vault tokens", reporter, looking));
        let (book, prefixes) = (
            self.agent_reports.book.clone(),
            leases::prefixes(self.plan.scenario(), &self.platform.names),
        );
        let in_pods = matches!(self.platform.agents, Agents::Pods(_));
        let listing = leases::follow(client, book, prefixes, in_pods);
        tasks.spawn(guarded("the listing of leases", self.agent_reports.reporter.clone(), listing));
    }

    /// Renews the tokens of the harness's ServiceAccounts before they expire.
    pub fn renew_tokens(
        &self,
        clients: &Clients,
        validities: [Validity; 3],
        tasks: &mut JoinSet<()>,
    ) {
        let [backend, scraper] = clients.bearers();
        let bearers = [Some(backend), Some(scraper), None];
        for ((own, validity), bearer) in Own::ALL.into_iter().zip(validities).zip(bearers) {
            // The Vault of a prepared environment was not configured by the run.
            if bearer.is_none() && self.platform.is_prepared {
                continue;
            }
            let reporter = self.agent_reports.reporter.clone();
            let failing = reporter.clone();
            let failed = move |error: &String| {
                failing.failed("the renewal of a ServiceAccount token", error)
            };
            let renewal = self.renewal(own, bearer);
            let renewing = bearer::keep_renewed(validity, renewal, failed, SystemTime::now);
            tasks.spawn(guarded("the renewal of a ServiceAccount token", reporter, renewing));
        }
    }

    /// Requests a token of one of the harness's identities and puts it in force: in the headers of
    /// `bearer`, or in Vault's configuration.
    fn renewal(
        &self,
        own: Own,
        bearer: Option<Bearer>,
    ) -> impl Fn() -> BoxFuture<'static, Result<Validity, String>> + Send + use<> {
        let (admin, names) = (self.platform.admin.clone(), self.platform.names.clone());
        let (provider, plan) = (Arc::clone(&self.provider), Arc::clone(&self.plan));
        let (around, reviewer) = (self.platform.around.clone(), Arc::clone(&self.reviewer));
        move || {
            let (admin, names) = (admin.clone(), names.clone());
            let (provider, plan, around) =
                (Arc::clone(&provider), Arc::clone(&plan), around.clone());
            let (reviewer, bearer) = (Arc::clone(&reviewer), bearer.clone());
            Box::pin(async move {
                let text = |error: &dyn std::fmt::Display| format!("{}: {error}", own.name());
                let issued = bootstrap::renew(&admin, own, &names).await;
                let Issued { token, validity } = issued.map_err(|error| text(&error))?;
                match bearer {
                    Some(bearer) => bearer.replace(&token).map_err(|error| text(&error))?,
                    None => {
                        let vault = provider.vault().map_err(|error| text(&error))?;
                        let scenario = plan.scenario();
                        vault::replace_reviewer(&vault, scenario, &around, &token, &names)
                            .await
                            .map_err(|error| text(&error))?;
                        *reviewer.write().unwrap_or_else(PoisonError::into_inner) = token;
                    }
                }
                Ok(validity)
            })
        }
    }

    fn watch(&self, backend: &Client, selector: &str, tasks: &mut JoinSet<()>) {
        let (namespace, selector) =
            (self.platform.names.namespace().to_owned(), selector.to_owned());
        let (client, reporter) = (backend.clone(), self.agent_reports.reporter.clone());
        let jobs = watch::jobs(client, namespace.clone(), selector.clone(), reporter.clone());
        tasks.spawn(guarded("the watch of Jobs", reporter, jobs));
        let (client, reporter) = (backend.clone(), self.agent_reports.reporter.clone());
        let pods = watch::pods(client, namespace, selector, reporter.clone(), self.also(backend));
        tasks.spawn(guarded("the watch of pods", reporter, pods));
    }

    /// The other receiver of pod changes: the hollow nodes if they share a watch, or the reader of
    /// journals.
    fn also(&self, backend: &Client) -> Box<dyn Fn(PodChange) + Send> {
        if let Agents::Pods(_) = self.platform.agents {
            let pods = Pods::new(self.agent_reports.clone(), backend.clone());
            return Box::new(move |change| pods.change(&change));
        }
        if !kubelet::shares_watch(&self.plan.scenario().cluster.node) {
            return Box::new(|_| {});
        }
        let reporter = self.agent_reports.reporter.clone();
        let senders =
            self.nodes.iter().map(|node| (node.name().to_owned(), node.changes())).collect();
        Box::new(move |change| route(&change, &senders, &reporter))
    }

    /// Starts the timers of the plan's faults.
    pub fn plan_faults(&self, tasks: &mut JoinSet<()>) {
        // With shards the controllers run in the shards, which make their crashes.
        let here = |kind| !(self.sharded && kind == FaultKind::ControllerCrash);
        faults::plan(&self.plan, &self.agent_reports.reporter, here, tasks);
    }

    /// Handles a Vault that runs again: unseals it. If it lost its storage, configures it again and
    /// records its leases as lost.
    fn vault_restarted(&self) -> impl Future<Output = ()> + Send + use<> {
        let (provider, plan) = (Arc::clone(&self.provider), Arc::clone(&self.plan));
        let (around, reviewer) = (self.platform.around.clone(), Arc::clone(&self.reviewer));
        let names = self.platform.names.clone();
        let (generation, booked) = (Arc::clone(&self.generation), Arc::clone(&self.booked));
        let AgentReports { reporter, book, tokens, .. } = self.agent_reports.clone();
        async move {
            let mut configured = generation.lock().await;
            if let Err(error) = provider.vault_ready().await {
                return reporter.send(Observation::Invalid(format!(
                    "vault did not become ready after its restart: {error}"
                )));
            }
            let now = provider.generation();
            if std::mem::replace(&mut *configured, now) == now {
                return;
            }
            let count = book.storage_lost();
            tokens.lost();
            booked.store(now, Ordering::SeqCst);
            reporter.send(Observation::Remark(format!(
                "vault lost its storage, and with it {count} leases that were alive; it will not \
                 revoke them, and their credentials stay valid until they expire"
            )));
            let reviewer = reviewer.read().unwrap_or_else(PoisonError::into_inner).clone();
            let done = async {
                vault::configure(&provider.vault()?, plan.scenario(), &around, &reviewer, &names)
                    .await
            };
            if let Err(error) = done.await {
                let why = format!("failed to configure vault after its restart: {error}");
                reporter.send(Observation::Invalid(why));
            }
        }
    }

    /// Reports the servers that died, and what else happened to the platform, since the last call; these
    /// servers.
    pub fn remark_deaths(&self) -> Vec<Program> {
        let reporter = &self.agent_reports.reporter;
        for text in self.provider.remarks() {
            reporter.send(Observation::Remark(text));
        }
        let died = self.provider.deaths();
        for program in &died {
            let name = program.file();
            reporter.send(Observation::Remark(format!("{name} died and was restarted")));
            if matches!(program, Program::ApiServer | Program::Etcd) {
                reporter.server_restarted();
            }
        }
        died
    }

    fn spawn(&self, what: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(guarded(what, self.agent_reports.reporter.clone(), task));
    }

    /// Kills a server's process, or starts it again.
    fn outage(&self, program: Program, begins: bool) {
        let (provider, reporter) =
            (Arc::clone(&self.provider), self.agent_reports.reporter.clone());
        let back = (program == Program::Vault && !begins).then(|| self.vault_restarted());
        self.spawn("an outage of a server", async move {
            if let Err(error) = provider.outage(program, begins).await {
                let what = if begins { "kill" } else { "restart" };
                let why = format!("failed to {what} {}: {error}", program.file());
                return reporter.send(Observation::Invalid(why));
            }
            if let Some(back) = back {
                back.await;
            }
        });
    }

    /// Switches a node's power.
    fn power(&self, number: u32, on: bool) {
        if let Some(node) = self.nodes.get(number as usize) {
            return node.power(on);
        }
        let (provider, reporter) =
            (Arc::clone(&self.provider), self.agent_reports.reporter.clone());
        self.spawn("the power of a node", async move {
            if let Err(error) = provider.power(number, on).await {
                let why = format!("failed to switch the power of node {number}: {error}");
                reporter.send(Observation::Invalid(why));
            }
        });
    }

    /// Seals Vault, or unseals it.
    fn seal(&self, begins: bool) {
        if !begins {
            self.spawn("the restart of Vault", self.vault_restarted());
            return;
        }
        let (provider, reporter) =
            (Arc::clone(&self.provider), self.agent_reports.reporter.clone());
        self.spawn("the sealing of Vault", async move {
            let sealed = match provider.vault() {
                Ok(vault) => {
                    vaultrs::sys::seal(vault.raw()).await.map_err(|error| error.to_string())
                }
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = sealed {
                reporter.send(Observation::Invalid(format!("failed to seal vault: {error}")));
            }
        });
    }
}

/// Sends a change of a pod to its node, and the names of all pods to every node.
fn route(
    change: &PodChange,
    nodes: &BTreeMap<String, mpsc::Sender<PodChange>>,
    reporter: &Reporter,
) {
    let send = |node: &String, changes: &mpsc::Sender<PodChange>| {
        if let Err(TrySendError::Full(_)) = changes.try_send(change.clone()) {
            let why = format!("the harness lost a change of a pod: the queue of {node} is full");
            reporter.send(Observation::Invalid(why));
        }
    };
    match change {
        PodChange::Is(pod) | PodChange::Gone(pod) => {
            let of = pod.node.as_ref().and_then(|node| nodes.get_key_value(node));
            if let Some((node, changes)) = of {
                send(node, changes);
            }
        }
        PodChange::All(_) => nodes.iter().for_each(|(node, changes)| send(node, changes)),
    }
}

impl Host for Run {
    fn fault(&self, number: usize, begins: bool) {
        let fault = self.plan.faults()[number];
        let what = if begins { "a fault begins" } else { "a fault ends" };
        tracing::info!(kind = ?fault.kind, number, "{what}");
        match fault.kind {
            FaultKind::ApiServerDown => self.outage(Program::ApiServer, begins),
            // etcd has one member, so there is no other that could become the leader.
            FaultKind::EtcdLeaderLoss => self.outage(Program::Etcd, begins),
            FaultKind::ControllerManagerDown => self.outage(Program::ControllerManager, begins),
            FaultKind::SchedulerDown => self.outage(Program::Scheduler, begins),
            FaultKind::VaultRestart => self.outage(Program::Vault, begins),
            FaultKind::PostgresDown => self.outage(Program::Postgres, begins),
            FaultKind::VaultSealed => self.seal(begins),
            FaultKind::NodeDown => self.power(fault.node, !begins),
            FaultKind::ControllerCrash if begins => {
                self.agent_reports.reporter.send(Observation::ControllerCrashes)
            }
            FaultKind::ControllerCrash => (self.restart)(),
            FaultKind::SlowFsync => {}
        }
    }

    fn check_processes(&self) {
        for program in self.remark_deaths() {
            if program == Program::Vault {
                self.spawn("the restart of Vault", self.vault_restarted());
            }
        }
    }

    fn sample(&self) {
        if self.sampling.swap(true, Ordering::SeqCst) {
            return;
        }
        let (scraper, provider) = (Arc::clone(&self.scraper), Arc::clone(&self.provider));
        let (reporter, sampling) =
            (self.agent_reports.reporter.clone(), Arc::clone(&self.sampling));
        self.spawn("the reading of metrics", async move {
            let failed = |error: &VaultError| reporter.failed("the client of Vault", error);
            let vault = provider.vault().inspect_err(failed).ok();
            let usage = provider.usage().await;
            let (sample, occupied) = scraper.sample(&usage, vault.as_ref(), false).await;
            let at = reporter.now();
            for fact in [Fact::Sample { sample: Box::new(sample) }, Fact::Occupied { of: occupied }]
            {
                reporter.send(Observation::Fact(Event::platform(at, fact)));
            }
            sampling.store(false, Ordering::SeqCst);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::reporter::Clock;
    use crate::seen::SeenPod;

    #[tokio::test]
    async fn nodes_that_share_a_watch_receive_their_own_pods_and_the_names_of_all() {
        let (reporter, mut inbox) = Reporter::new(Clock::default());
        let (senders, mut inboxes): (BTreeMap<_, _>, Vec<_>) = ["node-0", "node-1"]
            .map(|node| {
                let (sender, changes) = mpsc::channel(2);
                ((node.to_owned(), sender), changes)
            })
            .into_iter()
            .unzip();
        let pod = SeenPod { node: Some("node-1".to_owned()), ..SeenPod::default() };
        route(&PodChange::Is(Box::new(pod.clone())), &senders, &reporter);
        route(&PodChange::All(Arc::new(BTreeSet::new())), &senders, &reporter);
        let received = inboxes.iter_mut().map(|changes| {
            let kinds = std::iter::from_fn(|| changes.try_recv().ok());
            kinds.map(|change| matches!(change, PodChange::All(_))).collect::<Vec<_>>()
        });
        assert_eq!(received.collect::<Vec<_>>(), [vec![true], vec![false, true]]);
        assert!(inbox.try_recv().is_none());
        (0..3).for_each(|_| route(&PodChange::Gone(Box::new(pod.clone())), &senders, &reporter));
        assert!(matches!(inbox.try_recv(), Some(Observation::Invalid(_))), "one is lost");
    }
}
