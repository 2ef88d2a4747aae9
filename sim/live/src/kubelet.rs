//! Hollow kubelets: each node is a task with an identity of its own that registers, renews its
//! Lease, watches its pods, and runs each pod's agent as a task. Facts from pkg/kubelet v1.36.3: a
//! status update is a GET and a PATCH, container changes are seen at the next relist, a Lease is
//! renewed every 10 s, a node's status is reported every 5 min where nothing changes.

mod pod;
mod resident;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use alertstorm_agent::vault::Address;
use alertstorm_model::scenario::Plan;
use alertstorm_model::scenario::knobs::NodeRuntime;
use alertstorm_model::seed::{Purpose, Stream};
use alertstorm_platform::identity::node_name;
use alertstorm_platform::{Clients, NAMESPACE, Platform, call};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Event as KubeEvent, Node, Pod, ServiceAccount};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::agent_reports::AgentReports;
use crate::reporter::Observation;
use crate::throttle::Throttle;
use crate::watch::{PodChange, pods_of_node};

/// Period of a node's Lease: a quarter of `nodeLeaseDurationSeconds`, kubelet's default.
const LEASE_PERIOD: Duration = Duration::from_secs(10);
/// `nodeLeaseDurationSeconds`; kubelet's default.
const LEASE_DURATION_S: i32 = 40;
/// `nodeStatusReportFrequency`; kubelet's default.
const STATUS_PERIOD: Duration = Duration::from_secs(300);
/// How long a kubelet tries a call before it tells of a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// The first address that pods get, on loopback, where each agent speaks from its pod's own.
const POD_NETWORK: u32 = u32::from_be_bytes([127, 64, 0, 2]);

/// What all nodes share.
#[derive(Debug)]
pub struct Shared {
    /// The plan.
    pub plan: Arc<Plan>,
    /// Receives the agents' reports.
    pub agent_reports: AgentReports,
    /// Clients of the API server.
    pub clients: Clients,
    /// Vault.
    pub vault: Address,
    /// PostgreSQL.
    pub postgres: SocketAddr,
    next_ip: AtomicU32,
}

impl Shared {
    /// What all nodes of a run share.
    pub fn new(
        plan: Arc<Plan>,
        agent_reports: AgentReports,
        clients: Clients,
        platform: &Platform,
    ) -> Arc<Self> {
        let (vault, postgres) = (platform.vault.clone(), platform.postgres);
        let next_ip = AtomicU32::new(POD_NETWORK);
        Arc::new(Self { plan, agent_reports, clients, vault, postgres, next_ip })
    }

    fn pod_ip(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.next_ip.fetch_add(1, Ordering::Relaxed))
    }
}

/// A node that runs.
#[derive(Debug)]
pub struct HollowNode {
    name: String,
    changes: mpsc::UnboundedSender<PodChange>,
    power: watch::Sender<bool>,
}

