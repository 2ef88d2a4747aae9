//! Samples of the platform's counters. In the twin they are read from the model; live they are
//! scraped from the servers' /metrics. Counters are cumulative since the start of the run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time::Span;

words! {
    /// A component that an investigation can wait for on its critical path.
    pub enum Component {
        /// In the controller's queue, until the concurrency budget has a free slot.
        Concurrency = "investigation controller's concurrency budget",
        /// In the controller's queue, until the cost budget has room for the reserve.
        CostBudget = "investigation controller's cost budget",
        /// Until the controller was restarted.
        ControllerDown = "investigation controller's restart",
        /// For a free connection or a token of the controller's Kubernetes client.
        BackendClient = "backend's API connections",
        /// In a queue of API Priority and Fairness, for a seat.
        ApiSeats = "API server's priority and fairness seats",
        /// For a core of the control plane's machine.
        ControlPlaneCpu = "control plane's cores",
        /// For the sync of etcd's write-ahead log, which commits a group of writes.
        Etcd = "etcd commit",
        /// Until the API server accepted requests again.
        ApiServerDown = "API server's outage",
        /// For a token of the Job controller's client (`kube_api_qps`).
        JobControllerBucket = "job controller's client bucket",
        /// For a free sync worker of the Job controller.
        JobControllerWorkers = "job controller's sync workers",
        /// For the Job controller's batch period: it delays a sync by up to one second.
        JobSyncBatch = "job controller's sync batch",
        /// Until kube-controller-manager was restarted.
        ControllerManagerDown = "controller manager's outage",
        /// For the scheduler, which schedules one pod at a time.
        SchedulerCycle = "scheduler's cycle",
        /// For a token of the scheduler's client (`kube_api_qps`).
        SchedulerBucket = "scheduler's client bucket",
        /// Until kube-scheduler was restarted.
        SchedulerDown = "scheduler's outage",
        /// For a node with room for the pod's requests.
        NodeCapacity = "room on the nodes",
        /// For a token of the kubelet's client (`kube_api_qps` of the node).
        KubeletBucket = "kubelet's client bucket",
        /// For the pull of the agent's image.
        ImagePull = "image pull",
        /// For the start of sandbox and container, and for the kubelet to notice it.
        PodStart = "pod start",
        /// For a core of Vault's machine.
        VaultCpu = "vault's cores",
        /// For the lock of a configuration of Vault's database plugin.
        VaultDatabaseLock = "vault database lock",
        /// Until Vault was unsealed.
        VaultDown = "vault's outage",
        /// For a core, a commit or a connection of PostgreSQL.
        Postgres = "PostgreSQL",
        // The digest of an event log contains the index of a component. New components must come
        // after all that occur in logs.
        /// For a write to Vault's storage.
        VaultStorage = "vault's storage",
        /// Time on the critical path that is attributed to no component. Never in an event log: it
        /// is added by the measures, so that the shares of a path add up to 1.
        Unexplained = "not explained",
        /// The agent's own work, between its start and its end. Never in an event log: the measures
        /// add it to the path to the Job's end, which includes it.
        AgentWork = "agent's own work",
    }
}

/// A component and how long one investigation waited for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Wait {
    /// The component.
    pub component: Component,
    /// Sum of the waits for it.
    #[serde(rename = "ns", with = "crate::time::nanos")]
    pub span: Span,
}

/// The platform's counters at one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sample {
    /// Requests to the API server. In the twin by verb, resource and priority level; live there are
    /// entries by verb and resource, and others by level alone.
    pub api_calls: Vec<ApiCalls>,
    /// etcd's counters.
    pub etcd: Etcd,
    /// Token buckets of rate-limited clients.
    pub buckets: Vec<Bucket>,
    /// Lengths of queues and other gauges, at this instant.
    pub depths: Vec<Depth>,
    /// Processor time by host and process.
    pub cpu: Vec<CpuUse>,
    /// TokenReviews requested from the API server; one per Kubernetes login to Vault.
    pub token_reviews: u64,
    /// Entries of Vault's audit log. Live, only the last sample of a run has them.
    pub audit: AuditCount,
    /// Distributions of waits. Only the last sample of a run has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<WaitSummary>,
    /// Events that the twin's engine has processed so far; 0 on real servers.
    pub engine_events: u64,
}

