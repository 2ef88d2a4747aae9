//! What the platform's counters say at an instant: in the twin the counters themselves, live a
//! scrape of /metrics. Counters are cumulative since the run's start.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time::Span;

words! {
    /// What an investigation can wait for on its critical path.
    pub enum Component {
        /// The controller's queue, for a place in the concurrency budget.
        Concurrency = "investigation controller's concurrency budget",
        /// The controller's cost budget.
        CostBudget = "investigation controller's cost budget",
        /// The controller was down.
        ControllerDown = "investigation controller's restart",
        /// The controller's connections to the API server.
        BackendClient = "backend's API connections",
        /// A seat of API Priority and Fairness.
        ApiSeats = "API server's priority and fairness seats",
        /// A core of the control plane's host.
        ControlPlaneCpu = "control plane's cores",
        /// etcd's group commit.
        Etcd = "etcd commit",
        /// The API server was down or refused.
        ApiServerDown = "API server's outage",
        /// The Job controller's client token bucket.
        JobControllerBucket = "job controller's client bucket",
        /// The Job controller's workers, busy with their own work.
        JobControllerWorkers = "job controller's sync workers",
        /// The Job controller batches syncs for a second.
        JobSyncBatch = "job controller's sync batch",
        /// The controller manager was down.
        ControllerManagerDown = "controller manager's outage",
        /// The scheduler's one-at-a-time cycle.
        SchedulerCycle = "scheduler's cycle",
        /// The scheduler's client token bucket.
        SchedulerBucket = "scheduler's client bucket",
        /// The scheduler was down.
        SchedulerDown = "scheduler's outage",
        /// Room on a node.
        NodeCapacity = "room on the nodes",
        /// The kubelet's client token bucket.
        KubeletBucket = "kubelet's client bucket",
        /// The image pull.
        ImagePull = "image pull",
        /// Sandbox and container start, and the kubelet's relist.
        PodStart = "pod start",
        /// A core of Vault's host.
        VaultCpu = "vault's cores",
        /// The lock of Vault's database plugin.
        VaultDatabaseLock = "vault database lock",
        /// Vault was sealed or restarting.
        VaultDown = "vault's outage",
        /// PostgreSQL's cores, commits and connections.
        Postgres = "PostgreSQL",
        // The digest of an event log folds a component's place in this list, so that new ones come
        // after those that logs contain.
        /// Writes to Vault's storage.
        VaultStorage = "vault's storage",
        /// Time on the critical path that is booked on no component. Never in an event log: the
        /// measures add it, so that shares add up to all of the path.
        Unexplained = "not explained",
    }
}

/// A component and how long one investigation waited for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Wait {
    /// For what.
    pub component: Component,
    /// How long.
    #[serde(rename = "ns", with = "crate::time::nanos")]
    pub span: Span,
}

/// The counters of the platform.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sample {
    /// Calls to the API server by verb, resource and level.
    pub api_calls: Vec<ApiCalls>,
    /// etcd.
    pub etcd: Etcd,
    /// Each client's token bucket.
    pub buckets: Vec<Bucket>,
    /// Depths of queues, and other levels: how many there are at this instant.
    pub depths: Vec<Depth>,
    /// Processor time by host and process.
    pub cpu: Vec<CpuUse>,
    /// TokenReviews made by Vault.
    pub token_reviews: u64,
    /// Vault's audit log.
    pub audit: AuditCount,
    /// Waits by what was waited for; filled in the last sample of a run only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<WaitSummary>,
    /// Events of the engine, or messages of the live harness, so far.
    pub engine_events: u64,
}

/// Calls to the API server of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct ApiCalls {
    /// HTTP method as Kubernetes names it: create, get, update, patch, delete.
    pub verb: String,
    /// Resource, with its subresource.
    pub resource: String,
    /// API Priority and Fairness level.
    pub level: String,
    /// Requests that came.
    pub count: u64,
    /// Requests answered 429 or refused.
    pub rejected: u64,
    /// Seats times the time they were held, in ns.
    pub seat_ns: u64,
    /// Time in the level's queues, in ns.
    pub queue_wait_ns: u64,
}

/// etcd's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Etcd {
    /// Writes committed.
    pub writes: u64,
    /// Syncs of the write-ahead log; each commits a group.
    pub fsyncs: u64,
    /// Size of the database in bytes.
    pub db_bytes: u64,
    /// Largest size of the database in bytes.
    pub db_bytes_max: u64,
}

/// A client's token bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Bucket {
    /// Whose.
    pub client: String,
    /// Tokens taken.
    pub calls: u64,
    /// Sum of the waits for one, in ns.
    pub wait_ns: u64,
    /// The longest wait, in ns.
    pub wait_max_ns: u64,
    /// How long the bucket was empty, in ns.
    pub empty_ns: u64,
}

/// How many of something there are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Depth {
    /// Of what.
    pub of: String,
    /// How many.
    pub depth: u64,
}

/// Processor time of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct CpuUse {
    /// The machine.
    pub host: String,
    /// Its cores.
    pub cores: u32,
    /// The process.
    pub process: String,
    /// Processor time, in ns.
    pub busy_ns: u64,
    /// Resident memory in bytes, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resident_bytes: Option<u64>,
}

/// Vault's audit log: how many entries name one investigation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct AuditCount {
    /// Entries with an identity: requests made with a token.
    pub entries: u64,
    /// Entries that an identity per investigation would name.
    pub named_per_investigation: u64,
    /// Entries that one shared identity would name: those made while just one investigation
    /// held it.
    pub named_shared: u64,
}

/// A distribution of waits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct WaitSummary {
    /// What was waited for.
    pub what: String,
    /// How often.
    pub count: u64,
    /// Median, in ns.
    pub p50_ns: u64,
    /// 99th percentile, in ns.
    pub p99_ns: u64,
    /// Longest, in ns.
    pub max_ns: u64,
}
