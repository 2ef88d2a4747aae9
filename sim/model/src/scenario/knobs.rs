//! The knobs of the platform: what a scenario can set, with the default of each. Where upstream has
//! a default, it is used, and its source is given: paths are those of Kubernetes v1.36.3, etcd
//! v3.6.16 and Vault v1.21.1. Other defaults are assumptions.

use std::num::{NonZeroU32, NonZeroU64};

use deserr::Deserr;
use schemars::JsonSchema;
use serde::Serialize;

use crate::input::{Problems, parsed};
use crate::knobs;
use crate::quantity::{Amount, Bytes, Quantity, Share};
use crate::spread::Spread;
use crate::time::Span;

/// A count from a literal. Panics if `n` is 0, at compile time in a constant.
pub const fn count(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).expect("not 0")
}

/// A number above 0.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Positive(#[schemars(extend("exclusiveMinimum" = 0))] pub f64);

impl<E: deserr::DeserializeError> Deserr<E> for Positive {
    fn deserialize_from_value<V: deserr::IntoValue>(
        value: deserr::Value<V>,
        location: deserr::ValuePointerRef<'_>,
    ) -> Result<Self, E> {
        let above_zero = |text: &str| Some(Amount::parse(text)?.0).filter(|n| *n > 0.0);
        parsed(value, location, above_zero, "a number above 0").map(Self)
    }
}

/// Value of a command-line flag. Numbers and booleans are kept as they are written in the scenario.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct FlagValue(pub String);

impl JsonSchema for FlagValue {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "FlagValue".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": ["string", "number", "boolean"]})
    }
}

impl<E: deserr::DeserializeError> Deserr<E> for FlagValue {
    fn deserialize_from_value<V: deserr::IntoValue>(
        value: deserr::Value<V>,
        location: deserr::ValuePointerRef<'_>,
    ) -> Result<Self, E> {
        let scalar = !matches!(value.kind(), deserr::ValueKind::Map | deserr::ValueKind::Sequence);
        let of = |text: &str| scalar.then(|| text.to_owned());
        parsed(value, location, of, "a flag's value").map(Self)
    }
}

/// Command-line flags of a server, by name without dashes: for settings that have no knob. Only
/// used on real servers; the twin ignores them. A flag that the server does not have is an error
/// before anything is started.
pub type Flags = std::collections::BTreeMap<String, FlagValue>;

words! {
    /// When the controller creates the Job of an alert.
    pub enum Admission {
        /// When there is room in the concurrency and cost budgets; until then the alert waits in a
        /// bounded priority queue.
        Queue = "queue",
        /// At once, without budgets or a queue.
        Direct = "direct",
    }
}

words! {
    /// Order in which alerts leave the queue.
    pub enum QueueOrder {
        /// The most severe first; an alert that has waited for `aging` outranks one that is a step
        /// more severe and has just arrived.
        Severity = "severity",
        /// In the order of arrival.
        Age = "age",
    }
}

words! {
    /// Software that runs the pods of a node.
    pub enum NodeRuntime {
        /// A kubelet and a container runtime.
        Kubelet = "kubelet",
        /// KWOK with its `fast` stages: pods run and complete at once, and no agent runs. With `--on
        /// local` the hollow nodes play these stages with KWOK's calls. `--on kind` and `--on cluster`,
        /// whose kubelets are real, refuse it.
        Kwok = "kwok",
    }
}

words! {
    /// Auth method with which agents log in to Vault.
    pub enum AuthMethod {
        /// Vault asks the API server (TokenReview) at each login.
        Kubernetes = "kubernetes",
        /// Vault checks the token's signature itself.
        Jwt = "jwt",
    }
}

words! {
    /// Vault's secrets engine that issues a credential.
    pub enum Engine {
        /// Database engine: creates a role in PostgreSQL, and drops it on revocation.
        Postgresql = "postgresql",
        /// PKI engine: a private key and a certificate.
        Pki = "pki",
        /// KV engine: a stored secret, without a lease.
        Kv = "kv",
        /// Kubernetes engine: a ServiceAccount token, issued by the API server.
        Kubernetes = "kubernetes",
    }
}

impl Engine {
    /// Whether its leases can be renewed. Certificates and tokens of the API server cannot: they
    /// contain their expiry (builtin/logical/pki, vault-plugin-secrets-kubernetes v0.11).
    pub const fn renews(self) -> bool {
        matches!(self, Self::Postgresql)
    }
}