/// Requests to the API server of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct ApiCalls {
    /// Kubernetes' name of the method, such as `create`; `all` in entries by priority level.
    pub verb: String,
    /// Resource with its subresource, such as `pods/status`; `all` in entries by priority level.
    pub resource: String,
    /// Priority level of API Priority and Fairness. Live, empty in entries by verb and resource.
    pub level: String,
    /// Requests received, including rejected ones.
    pub count: u64,
    /// Rejected requests, such as with status 429 by API Priority and Fairness.
    pub rejected: u64,
    /// Sum over requests of seats times the time that they were occupied, in ns. Live, 0 in entries
    /// by verb and resource.
    pub seat_ns: u64,
    /// Sum over requests of the time in the priority level's queues, in ns. Live, 0 in entries by
    /// verb and resource.
    pub queue_wait_ns: u64,
}

impl ApiCalls {
    /// Verb and resource of an entry by priority level alone.
    const ALL: &str = "all";

    /// An empty entry by priority level. Its requests are also in entries by verb and resource.
    pub fn of_level(level: &str) -> Self {
        let all = || Self::ALL.to_owned();
        Self { verb: all(), resource: all(), level: level.to_owned(), ..Self::default() }
    }

    /// Number of requests, each counted once.
    pub fn total(calls: &[Self]) -> u64 {
        Self::by_resource(calls).map(|calls| calls.count).sum()
    }

    /// The entries by verb and resource, in which each request is counted once.
    pub fn by_resource(calls: &[Self]) -> impl Iterator<Item = &Self> {
        calls.iter().filter(|calls| calls.resource != Self::ALL)
    }
}

/// etcd's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Etcd {
    /// Committed writes.
    pub writes: u64,
    /// Syncs of the write-ahead log; one sync commits a group of writes.
    pub fsyncs: u64,
    /// Size of the database in bytes, at this instant.
    pub db_bytes: u64,
    /// Largest size of the database in bytes so far.
    pub db_bytes_max: u64,
}

/// Counters of a client's token bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Bucket {
    /// Name of the client, such as `job-controller`. The buckets of all kubelets are added up.
    pub client: String,
    /// Tokens taken, one per request.
    pub calls: u64,
    /// Sum of the waits for a token, in ns.
    pub wait_ns: u64,
    /// Longest wait for a token, in ns; 0 on real servers, which do not report it.
    pub wait_max_ns: u64,
    /// Time during which the bucket was empty, in ns; 0 on real servers, which do not report it.
    pub empty_ns: u64,
}

/// The length of a queue, or another gauge, at one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Depth {
    /// Name of the gauge, such as `scheduler queue`.
    pub of: String,
    /// Its value.
    pub depth: u64,
}

/// Processor time of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct CpuUse {
    /// Name of the machine: `control plane`, `vault` or `postgres`; live `this machine`.
    pub host: String,
    /// Number of cores of the machine.
    pub cores: u32,
    /// Name of the process.
    pub process: String,
    /// Processor time of the process, user and system, in ns.
    pub busy_ns: u64,
    /// Resident memory in bytes; empty in the twin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resident_bytes: Option<u64>,
}

/// Entries of Vault's audit log, and how many of them identify one investigation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct AuditCount {
    /// Entries that carry the identity of an agent's token. A request has two: one for itself, one
    /// for the response. On real servers requests are counted instead.
    pub entries: u64,
    /// Entries that identify one investigation by its own identity. In the twin this is computed as
    /// if each investigation had one.
    pub named_per_investigation: u64,
    /// Entries that identify one investigation although the identity is shared: in the twin, those
    /// made while a single investigation held a token; on real servers, those that the audit trail
    /// of Jobs and pods resolves.
    pub named_shared: u64,
}

/// Distribution of waits of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct WaitSummary {
    /// What was waited for, such as `etcd commit`.
    pub what: String,
    /// Number of waits, including those of zero length.
    pub count: u64,
    /// Median, in ns.
    pub p50_ns: u64,
    /// 99th percentile, in ns.
    pub p99_ns: u64,
    /// Longest wait, in ns.
    pub max_ns: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_by_priority_level_repeat_requests_and_are_not_counted() {
        let entry = |verb: &str, count| ApiCalls {
            verb: verb.to_owned(),
            resource: "pods".to_owned(),
            count,
            ..ApiCalls::default()
        };
        let level = ApiCalls { count: 7, ..ApiCalls::of_level("workload-low") };
        assert_eq!(ApiCalls::total(&[entry("get", 4), entry("create", 3), level]), 7);
    }
}
