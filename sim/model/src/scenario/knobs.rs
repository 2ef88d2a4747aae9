//! The knobs of the platform: what a scenario may set, with the default of each. A default is
//! upstream's wherever there is one; its source stands beside it.

use std::num::{NonZeroU32, NonZeroU64};

use deserr::Deserr;
use schemars::JsonSchema;
use serde::Serialize;

use crate::input::{Problems, parsed};
use crate::knobs;
use crate::quantity::{Amount, Bytes, Quantity, Share};
use crate::spread::Spread;
use crate::time::Span;

/// `n`, which is not 0: for literals.
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

/// A flag's value: text, or a number or truth value as a flag is written.
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

/// Flags of a server by their names, for a live world: what has no knob of its own. The twin does
/// not know them. A flag that the server does not have is an error before anything is started.
pub type Flags = std::collections::BTreeMap<String, FlagValue>;

words! {
    /// What the controller does with an alert.
    pub enum Admission {
        /// Budget, priority queue, back pressure.
        Queue = "queue",
        /// A Job for each alert at once: what the plain backend does.
        Direct = "direct",
    }
}

words! {
    /// In what order the queue is served.
    pub enum QueueOrder {
        /// The most severe first; waiting counts too (`aging`).
        Severity = "severity",
        /// First come, first served.
        Age = "age",
    }
}

words! {
    /// What runs the pods.
    pub enum NodeRuntime {
        /// A kubelet and a container runtime.
        Kubelet = "kubelet",
        /// KWOK with its `fast` stages: pods run and complete at once.
        Kwok = "kwok",
    }
}

words! {
    /// How an agent proves who it is to Vault.
    pub enum AuthMethod {
        /// Vault asks the API server (TokenReview) at each login.
        Kubernetes = "kubernetes",
        /// Vault checks the token's signature itself.
        Jwt = "jwt",
    }
}

words! {
    /// What makes a credential.
    pub enum Engine {
        /// A role made in PostgreSQL and dropped again.
        Postgresql = "postgresql",
        /// A key and a certificate.
        Pki = "pki",
        /// A stored secret: no lease.
        Kv = "kv",
        /// A ServiceAccount token from the API server.
        Kubernetes = "kubernetes",
    }
}

impl Engine {
    /// Whether Vault renews its leases: a certificate and a token of the API server say in
    /// themselves when they end (builtin/logical/pki, vault-plugin-secrets-kubernetes v0.11).
    pub const fn renews(self) -> bool {
        matches!(self, Self::Postgresql)
    }
}

words! {
    /// Where Vault keeps its data.
    pub enum VaultStorage {
        /// In memory, as `vault server -dev` does.
        Inmem = "inmem",
        /// Integrated storage: a sync for each write.
        Raft = "raft",
    }
}