words! {
    /// Vault's storage backend.
    pub enum VaultStorage {
        /// In memory, as with `vault server -dev`; lost at a restart.
        Inmem = "inmem",
        /// Integrated storage: each write is synced to disk.
        Raft = "raft",
    }
}

knobs! {
    /// Settings of the investigation controller.
    pub struct Controller {
        /// Whether alerts are queued and limited, or each gets its Job at once. With `direct`,
        /// `concurrency`, `cost_budget`, `dedup_window` and `queue` are not used.
        admission: Admission = Admission::Queue,
        /// Largest number of investigations that run at the same time.
        concurrency: NonZeroU32 = count(150),
        /// Limit on the LLM cost of investigations; no limit if it is not set.
        cost_budget: Option<CostBudget> = None,
        /// An alert starts no investigation if one with the same fingerprint was accepted within
        /// this time. 0 turns deduplication off.
        dedup_window: Span = Span::secs(300),
        /// Size and order of the queue.
        queue: Queue = Queue::default(),
        /// How often a sender delivers a shed alert again, each time after the pause that the
        /// controller returned (Retry-After).
        sender_retries: u32 = 0,
        /// The Job of an investigation.
        job: Job = Job::default(),
        /// The controller's Kubernetes client.
        client: BackendClient = BackendClient::default(),
    }

    /// The controller's bounded priority queue. Only used with `admission: queue`.
    pub struct Queue {
        /// Largest number of waiting alerts. When it is reached, back pressure begins: new alerts
        /// are shed, unless a less severe one waits, which is shed in their place.
        limit: NonZeroU32 = count(500),
        /// Order in which alerts leave the queue.
        order: QueueOrder = QueueOrder::Severity,
        /// Waiting time that counts as much as one step of severity. Not used with `order: age`.
        aging: Span = Span::secs(600),
        /// Back pressure ends when the length of the queue is down to this share of `limit`.
        low_water: Share = Share(0.8),
    }

    /// Limit on the LLM cost of investigations in a time window. Windows follow each other from the
    /// start of the run. No investigation starts unless its reserve fits into the budget.
    pub struct CostBudget {
        /// Budget of a window, in dollars.
        usd: Positive = Positive(100.0),
        /// Length of a window.
        per: Span = Span::secs(3600),
        /// Dollars reserved for each running investigation, until its real cost is known.
        reserve_usd: Amount = Amount(0.5),
    }

    /// The Kubernetes Job of an investigation.
    pub struct Job {
        /// `spec.activeDeadlineSeconds`: Kubernetes stops the agent after this time.
        active_deadline: Span = Span::secs(900),
        /// `spec.ttlSecondsAfterFinished`: Kubernetes deletes the finished Job after this time.
        ttl_after_finished: Span = Span::secs(3600),
        /// Memory limit of the container; an agent above it is OOM-killed.
        memory_limit: Bytes = Bytes::gibi(4),
        /// Memory request of the container, for which the scheduler needs room on a node.
        memory_request: Bytes = Bytes::gibi(1),
        /// CPU request of the container, in thousandths of a core.
        cpu_request_millis: u32 = 250,
    }

    /// The controller's Kubernetes client. It has no rate limit by default, like clients made with
    /// kube-rs; client-go's default is 5 requests per second with a burst of 10.
    pub struct BackendClient {
        /// Largest number of concurrent requests.
        connections: NonZeroU32 = count(16),
        /// Rate limit, in requests per second; no limit if it is not set.
        kube_api_qps: Option<Positive> = None,
        /// Burst above `kube_api_qps`, in requests; client-go's default. Not used without a rate
        /// limit.
        kube_api_burst: NonZeroU32 = count(10),
        /// Processor time that the controller needs for a Job. It only counts with
        /// `shared_with_everything`.
        cpu_per_job: Span = Span::millis(1),
    }

    /// Flags of kube-apiserver.
    pub struct ApiServer {
        /// `--max-requests-inflight`; upstream's default (apiserver/pkg/server/config.go).
        max_requests_inflight: NonZeroU32 = count(400),
        /// `--max-mutating-requests-inflight`; upstream's default (apiserver/pkg/server/config.go).
        /// API Priority and Fairness distributes the sum of both limits as seats.
        max_mutating_requests_inflight: NonZeroU32 = count(200),
        /// Further flags, by name without dashes. Only used on real servers.
        flags: Flags = Flags::new(),
    }

    /// Flags and disk of etcd.
    pub struct EtcdKnobs {
        /// Duration of a sync of the write-ahead log. The default is that of a local SSD; etcd's
        /// documentation recommends a 99th percentile below 10 ms.
        fsync: Spread<Span> = Spread::log_normal("1.5ms", "4ms"),
        /// `--quota-backend-bytes`; upstream's default (server/storage/quota.go). Above it, every
        /// write fails.
        quota: Bytes = Bytes::gibi(2),
        /// `--etcd-compaction-interval` of kube-apiserver; upstream's default
        /// (apiserver/pkg/storage/storagebackend/config.go).
        compaction_interval: Span = Span::secs(300),
        /// Further flags, by name without dashes. Only used on real servers.
        flags: Flags = Flags::new(),
    }

    /// Flags of kube-controller-manager.
    pub struct ControllerManager {
        /// `--kube-api-qps`, in requests per second; upstream's default
        /// (pkg/controller/apis/config/v1alpha1/defaults.go). Each controller has its own token
        /// bucket, which its Kubernetes Events use too.
        kube_api_qps: Positive = Positive(20.0),
        /// `--kube-api-burst`, in requests; upstream's default (the same file).
        kube_api_burst: NonZeroU32 = count(30),
        /// `--concurrent-job-syncs`; upstream's default (pkg/controller/job/config/v1alpha1).
        concurrent_job_syncs: NonZeroU32 = count(5),
        /// `--concurrent-ttl-after-finished-syncs`; upstream's default
        /// (pkg/controller/ttlafterfinished/config/v1alpha1).
        concurrent_ttl_syncs: NonZeroU32 = count(5),
        /// `--concurrent-gc-syncs`; upstream's default (pkg/controller/garbagecollector).
        concurrent_gc_syncs: NonZeroU32 = count(20),
        /// `--node-monitor-grace-period`; upstream's default (pkg/controller/nodelifecycle).
        node_monitor_grace_period: Span = Span::secs(50),
        /// How long a pod tolerates a node that is not ready, before it is evicted; the default of
        /// the admission plugin DefaultTolerationSeconds.
        not_ready_toleration: Span = Span::secs(300),
        /// Further flags, by name without dashes. Only used on real servers.
        flags: Flags = Flags::new(),
    }

    /// Flags of kube-scheduler.
    pub struct Scheduler {
        /// `--kube-api-qps`, in requests per second; upstream's default
        /// (pkg/scheduler/apis/config/v1/defaults.go). It limits bindings; Kubernetes Events have a
        /// token bucket of their own.
        kube_api_qps: Positive = Positive(50.0),
        /// `--kube-api-burst`, in requests; upstream's default (the same file).
        kube_api_burst: NonZeroU32 = count(100),
        /// Further flags, by name without dashes. Only used on real servers.
        flags: Flags = Flags::new(),
    }

    /// The Kubernetes control plane. All of its processes run on one machine.
    pub struct ControlPlane {
        /// Cores of the machine. Only used in the twin.
        cores: NonZeroU32 = count(4),
        /// Whether kubelets or KWOK, the controller, Vault and PostgreSQL run on the same machine
        /// and compete for its cores, as on a laptop or in CI.
        shared_with_everything: bool = false,
        /// kube-apiserver.
        apiserver: ApiServer = ApiServer::default(),
        /// etcd.
        etcd: EtcdKnobs = EtcdKnobs::default(),
        /// kube-controller-manager.
        controller_manager: ControllerManager = ControllerManager::default(),
        /// kube-scheduler.
        scheduler: Scheduler = Scheduler::default(),
    }

    /// A node of the cluster. All nodes are the same.
    pub struct Node {
        /// Software that runs the pods.
        runtime: NodeRuntime = NodeRuntime::Kubelet,
        /// Allocatable CPU, in cores: the sum of requests that the scheduler places on the node.
        cpu: NonZeroU32 = count(8),
        /// Allocatable memory: the sum of requests that the scheduler places on the node.
        memory: Bytes = Bytes::gibi(32),
        /// `maxPods`; upstream's default (pkg/kubelet/apis/config/v1beta1/defaults.go).
        pods: NonZeroU32 = count(110),
        /// `kubeAPIQPS`, in requests per second; upstream's default (the same file).
        kube_api_qps: Positive = Positive(50.0),
        /// `kubeAPIBurst`, in requests; upstream's default (the same file).
        kube_api_burst: NonZeroU32 = count(100),
        /// Duration of the first pull of the agent's image on a node. Not used with
        /// `image_present`.
        image_pull: Spread<Span> = Spread::log_normal("6s", "15s"),
        /// Whether every node has the agent's image when the run starts.
        image_present: bool = true,
        /// Duration of creating the pod sandbox and its network.
        sandbox_start: Spread<Span> = Spread::log_normal("250ms", "700ms"),
        /// Duration of creating and starting the container.
        container_start: Spread<Span> = Spread::log_normal("120ms", "300ms"),
        /// Only used with `--on local`: whether the simulated kubelets share one watch on pods.
        /// Real kubelets have one each.
        shared_watch: bool = false,
        /// Interval at which the kubelet checks the state of its containers;
        /// `genericPlegRelistPeriod` in pkg/kubelet/kubelet.go.
        relist_period: Span = Span::secs(1),
    }

    /// The Kubernetes cluster.
    pub struct Cluster {
        /// Number of worker nodes.
        nodes: NonZeroU32 = count(20),
        /// The settings of every node.
        node: Node = Node::default(),
        /// The control plane.
        control_plane: ControlPlane = ControlPlane::default(),
        /// Network round-trip time between two machines. Only used in the twin.
        network_rtt: Span = Span::micros(500),
    }

    /// Vault's secrets engine for the credentials of a domain.
    pub struct SecretEngine {
        /// Type of the engine.
        engine: Engine = Engine::Kv,
        /// TTL of a lease. The agent renews it after two thirds of it, if the engine allows that.
        ttl: Span = Span::secs(300),
        /// Maximum TTL of a lease, renewals included. Vault's default is 768 h
        /// (`maxLeaseTTL` in vault/expiration.go).
        max_ttl: Span = Span::secs(3600),
        /// Number of database configurations that share the load; only used by `postgresql`.
        /// Vault's plugin holds a lock per configuration, so each creates one credential at a time.
        configs: NonZeroU32 = count(1),
    }

    /// The secrets engine of each domain: by default `pki` for network, `postgresql` for database,
    /// and `kv` for the others.
    pub struct Secrets {
        /// Credentials for network data.
        network: SecretEngine = SecretEngine { engine: Engine::Pki, ..SecretEngine::default() },
        /// Credentials for databases.
        database: SecretEngine =
            SecretEngine { engine: Engine::Postgresql, ..SecretEngine::default() },
        /// Credentials for applications.
        application: SecretEngine = SecretEngine::default(),
        /// Credentials for security data.
        security: SecretEngine = SecretEngine::default(),
    }

    /// HashiCorp Vault.
    pub struct Vault {
        /// Auth method with which agents log in.
        auth: AuthMethod = AuthMethod::Kubernetes,
        /// Cores of its machine. Not used with `shared_with_everything`.
        cores: NonZeroU32 = count(2),
        /// Storage backend.
        storage: VaultStorage = VaultStorage::Raft,
        /// `token_ttl` of the role. When the token expires, all leases issued with it are revoked.
        token_ttl: Span = Span::secs(1200),
        /// `VAULT_NUM_EXPIRATION_WORKERS`: concurrent revocations; upstream's default
        /// (`numExpirationWorkersDefault` in vault/expiration.go).
        revocation_workers: NonZeroU32 = count(200),
        /// How long an agent retries a failed request to Vault before it gives up.
        client_timeout: Span = Span::secs(120),
        /// The secrets engine of each domain.
        secrets: Secrets = Secrets::default(),
    }

    /// The PostgreSQL server for which Vault's database engine issues credentials.
    pub struct Postgres {
        /// Cores of its machine. Not used with `shared_with_everything`.
        cores: NonZeroU32 = count(2),
        /// `max_connections`; PostgreSQL's default.
        max_connections: NonZeroU32 = count(100),
        /// Duration of the write-ahead log's sync at each commit; by default that of a local SSD.
        fsync: Spread<Span> = Spread::log_normal("1.5ms", "4ms"),
        /// Further settings of postgresql.conf, by name. Only used on real servers.
        flags: Flags = Flags::new(),
    }

    /// Limits on the length of the run and on what is recorded of it.
    pub struct Limits {
        /// The run ends after this time; investigations that still run count as unfinished. 0 means
        /// no limit.
        run_for: Span = Span::ZERO,
        /// Interval between two samples of the platform's counters. 0 means about 300 samples, at
        /// least a second apart.
        sample_every: Span = Span::ZERO,
        /// The event log is only written if the scenario has at most this many alerts.
        events_up_to: NonZeroU64 = NonZeroU64::new(100_000).expect("not 0"),
    }
}

impl Secrets {
    /// The settings for `domain`.
    pub const fn of(&self, domain: crate::investigation::Domain) -> &SecretEngine {
        use crate::investigation::Domain;
        match domain {
            Domain::Network => &self.network,
            Domain::Database => &self.database,
            Domain::Application => &self.application,
            Domain::Security => &self.security,
        }
    }
}
