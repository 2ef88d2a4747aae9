//! The scenario as a person typed it. Every field may be left out but `alerts`.

use deserr::{DeserializeError, Deserr, IntoValue, Value, ValuePointerRef};
use schemars::JsonSchema;
use serde::Serialize;

use super::knobs::{
    Admission, BackendClient, Cluster, CostBudget, Job, Limits, Positive, Postgres, Queue, Vault,
};
use super::objective::Slo;
use crate::alert::Spacing;
use crate::input::Problems;
use crate::investigation::IdentityKind;
use crate::knobs;
use crate::phase::Phase;
use crate::quantity::{Amount, Rate};
use crate::time::Span;

/// A question to the platform, and all that decides its answer.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema, Deserr)]
#[deserr(error = Problems, deny_unknown_fields)]
#[schemars(deny_unknown_fields, title = "Alertstorm scenario")]
pub struct Scenario {
    /// Its name, which names the folder of its runs; the file's name where it is left out.
    #[deserr(default)]
    #[schemars(default)]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What the run shall answer, in a sentence.
    #[deserr(default)]
    #[schemars(default)]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub question: String,
    /// The seed of every draw; it is written in every report.
    #[deserr(default = 1)]
    #[schemars(default = "one")]
    pub seed: u64,
    /// When alerts come, and of what kind.
    pub alerts: Vec<Alerts>,
    /// What the agents do.
    #[deserr(default)]
    #[schemars(default)]
    pub agents: Agents,
    /// How far the agents are trusted.
    #[deserr(default = Phase::ReadOnlyAssist)]
    #[schemars(default = "read_only")]
    pub phase: Phase,
    /// Whose identity an agent shows.
    #[deserr(default = IdentityKind::PerInvestigation)]
    #[schemars(default = "per_investigation")]
    pub identity: IdentityKind,
    /// The investigation controller: a mapping, or just `direct` or `queue`.
    #[deserr(default)]
    #[schemars(default, with = "ControllerForm")]
    pub controller: Controller,
    /// The cluster.
    #[deserr(default)]
    #[schemars(default)]
    pub cluster: Cluster,
    /// Vault.
    #[deserr(default)]
    #[schemars(default)]
    pub vault: Vault,
    /// PostgreSQL.
    #[deserr(default)]
    #[schemars(default)]
    pub postgres: Postgres,
    /// What breaks, and when.
    #[deserr(default)]
    #[schemars(default)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
    /// What must hold, like `job_startup.p99 <= 30s`; decides the exit code.
    #[deserr(default)]
    #[schemars(default)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub slos: Vec<Slo>,
    /// Bounds of the run.
    #[deserr(default)]
    #[schemars(default)]
    pub limits: Limits,
}

const fn one() -> u64 {
    1
}
const fn read_only() -> Phase {
    Phase::ReadOnlyAssist
}
const fn per_investigation() -> IdentityKind {
    IdentityKind::PerInvestigation
}

words! {
    /// What can break.
    pub enum FaultKind {
        /// kube-apiserver refuses connections.
        ApiServerDown = "api-server-down",
        /// etcd elects a new leader: no write commits for as long.
        EtcdLeaderLoss = "etcd-leader-loss",
        /// The sync of etcd's write-ahead log takes `extra` longer.
        SlowFsync = "slow-fsync",
        /// kube-controller-manager is down; it lists everything again when it is back.
        ControllerManagerDown = "controller-manager-down",
        /// kube-scheduler is down.
        SchedulerDown = "scheduler-down",
        /// A node loses power.
        NodeDown = "node-down",
        /// Vault is sealed: it answers 503.
        VaultSealed = "vault-sealed",
        /// Vault restarts, and loads its leases.
        VaultRestart = "vault-restart",
        /// PostgreSQL refuses connections.
        PostgresDown = "postgres-down",
        /// The investigation controller crashes and forgets its queue.
        ControllerCrash = "controller-crash",
    }
}

/// Weights of the domains; what is left out has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, JsonSchema, Deserr)]
#[deserr(error = Problems, deny_unknown_fields)]
#[schemars(deny_unknown_fields)]
pub struct DomainMix {
    /// Weight of network alerts.
    #[deserr(default)]
    #[schemars(default)]
    pub network: Amount,
    /// Weight of database alerts.
    #[deserr(default)]
    #[schemars(default)]
    pub database: Amount,
    /// Weight of application alerts.
    #[deserr(default)]
    #[schemars(default)]
    pub application: Amount,
    /// Weight of security alerts.
    #[deserr(default)]
    #[schemars(default)]
    pub security: Amount,
}

impl DomainMix {
    /// The weights in the order of the domains.
    pub const fn weights(&self) -> [f64; 4] {
        [self.network.0, self.database.0, self.application.0, self.security.0]
    }
}