knobs! {
    /// The bounded priority queue.
    pub struct Queue {
        /// Alerts that may wait; one more and the least urgent is turned away.
        limit: NonZeroU32 = count(500),
        /// In what order it is served.
        order: QueueOrder = QueueOrder::Severity,
        /// The wait that outweighs one step of severity.
        aging: Span = Span::secs(600),
        /// Back pressure ends when the queue is down to this share of its limit.
        low_water: Share = Share(0.8),
    }

    /// What may be spent in a window of time.
    pub struct CostBudget {
        /// Dollars a window.
        usd: Positive = Positive(100.0),
        /// The window's length.
        per: Span = Span::secs(3600),
        /// Dollars set aside for an investigation until its cost is known.
        reserve_usd: Amount = Amount(0.5),
    }

    /// The Job made for each investigation.
    pub struct Job {
        /// activeDeadlineSeconds.
        active_deadline: Span = Span::secs(900),
        /// ttlSecondsAfterFinished.
        ttl_after_finished: Span = Span::secs(3600),
        /// The container's memory limit.
        memory_limit: Bytes = Bytes::gibi(4),
        /// The container's memory request.
        memory_request: Bytes = Bytes::gibi(1),
        /// The container's CPU request, in thousandths of a core.
        cpu_request_millis: u32 = 250,
    }

    /// The controller's client of the API server. client-go limits a client to 5/s unless told
    /// otherwise; kube (Rust) does not limit at all, so there is no bucket by default.
    pub struct BackendClient {
        /// Requests in flight at once.
        connections: NonZeroU32 = count(16),
        /// Token bucket: calls a second; absent, there is no bucket.
        kube_api_qps: Option<Positive> = None,
        /// Token bucket: calls at once.
        kube_api_burst: NonZeroU32 = count(10),
        /// Own processor time a Job.
        cpu_per_job: Span = Span::millis(1),
    }

    /// kube-apiserver.
    pub struct ApiServer {
        /// `--max-requests-inflight`; kube-apiserver's default.
        max_requests_inflight: NonZeroU32 = count(400),
        /// `--max-mutating-requests-inflight`; kube-apiserver's default. API Priority and
        /// Fairness divides the sum of both.
        max_mutating_requests_inflight: NonZeroU32 = count(200),
        /// Other flags of kube-apiserver, by name; for live worlds.
        flags: Flags = Flags::new(),
    }

    /// etcd.
    pub struct EtcdKnobs {
        /// The write-ahead log's sync: a local SSD's; etcd asks for a 99th percentile below 10 ms.
        fsync: Spread<Span> = Spread::log_normal("1.5ms", "4ms"),
        /// `--quota-backend-bytes`; etcd's default. Beyond it every write fails.
        quota: Bytes = Bytes::gibi(2),
        /// `--etcd-compaction-interval` of kube-apiserver; its default.
        compaction_interval: Span = Span::secs(300),
        /// Other flags of etcd, by name; for live worlds.
        flags: Flags = Flags::new(),
    }

    /// kube-controller-manager.
    pub struct ControllerManager {
        /// `--kube-api-qps`; upstream's default. Each controller has a bucket of its own, and its
        /// events go through it too.
        kube_api_qps: Positive = Positive(20.0),
        /// `--kube-api-burst`; upstream's default.
        kube_api_burst: NonZeroU32 = count(30),
        /// `--concurrent-job-syncs`; upstream's default (pkg/controller/job/config/v1alpha1).
        concurrent_job_syncs: NonZeroU32 = count(5),
        /// `--concurrent-ttl-after-finished-syncs`; upstream's default.
        concurrent_ttl_syncs: NonZeroU32 = count(5),
        /// `--concurrent-gc-syncs`; upstream's default (pkg/controller/garbagecollector).
        concurrent_gc_syncs: NonZeroU32 = count(20),
        /// `--node-monitor-grace-period`; upstream's default (pkg/controller/nodelifecycle).
        node_monitor_grace_period: Span = Span::secs(50),
        /// How long a pod tolerates a node that is not ready: the admission plugin
        /// DefaultTolerationSeconds gives 300 s.
        not_ready_toleration: Span = Span::secs(300),
        /// Other flags of kube-controller-manager, by name; for live worlds.
        flags: Flags = Flags::new(),
    }

    /// kube-scheduler.
    pub struct Scheduler {
        /// `--kube-api-qps`; upstream's default. Bindings go through it; events have another.
        kube_api_qps: Positive = Positive(50.0),
        /// `--kube-api-burst`; upstream's default.
        kube_api_burst: NonZeroU32 = count(100),
        /// Other flags of kube-scheduler, by name; for live worlds.
        flags: Flags = Flags::new(),
    }

    /// The control plane.
    pub struct ControlPlane {
        /// Cores of the machine that all of it shares.
        cores: NonZeroU32 = count(4),
        /// Whether the nodes' software, the backend, Vault and PostgreSQL run on it too, as on a
        /// laptop or in CI.
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

    /// One node; all are alike.
    pub struct Node {
        /// What runs the pods.
        runtime: NodeRuntime = NodeRuntime::Kubelet,
        /// Allocatable CPU, in cores.
        cpu: NonZeroU32 = count(8),
        /// Allocatable memory.
        memory: Bytes = Bytes::gibi(32),
        /// `maxPods`; kubelet's default.
        pods: NonZeroU32 = count(110),
        /// `kubeAPIQPS`; kubelet's default.
        kube_api_qps: Positive = Positive(50.0),
        /// `kubeAPIBurst`; kubelet's default.
        kube_api_burst: NonZeroU32 = count(100),
        /// The first pull of the agent's image on a node.
        image_pull: Spread<Span> = Spread::log_normal("6s", "15s"),
        /// Whether every node has the image already.
        image_present: bool = true,
        /// Pod sandbox with its network.
        sandbox_start: Spread<Span> = Spread::log_normal("250ms", "700ms"),
        /// Container creation and start.
        container_start: Spread<Span> = Spread::log_normal("120ms", "300ms"),
        /// Live, whether all nodes' kubelets see their pods by one watch of the harness instead of
        /// one each, as real kubelets have.
        shared_watch: bool = false,
        /// The kubelet sees what its containers did at its next relist; kubelet's
        /// `genericPlegRelistPeriod`.
        relist_period: Span = Span::secs(1),
    }

    /// The cluster.
    pub struct Cluster {
        /// How many nodes.
        nodes: NonZeroU32 = count(20),
        /// What a node is.
        node: Node = Node::default(),
        /// The control plane.
        control_plane: ControlPlane = ControlPlane::default(),
        /// A round trip between two machines.
        network_rtt: Span = Span::micros(500),
    }

    /// What makes the credentials of a domain.
    pub struct SecretEngine {
        /// The engine.
        engine: Engine = Engine::Kv,
        /// Time to live of a lease.
        ttl: Span = Span::secs(300),
        /// The longest that renewals may carry it; Vault's default is 32 days (768h).
        max_ttl: Span = Span::secs(3600),
        /// Database configs that share the load; Vault's plugin makes one credential at a time
        /// for each, under a lock.
        configs: NonZeroU32 = count(1),
    }

    /// The engine of each domain.
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
        /// How an agent proves who it is.
        auth: AuthMethod = AuthMethod::Kubernetes,
        /// Cores of its machine.
        cores: NonZeroU32 = count(2),
        /// Where it keeps its data.
        storage: VaultStorage = VaultStorage::Raft,
        /// `token_ttl` of the role: the token, and all it took, ends then.
        token_ttl: Span = Span::secs(1200),
        /// `VAULT_NUM_EXPIRATION_WORKERS`; 200 (vault/expiration.go numExpirationWorkersDefault).
        revocation_workers: NonZeroU32 = count(200),
        /// How long an agent tries before it gives up.
        client_timeout: Span = Span::secs(120),
        /// The engine of each domain.
        secrets: Secrets = Secrets::default(),
    }

    /// PostgreSQL.
    pub struct Postgres {
        /// Cores of its machine.
        cores: NonZeroU32 = count(2),
        /// `max_connections`; PostgreSQL's default.
        max_connections: NonZeroU32 = count(100),
        /// The write-ahead log's sync at each commit.
        fsync: Spread<Span> = Spread::log_normal("1.5ms", "4ms"),
        /// Other settings of PostgreSQL, by name; for live worlds.
        flags: Flags = Flags::new(),
    }

    /// How the run is watched and bounded.
    pub struct Limits {
        /// The run ends here even if work is left, which is then unfinished; 0 is no bound.
        run_for: Span = Span::ZERO,
        /// How often the platform's counters are read; 0 chooses by the run's length.
        sample_every: Span = Span::ZERO,
        /// Investigations up to which the event log is written.
        events_up_to: NonZeroU64 = NonZeroU64::new(100_000).expect("not 0"),
    }
}

impl Secrets {
    /// The engine of `domain`.
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
