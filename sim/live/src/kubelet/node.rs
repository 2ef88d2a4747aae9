//! One hollow node's access to the API server: its Node object, its Lease, and events of its pods.

use std::sync::Arc;
use std::time::Duration;

use alertstorm_model::scenario::Plan;
use alertstorm_model::scenario::knobs::NodeRuntime;
use alertstorm_model::seed::{Purpose, Stream};
use alertstorm_model::time::Time;
use alertstorm_platform::call;
use alertstorm_platform::connection::{Caller, PatchKind};
use alertstorm_platform::identity::node_name;
use alertstorm_platform::objects::collection;
use http::Method;
use jiff::Timestamp;
use kube::ResourceExt;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::shared::Shared;
use crate::seen::SeenPod;
use crate::throttle::Throttle;

/// `nodeLeaseDurationSeconds`; kubelet's default.
const LEASE_DURATION_S: i32 = 40;
/// How long a kubelet retries a request before it reports the failure.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);
/// The kubelet's default of `eventRecordQPS`.
const EVENT_QPS: f64 = 50.0;
/// The kubelet's default of `eventBurst`.
const EVENT_BURST: u32 = 100;

/// The path of the nodes.
const NODES: &str = "/api/v1/nodes";

/// The resource version of an object.
#[derive(Deserialize)]
struct Versioned {
    metadata: Version,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    resource_version: String,
}

/// The kubelet of one node.
pub(super) struct Kubelet {
    /// The Node's name.
    pub name: String,
    /// From 0.
    pub number: usize,
    pub shared: Arc<Shared>,
    pub caller: Caller,
    /// `kubeAPIQPS` and `kubeAPIBurst`; none for KWOK.
    pub throttle: Option<Throttle>,
    events: Throttle,
    /// The resource version of the node's Lease, after its last renewal.
    lease: Mutex<Option<String>>,
    /// The first relist, from the run's start.
    relist_offset: Duration,
    /// When the image's pull ends; set by the first pod.
    pub image: tokio::sync::OnceCell<Instant>,
}

/// Nodes relist at different times, as they do where they started at different times.
fn relist_offset(plan: &Plan, number: usize) -> Duration {
    let period = plan.scenario().cluster.node.relist_period.0;
    let mut stream = Stream::new(plan.scenario().seed, Purpose::Relist, number as u64);
    Duration::from_nanos(stream.below(period.max(1)))
}

impl Kubelet {
    pub fn new(shared: Arc<Shared>, number: usize, caller: Caller) -> Self {
        let knobs = &shared.plan.scenario().cluster.node;
        // KWOK simulates many nodes with one client that has no limit.
        let kwok = knobs.runtime == NodeRuntime::Kwok;
        let throttle = Throttle::new(knobs.kube_api_qps.0, knobs.kube_api_burst.get());
        Self {
            name: node_name(number),
            number,
            throttle: (!kwok).then_some(throttle),
            events: Throttle::new(EVENT_QPS, EVENT_BURST),
            relist_offset: relist_offset(&shared.plan, number),
            lease: Mutex::default(),
            image: tokio::sync::OnceCell::new(),
            shared,
            caller,
        }
    }

    /// Waits for a token of the client's bucket.
    pub async fn turn(&self) {
        if let Some(throttle) = &self.throttle {
            throttle.take().await;
        }
    }

    /// Whether KWOK simulates the node.
    pub fn is_kwok(&self) -> bool {
        self.shared.plan.scenario().cluster.node.runtime == NodeRuntime::Kwok
    }

    /// The path of a pod of the run.
    pub fn pod(&self, name: &str) -> String {
        format!("{}/{name}", self.objects("Pod"))
    }

    /// The path of a kind's objects in the run's namespace.
    pub fn objects(&self, kind: &str) -> String {
        collection(kind, self.shared.names.namespace())
    }

    /// When the kubelet next lists its containers. It reports changes of a container only then.
    pub fn next_relist(&self) -> Instant {
        let knobs = &self.shared.plan.scenario().cluster.node;
        let period = u128::from(knobs.relist_period.0.max(1));
        let zero = self.shared.agent_reports.reporter.clock().instant(Time::ZERO);
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
        let resources = json!({
            "cpu": knobs.cpu.to_string(),
            "memory": knobs.memory.0.to_string(),
            "pods": knobs.pods.to_string(),
        });
        json!({
            "capacity": resources,
            "allocatable": resources,
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

    /// Creates the Node, or reports its status if it exists, and renews its Lease.
    pub async fn register(&self) -> Result<(), kube::Error> {
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
        let create = || self.caller.create(NODES, &node);
        match call::patiently(PATIENCE, create).await {
            Err(error) if call::is_conflict(&error) => self.report_status().await?,
            created => created?,
        }
        self.renew().await
    }

    /// Patches the Node's status.
    pub async fn report_status(&self) -> Result<(), kube::Error> {
        let (path, patch) =
            (format!("{NODES}/{}/status", self.name), json!({"status": self.status()}));
        self.caller.patch(&path, PatchKind::Strategic, &patch).await
    }

    /// Renews the Lease with an update, or creates it if there is none.
    pub async fn renew(&self) -> Result<(), kube::Error> {
        let mut version = self.lease.lock().await;
        let leases = collection("Lease", "kube-node-lease");
        let path = format!("{leases}/{}", self.name);
        // Not known after the start, and not right after another writer: kubelet reads it then.
        let known = match version.take() {
            Some(known) => Some(known),
            None => match self.caller.get::<Versioned>(&path).await {
                Err(error) if call::is_gone(&error) => None,
                found => Some(found?.metadata.resource_version),
            },
        };
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self.name, "resourceVersion": known},
            "spec": {
                "holderIdentity": self.name,
                "leaseDurationSeconds": LEASE_DURATION_S,
                "renewTime": format!("{:.6}", Timestamp::now()),
            },
        });
        let renewed: Versioned = match known {
            Some(_) => self.caller.request(Method::PUT, &path, &lease).await?,
            None => self.caller.request(Method::POST, &leases, &lease).await?,
        };
        *version = Some(renewed.metadata.resource_version);
        Ok(())
    }

    /// Creates an event of a pod in the background, once the events' bucket has a token.
    pub fn event(self: &Arc<Self>, pod: &SeenPod, reason: &'static str, message: &'static str) {
        let involved = json!({
            "apiVersion": "v1", "kind": "Pod", "name": pod.name_any(), "namespace": pod.namespace(),
            "uid": pod.uid().unwrap_or_default(),
        });
        let kubelet = Arc::clone(self);
        let name = format!("{}.{}", pod.name_any(), reason.to_lowercase());
        tokio::spawn(async move {
            kubelet.events.take().await;
            let now = Timestamp::now().to_string();
            let event = json!({
                "apiVersion": "v1", "kind": "Event",
                "metadata": {"name": name, "namespace": kubelet.shared.names.namespace()},
                "involvedObject": involved, "reason": reason, "message": message, "type": "Normal",
                "source": {"component": "kubelet", "host": kubelet.name},
                "firstTimestamp": now, "lastTimestamp": now, "count": 1,
            });
            let path = kubelet.objects("Event");
            // An event that is not accepted is dropped, as a kubelet does.
            if let Err(error) = kubelet.caller.create(&path, &event).await {
                tracing::debug!(%error, "the API server did not accept a pod's event");
            }
        });
    }
}