impl HollowNode {
    /// Registers a node and starts its kubelet.
    ///
    /// # Errors
    /// Where it cannot be registered.
    pub async fn start(
        shared: Arc<Shared>,
        number: usize,
        client: Client,
        tasks: &mut JoinSet<()>,
    ) -> Result<Self, kube::Error> {
        let name = node_name(number);
        let knobs = &shared.plan.scenario().cluster.node;
        // KWOK plays many nodes with one client, and does not limit it.
        let kwok = knobs.runtime == NodeRuntime::Kwok;
        let throttle = Throttle::new(knobs.kube_api_qps.0, knobs.kube_api_burst.get());
        let kubelet = Arc::new(Kubelet {
            name: name.clone(),
            number,
            throttle: (!kwok).then_some(throttle),
            // The kubelet's eventRecordQPS and eventBurst are 50 and 100.
            events: Throttle::new(50.0, 100),
            relist_offset: relist_offset(&shared.plan, number),
            image: tokio::sync::OnceCell::new(),
            shared,
            client,
        });
        kubelet.register().await?;
        let (changes, inbox) = mpsc::unbounded_channel();
        let (power, on) = watch::channel(true);
        tasks.spawn(kubelet.run(inbox, changes.clone(), on));
        Ok(Self { name, changes, power })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where a shared watch sends the changes of the node's pods.
    pub fn changes(&self) -> mpsc::UnboundedSender<PodChange> {
        self.changes.clone()
    }

    /// Takes the node's power, or gives it back.
    pub fn power(&self, on: bool) {
        let _ = self.power.send(on);
    }
}

fn relist_offset(plan: &Plan, number: usize) -> Duration {
    let period = plan.scenario().cluster.node.relist_period.0;
    let mut stream = Stream::new(plan.scenario().seed, Purpose::PodStart, u64::MAX - number as u64);
    Duration::from_nanos(stream.below(period.max(1)))
}

/// One node's kubelet.
pub(crate) struct Kubelet {
    pub name: String,
    number: usize,
    pub shared: Arc<Shared>,
    pub client: Client,
    throttle: Option<Throttle>,
    events: Throttle,
    relist_offset: Duration,
    /// When the image is there.
    pub image: tokio::sync::OnceCell<Instant>,
}

/// A pod that the kubelet takes care of.
struct Running {
    uid: String,
    stop: watch::Sender<bool>,
    task: AbortHandle,
}

impl Kubelet {
    /// A token of the kubelet's client bucket.
    pub async fn turn(&self) {
        if let Some(throttle) = &self.throttle {
            throttle.take().await;
        }
    }

    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    pub fn accounts(&self) -> Api<ServiceAccount> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    pub fn config_maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// The instant of the next relist.
    pub fn next_relist(&self) -> Instant {
        let knobs = &self.shared.plan.scenario().cluster.node;
        let period = u128::from(knobs.relist_period.0.max(1));
        let zero =
            self.shared.agent_reports.reporter.clock().instant(alertstorm_model::time::Time::ZERO);
        let since = Instant::now().saturating_duration_since(zero + self.relist_offset).as_nanos();
        let nanos = (since / period + 1) * period;
        zero + self.relist_offset + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn status(&self) -> serde_json::Value {
        let knobs = &self.shared.plan.scenario().cluster.node;
        let now = Timestamp::now().to_string();
        let condition = |kind: &str, status: &str, reason: &str| {
            json!({
                "type": kind, "status": status, "reason": reason, "message": reason,
                "lastHeartbeatTime": now, "lastTransitionTime": now,
            })
        };
        let room = json!({
            "cpu": knobs.cpu.to_string(),
            "memory": knobs.memory.0.to_string(),
            "pods": knobs.pods.to_string(),
        });
        json!({
            "capacity": room,
            "allocatable": room,
            "conditions": [
                condition("MemoryPressure", "False", "KubeletHasSufficientMemory"),
                condition("DiskPressure", "False", "KubeletHasNoDiskPressure"),
                condition("PIDPressure", "False", "KubeletHasSufficientPID"),
                condition("Ready", "True", "KubeletReady"),
            ],
            "addresses": [
                {"type": "InternalIP", "address": "127.0.0.1"},
                {"type": "Hostname", "address": self.name},
            ],
            "nodeInfo": {
                "architecture": "amd64", "bootID": "", "containerRuntimeVersion": "hollow://1",
                "kernelVersion": "", "kubeProxyVersion": "", "kubeletVersion": "v1.36.3",
                "machineID": "", "operatingSystem": "linux", "osImage": "alertstorm", "systemUUID": "",
            },
        })
    }

    async fn register(&self) -> Result<(), kube::Error> {
        let node = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": self.name,
                "labels": {
                    "kubernetes.io/hostname": self.name,
                    "kubernetes.io/os": "linux",
                    "alertstorm.dev/hollow": "true",
                },
            },
            "status": self.status(),
        });
        let node: Node = serde_json::from_value(node).map_err(kube::Error::SerdeError)?;
        let api: Api<Node> = Api::all(self.client.clone());
        let made =
            call::patiently(PATIENCE, || async { api.create(&PostParams::default(), &node).await });
        match made.await {
            Err(error) if call::is_conflict(&error) => self.report_status().await?,
            made => drop(made?),
        }
        self.renew().await
    }

    async fn report_status(&self) -> Result<(), kube::Error> {
        let api: Api<Node> = Api::all(self.client.clone());
        let patch = json!({"status": self.status()});
        let patch = Patch::Strategic(&patch);
        api.patch_status(&self.name, &PatchParams::default(), &patch).await.map(drop)
    }

    async fn renew(&self) -> Result<(), kube::Error> {
        let api: Api<Lease> = Api::namespaced(self.client.clone(), "kube-node-lease");
        let spec = json!({
            "holderIdentity": self.name,
            "leaseDurationSeconds": LEASE_DURATION_S,
            "renewTime": format!("{:.6}", Timestamp::now()),
        });
        let patch = json!({"spec": spec});
        let renewed = api.patch(&self.name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        match renewed {
            Err(error) if call::is_gone(&error) => {
                let lease = json!({"metadata": {"name": self.name}, "spec": spec});
                let lease = serde_json::from_value(lease).map_err(kube::Error::SerdeError)?;
                api.create(&PostParams::default(), &lease).await.map(drop)
            }
            renewed => renewed.map(drop),
        }
    }

    /// Tells the API server of something, as far as the bucket of events lets it.
    pub fn event(self: &Arc<Self>, pod: &Pod, reason: &'static str, message: &'static str) {
        let involved = json!({
            "apiVersion": "v1", "kind": "Pod", "name": pod.name_any(), "namespace": NAMESPACE,
            "uid": pod.uid().unwrap_or_default(),
        });
        let kubelet = Arc::clone(self);
        let name = format!("{}.{}", pod.name_any(), reason.to_lowercase());
        tokio::spawn(async move {
            kubelet.events.take().await;
            let now = Timestamp::now().to_string();
            let event = json!({
                "metadata": {"name": name, "namespace": NAMESPACE},
                "involvedObject": involved, "reason": reason, "message": message, "type": "Normal",
                "source": {"component": "kubelet", "host": kubelet.name},
                "firstTimestamp": now, "lastTimestamp": now, "count": 1,
            });
            let Ok(event) = serde_json::from_value::<KubeEvent>(event) else { return };
            let api: Api<KubeEvent> = Api::namespaced(kubelet.client.clone(), NAMESPACE);
            // Events are best effort, as upstream's are.
            // As a kubelet does: an event that is not accepted is dropped.
            if let Err(error) = api.create(&PostParams::default(), &event).await {
                tracing::debug!(%error, "the API server did not accept a pod's event");
            }
        });
    }

    async fn run(
        self: Arc<Self>,
        mut changes: mpsc::UnboundedReceiver<PodChange>,
        sender: mpsc::UnboundedSender<PodChange>,
        mut power: watch::Receiver<bool>,
    ) {
        loop {
            let running = Arc::clone(&self).work(&mut changes, sender.clone());
            tokio::select! {
                () = running => {}
                _ = power.wait_for(|on| !*on) => {}
            }
            // Without power: what ran is gone, and nobody tells.
            if power.wait_for(|on| *on).await.is_err() {
                return;
            }
            while changes.try_recv().is_ok() {}
            if let Err(error) = self.register().await {
                let name = &self.name;
                let text = format!("{name} could not register again: {}", call::told(&error));
                self.shared.agent_reports.reporter.send(Observation::Remark(text));
            }
        }
    }

    /// The kubelet's life while there is power; its pods end with it.
    async fn work(
        self: Arc<Self>,
        changes: &mut mpsc::UnboundedReceiver<PodChange>,
        sender: mpsc::UnboundedSender<PodChange>,
    ) {
        let mut tasks = JoinSet::new();
        let shared_watch = self.shared.plan.scenario().cluster.node.shared_watch;
        if !shared_watch {
            let (client, name) = (self.client.clone(), self.name.clone());
            let reporter = self.shared.agent_reports.reporter.clone();
            tasks.spawn(async move {
                let send = |change| drop(sender.send(change));
                pods_of_node(client, NAMESPACE, &name, &reporter, send).await;
            });
        }
        // Heartbeats of many nodes are spread over the period, as they are where nodes started at
        // different times.
        let nodes = self.shared.plan.scenario().cluster.nodes.get().max(1);
        let phase = LEASE_PERIOD.mul_f64(self.number as f64 / f64::from(nodes));
        let mut heartbeat = interval_at(Instant::now() + phase, LEASE_PERIOD);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut status = interval_at(Instant::now() + STATUS_PERIOD, STATUS_PERIOD);
        let mut pods: BTreeMap<String, Running> = BTreeMap::new();
        loop {
            tokio::select! {
                change = changes.recv() => match change {
                    Some(change) => self.take(change, &mut pods, &mut tasks),
                    None => return,
                },
                _ = heartbeat.tick() => {
                    let kubelet = Arc::clone(&self);
                    // A Lease that cannot be renewed is renewed at the next beat.
                    tasks.spawn(async move { drop(kubelet.renew().await) });
                }
                _ = status.tick() => {
                    let kubelet = Arc::clone(&self);
                    tasks.spawn(async move { drop(kubelet.report_status().await) });
                }
                Some(_) = tasks.join_next() => {}
            }
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
                let task = tasks.spawn(pod::run(Arc::clone(self), *pod, asked));
                pods.insert(name, Running { uid, stop, task });
            }
            PodChange::Gone(pod) => let_go(pods, &pod.name_any()),
            PodChange::All(names) => {
                let gone: Vec<String> =
                    pods.keys().filter(|name| !names.contains(name)).cloned().collect();
                gone.iter().for_each(|name| let_go(pods, name));
            }
        }
    }
}

/// Deleted by force: the kubelet stops what it finds without an owner.
fn let_go(pods: &mut BTreeMap<String, Running>, name: &str) {
    if let Some(gone) = pods.remove(name) {
        gone.stop.send_replace(true);
        drop(gone.task);
    }
}