/// Weights of the severities; what is left out has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, JsonSchema, Deserr)]
#[deserr(error = Problems, deny_unknown_fields)]
#[schemars(deny_unknown_fields)]
pub struct SeverityMix {
    /// Weight of critical alerts.
    #[deserr(default)]
    #[schemars(default)]
    pub critical: Amount,
    /// Weight of alerts of high severity.
    #[deserr(default)]
    #[schemars(default)]
    pub high: Amount,
    /// Weight of alerts of medium severity.
    #[deserr(default)]
    #[schemars(default)]
    pub medium: Amount,
    /// Weight of alerts of low severity.
    #[deserr(default)]
    #[schemars(default)]
    pub low: Amount,
}

impl SeverityMix {
    /// The weights in the order of the severities.
    pub const fn weights(&self) -> [f64; 4] {
        [self.critical.0, self.high.0, self.medium.0, self.low.0]
    }
}

knobs! {
    /// A source of alerts: exactly one of `flood`, `poisson`, `steps` and `replay`.
    pub struct Alerts {
        /// So many alerts, within `over`.
        flood: Option<u64> = None,
        /// Alerts at random, at this rate, for `for`.
        poisson: Option<Rate> = None,
        /// Rates that follow each other.
        steps: Option<Vec<Step>> = None,
        /// A log of Alertmanager's webhook (JSON Lines, version 4), beside the scenario.
        replay: Option<String> = None,
        /// When the source begins.
        at: Span = Span::ZERO,
        /// How long a flood takes.
        over: Option<Span> = None,
        /// How long a Poisson source lasts.
        lasts as "for": Option<Span> = None,
        /// How alerts of a flood or of steps are spaced.
        spacing: Option<Spacing> = None,
        /// How many times faster than recorded a log is replayed.
        speed: Option<Positive> = None,
        /// What the alerts are about; a replayed alert's own label `domain` wins.
        mix: Option<DomainMix> = None,
        /// How urgent they are; a replayed alert's own label `severity` wins.
        severities: Option<SeverityMix> = None,
        /// How many different alerts there are: repeats share a fingerprint. Every alert is its
        /// own where this is left out.
        fingerprints: Option<std::num::NonZeroU64> = None,
    }

    /// The investigation controller.
    pub struct Controller {
        /// What it does with an alert.
        admission: Admission = Admission::Queue,
        /// Investigations that may run at once.
        concurrency: std::num::NonZeroU32 = super::knobs::count(150),
        /// What may be spent in a window; no bound where it is left out.
        cost_budget: Option<CostBudget> = None,
        /// Alerts with a fingerprint seen within this time are the same alert.
        dedup_window: Span = Span::secs(300),
        /// The queue.
        queue: Queue = Queue::default(),
        /// How often a sender that was turned away tries again, when it is told it may.
        sender_retries: u32 = 0,
        /// The Job that it makes.
        job: Job = Job::default(),
        /// Its client of the API server.
        client: BackendClient = BackendClient::default(),
    }

    /// Something breaks.
    pub struct Fault {
        /// What breaks.
        fault: Option<FaultKind> = None,
        /// When.
        at: Span = Span::ZERO,
        /// For how long.
        lasts as "for": Span = Span::secs(30),
        /// Which node, counted from 0.
        node: u32 = 0,
        /// What `slow-fsync` adds to each sync.
        extra: Span = Span::millis(100),
    }

    /// A rate that holds for a time.
    pub struct Step {
        /// Alerts a second.
        rate: Rate = Rate(0.0),
        /// For how long.
        lasts as "for": Span = Span::ZERO,
    }
}

/// What the agents do: profiles, or recorded traces.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Agents {
    /// A file of profiles, beside the scenario; or a built-in one by its name.
    Profiles(String),
    /// A file of recorded traces (JSON Lines), beside the scenario.
    Traces {
        /// The file.
        traces: String,
    },
}

impl Default for Agents {
    fn default() -> Self {
        Self::Profiles("profiles/sre.yaml".to_owned())
    }
}

/// The mapping that `agents` may be.
#[derive(Deserr)]
#[deserr(error = Problems, deny_unknown_fields)]
struct TracesOf {
    traces: String,
}

impl Deserr<Problems> for Agents {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, Problems> {
        match value {
            Value::String(file) => Ok(Self::Profiles(file)),
            map @ Value::Map(_) => {
                let of = TracesOf::deserialize_from_value(map, location)?;
                Ok(Self::Traces { traces: of.traces })
            }
            other => {
                let accepted = &[deserr::ValueKind::String, deserr::ValueKind::Map];
                let kind = deserr::ErrorKind::IncorrectValueKind { actual: other, accepted };
                Err(deserr::take_cf_content(Problems::error(None, kind, location)))
            }
        }
    }
}

/// The controller's two forms, for the schema; the short one is expanded before the mapping is
/// read, see [`super::load`].
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "its fields stand in the schema only")]
enum ControllerForm {
    /// The name of a kind of admission alone.
    Word(Admission),
    /// All of it.
    Mapping(Controller),
}
