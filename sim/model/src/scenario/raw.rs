//! The scenario as it is written in its file. All fields but `alerts` are optional.

use deserr::{DeserializeError, Deserr, IntoValue, Value, ValuePointerRef};
use schemars::JsonSchema;
use serde::Serialize;

use super::knobs::{Admission, Cluster, Controller, Limits, Positive, Postgres, Vault};
use super::objective::Slo;
use crate::alert::Spacing;
use crate::input::Problems;
use crate::investigation::IdentityKind;
use crate::knobs;
use crate::phase::Phase;
use crate::quantity::{Amount, Rate};
use crate::time::Span;

/// A load, a platform, and the objectives that must hold.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema, Deserr)]
#[deserr(error = Problems, deny_unknown_fields)]
#[schemars(deny_unknown_fields, title = "Alertstorm scenario")]
pub struct Scenario {
    /// Name of the scenario and of the folders of its runs: letters, digits, `-`, `_` and `.`. The
    /// default is the file's name without its extension.
    #[deserr(default)]
    #[schemars(default)]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The question that a run answers, in a sentence. It is printed in every report.
    #[deserr(default)]
    #[schemars(default)]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub question: String,
    /// Seed of all random draws. The same plan and seed give the same run in the twin.
    #[deserr(default = 1)]
    #[schemars(default = "one")]
    pub seed: u64,
    /// Sources of alerts; at least one. Their alerts are merged in the order of time.
    pub alerts: Vec<Alerts>,
    /// What the agents do: a file of profiles (by default the built-in `profiles/sre.yaml`), or
    /// `{traces: FILE}` for recorded traces.
    #[deserr(default)]
    #[schemars(default)]
    pub agents: Agents,
    /// Trust phase, which decides what the agents may read and write.
    #[deserr(default = Phase::ReadOnlyAssist)]
    #[schemars(default = "read_only")]
    pub phase: Phase,
    /// Whether agents share one identity, or each investigation has its own.
    #[deserr(default = IdentityKind::PerInvestigation)]
    #[schemars(default = "per_investigation")]
    pub identity: IdentityKind,
    /// Settings of the investigation controller: a mapping, or only `direct` or `queue` as a short
    /// form of `{admission: …}`.
    #[deserr(default)]
    #[schemars(default, with = "ControllerForm")]
    pub controller: Controller,
    /// Nodes and control plane of the Kubernetes cluster.
    #[deserr(default)]
    #[schemars(default)]
    pub cluster: Cluster,
    /// Settings of Vault.
    #[deserr(default)]
    #[schemars(default)]
    pub vault: Vault,
    /// Settings of PostgreSQL.
    #[deserr(default)]
    #[schemars(default)]
    pub postgres: Postgres,
    /// Faults to inject. Faults of the same kind on the same node must not overlap.
    #[deserr(default)]
    #[schemars(default)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
    /// Objectives like `job_startup.p99 <= 30s`. If one is missed, the exit code is 1.
    #[deserr(default)]
    #[schemars(default)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub slos: Vec<Slo>,
    /// Limits on the length of the run and on what is recorded of it.
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
    /// A fault that can be injected.
    pub enum FaultKind {
        /// kube-apiserver refuses connections.
        ApiServerDown = "api-server-down",
        /// etcd elects a new leader: no write commits until the fault ends.
        EtcdLeaderLoss = "etcd-leader-loss",
        /// Each sync of etcd's write-ahead log takes `extra` longer.
        SlowFsync = "slow-fsync",
        /// kube-controller-manager is down; when it starts again, it lists all objects.
        ControllerManagerDown = "controller-manager-down",
        /// kube-scheduler is down.
        SchedulerDown = "scheduler-down",
        /// A node loses power.
        NodeDown = "node-down",
        /// Vault is sealed: it answers with status 503.
        VaultSealed = "vault-sealed",
        /// Vault is down; when it starts again, it loads its leases from its storage.
        VaultRestart = "vault-restart",
        /// PostgreSQL refuses connections.
        PostgresDown = "postgres-down",
        /// The investigation controller crashes and loses its queue.
        ControllerCrash = "controller-crash",
    }
}

