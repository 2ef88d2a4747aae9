//! Hollow kubelets: each node is a task with an identity of its own that registers, renews its
//! Lease, watches its pods, and runs each pod's agent as a task. Behaviour of pkg/kubelet v1.36.3:
//! a status update is a GET and a PATCH, container changes are found at the next relist, a Lease is
//! renewed every 10 s, a node's status is reported every 5 min if nothing changes. With `node.runtime:
//! kwok` all nodes have one identity and one watch, and KWOK's stages take the place of agents.

mod kwok;
mod node;
mod pod;
mod resident;
mod shared;
mod volume;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alertstorm_model::kubelet::LEASE_PERIOD;
use alertstorm_model::scenario::knobs;
use alertstorm_model::scenario::knobs::NodeRuntime;
use alertstorm_platform::call;
use alertstorm_platform::connection::Caller;
use kube::ResourceExt;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::lags::Lag;
use crate::reporter::{Observation, duration};
use crate::task::guarded;
use crate::watch::{PodChange, bound_to, pods_of_node};
use kwok::Stages;
use node::{Kubelet, PATIENCE};
pub use shared::Shared;

/// Changes of its pods that may wait for a node's kubelet, which handles each at once.
const CHANGES_MAX: usize = 1_024;
/// `nodeStatusReportFrequency`; kubelet's default.
const STATUS_PERIOD: Duration = Duration::from_secs(300);

/// Whether the hollow nodes share the run's own watch of pods.
pub fn shares_watch(node: &knobs::Node) -> bool {
    node.shared_watch || node.runtime == NodeRuntime::Kwok
}

/// A handle to a hollow node.
#[derive(Debug)]
pub struct HollowNode {
    name: String,
    changes: mpsc::Sender<PodChange>,
    power: watch::Sender<bool>,
}

impl HollowNode {
    /// Registers a node and starts its kubelet in `tasks`.
    ///
    /// # Errors
    /// If the API server does not accept the Node or its Lease.
    pub async fn start(
        shared: Arc<Shared>,
        number: usize,
        caller: Caller,
        tasks: &mut JoinSet<()>,
    ) -> Result<Self, kube::Error> {
        let kubelet = Arc::new(Kubelet::new(shared, number, caller));
        kubelet.register().await?;
        let name = kubelet.name.clone();
        let reporter = kubelet.shared.agent_reports.reporter.clone();
        let (changes, inbox) = mpsc::channel(CHANGES_MAX);
        let (power, on) = watch::channel(true);
        tasks.spawn(guarded("a hollow kubelet", reporter, kubelet.run(inbox, changes.clone(), on)));
        Ok(Self { name, changes, power })
    }

    /// The Node's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where a shared watch sends the changes of the node's pods.
    pub fn changes(&self) -> mpsc::Sender<PodChange> {
        self.changes.clone()
    }

    /// Switches the node's power: off ends its kubelet and pods at once.
    pub fn power(&self, on: bool) {
        tracing::info!(node = self.name, on, "power of a node");
        let _ = self.power.send(on);
    }
}

/// A pod that the kubelet runs.
struct Running {
    uid: String,
    stop: watch::Sender<bool>,
    task: AbortHandle,
}

impl Kubelet {
    async fn run(
        self: Arc<Self>,
        mut changes: mpsc::Receiver<PodChange>,
        sender: mpsc::Sender<PodChange>,
        mut power: watch::Receiver<bool>,
    ) {
        let mut bound = Vec::new();
        loop {
            let first = std::mem::take(&mut bound);
            let running = Arc::clone(&self).work(first, &mut changes, sender.clone());
            tokio::select! {
                () = running => {}
                _ = power.wait_for(|on| !*on) => {}
            }
            // The power is off: all pods have ended, and nothing reports that.
            if power.wait_for(|on| *on).await.is_err() {
                return;
            }
            while changes.try_recv().is_ok() {}
            if let Err(error) = self.register().await {
                let name = &self.name;
                let text = format!("{name} failed to register again: {}", call::describe(&error));
                self.shared.agent_reports.reporter.send(Observation::Remark(text));
            }
            bound = self.bound().await;
        }
    }

    /// The pods that the node has after its power came back. A watch of its own lists them; a shared one
    /// does not report again what changed meanwhile.
    async fn bound(&self) -> Vec<PodChange> {
        if !shares_watch(&self.shared.plan.scenario().cluster.node) {
            return Vec::new();
        }
        let (client, namespace) = (self.caller.client(), self.shared.names.namespace());
        let listed = call::patiently(PATIENCE, || bound_to(client, namespace, &self.name)).await;
        listed.unwrap_or_else(|error| {
            let text = format!("{} failed to list its pods: {}", self.name, call::describe(&error));
            self.shared.agent_reports.reporter.send(Observation::Invalid(text));
            Vec::new()
        })
    }

    /// Counts an error of something that is done again at its next turn.
    fn failed(&self, what: &'static str, error: &kube::Error) {
        let error = format!("{}: {}", self.name, call::describe(error));
        self.shared.agent_reports.reporter.failed(what, &error);
    }

    /// Runs the kubelet and its pods until the future is dropped. It handles the changes `first` before
    /// those that it receives.
    async fn work(
        self: Arc<Self>,
        first: Vec<PodChange>,
        changes: &mut mpsc::Receiver<PodChange>,
        sender: mpsc::Sender<PodChange>,
    ) {
        let mut tasks = JoinSet::new();
        if !shares_watch(&self.shared.plan.scenario().cluster.node) {
            let (client, name) = (self.caller.client().clone(), self.name.clone());
            let namespace = self.shared.names.namespace().to_owned();
            let reporter = self.shared.agent_reports.reporter.clone();
            let watch = pods_of_node(client, namespace, name, reporter.clone(), sender);
            tasks.spawn(guarded("a node's watch of its pods", reporter, watch));
        }
        // Spreads the nodes' renewals over the period, as they are where nodes started at different
        // times.
        let nodes = self.shared.plan.scenario().cluster.nodes.get().max(1);
        let period = duration(LEASE_PERIOD);
        let phase = period.mul_f64(self.number as f64 / f64::from(nodes));
        let mut heartbeat = interval_at(Instant::now() + phase, period);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut status = interval_at(Instant::now() + STATUS_PERIOD, STATUS_PERIOD);
        let mut pods: BTreeMap<String, Running> = BTreeMap::new();
        let mut stages = Stages::default();
        let mut handle = |change, tasks: &mut JoinSet<()>| match self.is_kwok() {
            true => self.play(change, &mut stages, tasks),
            false => self.take(change, &mut pods, tasks),
        };
        first.into_iter().for_each(|change| handle(change, &mut tasks));
        loop {
            tokio::select! {
                change = changes.recv() => match change {
                    Some(change) => handle(change, &mut tasks),
                    None => return,
                },
                due = heartbeat.tick() => {
                    self.shared.agent_reports.reporter.late(Lag::Heartbeat, due.elapsed());
                    let kubelet = Arc::clone(&self);
                    // After a failure the Lease is renewed at the next tick.
                    tasks.spawn(async move {
                        if let Err(error) = kubelet.renew().await {
                            kubelet.failed("the renewal of a node's Lease", &error);
                        }
                    });
                }
                _ = status.tick() => {
                    let kubelet = Arc::clone(&self);
                    tasks.spawn(async move {
                        if let Err(error) = kubelet.report_status().await {
                            kubelet.failed("the status of a node", &error);
                        }
                    });
                }
                Some(_) = tasks.join_next() => {}
            }
        }
    }

    /// Plays the next stage of a pod, if it has one.
    fn play(self: &Arc<Self>, change: PodChange, stages: &mut Stages, tasks: &mut JoinSet<()>) {
        if let (Some(stage), PodChange::Is(pod)) = (stages.next(&change), change) {
            let reporter = self.shared.agent_reports.reporter.clone();
            let play = kwok::play(Arc::clone(self), pod, stage);
            tasks.spawn(guarded("a stage of a pod", reporter, play));
        }
    }

    fn take(
        self: &Arc<Self>,
        change: PodChange,
        pods: &mut BTreeMap<String, Running>,
        tasks: &mut JoinSet<()>,
    ) {
        match change {
            PodChange::Is(pod) => {
                let (name, uid) = (pod.name_any(), pod.uid().unwrap_or_default());
                if let Some(known) = pods.get(&name).filter(|known| known.uid == uid) {
                    if pod.metadata.deletion_timestamp.is_some() {
                        known.stop.send_replace(true);
                    }
                    return;
                }
                let (stop, asked) = watch::channel(pod.metadata.deletion_timestamp.is_some());
                let reporter = self.shared.agent_reports.reporter.clone();
                let life = pod::run(Arc::clone(self), pod, asked);
                let task = tasks.spawn(guarded("the life of a pod", reporter, life));
                pods.insert(name, Running { uid, stop, task });
            }
            PodChange::Gone(pod) => stop(pods, &pod.name_any()),
            PodChange::All(names) => {
                let gone: Vec<String> =
                    pods.keys().filter(|name| !names.contains(*name)).cloned().collect();
                gone.iter().for_each(|name| stop(pods, name));
            }
        }
    }
}

/// Stops a pod that was deleted without its kubelet: by force, or while the watch was down.
fn stop(pods: &mut BTreeMap<String, Running>, name: &str) {
    if let Some(gone) = pods.remove(name) {
        gone.stop.send_replace(true);
        drop(gone.task);
    }
}