/// Relative frequency of the domains. A domain that is not given has weight 0.
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
    /// The weights in the order of [`Domain::ALL`](crate::investigation::Domain::ALL).
    pub const fn weights(&self) -> [f64; 4] {
        [self.network.0, self.database.0, self.application.0, self.security.0]
    }
}

/// Relative frequency of the severities. A severity that is not given has weight 0.
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
    /// The weights in the order of [`Severity::ALL`](crate::investigation::Severity::ALL).
    pub const fn weights(&self) -> [f64; 4] {
        [self.critical.0, self.high.0, self.medium.0, self.low.0]
    }
}

knobs! {
    /// A source of alerts: exactly one of `flood`, `poisson`, `steps` and `replay`.
    pub struct Alerts {
        /// A fixed number of alerts, spread over `over`.
        flood: Option<u64> = None,
        /// Mean rate of a Poisson process that lasts for `for`, which is required.
        poisson: Option<Rate> = None,
        /// Rates that follow each other, each for its own duration.
        steps: Option<Vec<Step>> = None,
        /// File with recorded messages of Alertmanager's webhook (JSON Lines, version 4), relative
        /// to the scenario's folder.
        replay: Option<String> = None,
        /// Start of the source, counted from the start of the run.
        at: Span = Span::ZERO,
        /// `flood` only: the time over which the alerts are spread; 0s by default, all at once.
        over: Option<Span> = None,
        /// `poisson` only: duration of the source.
        lasts as "for": Option<Span> = None,
        /// `flood` and `steps` only: spacing of the alerts; `even` by default.
        spacing: Option<Spacing> = None,
        /// `replay` only: factor by which the log is replayed faster than recorded; 1 by default.
        speed: Option<Positive> = None,
        /// Weights of the domains; network 40, database 25, application 25 and security 10 by
        /// default. The label `domain` of a replayed alert takes precedence.
        mix: Option<DomainMix> = None,
        /// Weights of the severities; critical 5, high 20, medium 45 and low 30 by default. The
        /// label `severity` of a replayed alert takes precedence.
        severities: Option<SeverityMix> = None,
        /// Number of different fingerprints, not for `replay`. Alerts with the same fingerprint are
        /// deduplicated. If it is not set, every alert has its own.
        fingerprints: Option<std::num::NonZeroU64> = None,
    }

    /// A fault and its time.
    pub struct Fault {
        /// Kind of the fault. Required.
        fault: Option<FaultKind> = None,
        /// Start of the fault, counted from the start of the run.
        at: Span = Span::ZERO,
        /// Duration of the fault; above 0.
        lasts as "for": Span = Span::secs(30),
        /// `node-down` only: the node, counted from 0.
        node: u32 = 0,
        /// `slow-fsync` only: the time added to each sync.
        extra: Span = Span::millis(100),
    }

    /// A constant rate of alerts for a time.
    pub struct Step {
        /// Rate of the alerts, like `2/s`.
        rate: Rate = Rate(0.0),
        /// Duration of the step. Required; above 0.
        lasts as "for": Span = Span::ZERO,
    }
}

/// The source of the agents' traces.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Agents {
    /// Traces are drawn from the profiles in this file, relative to the scenario's folder. If there
    /// is no such file, the built-in one of this name is used.
    Profiles(String),
    /// Recorded traces are replayed.
    Traces {
        /// The file (JSON Lines), relative to the scenario's folder.
        traces: String,
    },
}

impl Default for Agents {
    fn default() -> Self {
        Self::Profiles("profiles/sre.yaml".to_owned())
    }
}

/// The mapping form of [`Agents`].
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

/// The two forms of `controller`, for the schema. [`super::load`] expands the short form before it
/// reads the mapping.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only used for the schema")]
enum ControllerForm {
    /// Short form of `{admission: …}`.
    Word(Admission),
    /// The full form.
    Mapping(Controller),
}
