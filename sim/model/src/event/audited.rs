//! The audit at the end of a live run: the delays that the harness added, and whether its records
//! agree with the servers' audit trails.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sample::WaitSummary;

/// Result of the audit of a live run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Audited {
    /// Time from an alert's intended instant to its delivery to the controller.
    pub send_lag: WaitSummary,
    /// Time from the response to a Job's creation to the watch event that reports the Job.
    pub watch_lag: WaitSummary,
    /// The harness's own part of the watch lag: from the arrival of an event to its handling.
    #[serde(default)]
    pub own_watch_lag: WaitSummary,
    /// Time from the response to an update of a probe, a small object of a kind that changes rarely, to
    /// its event on a watch of its own. Where it is short and the watch lag long, the API server is late
    /// with what it watches of Jobs, and neither as a whole nor on all connections. Empty if the probe was
    /// not measured.
    #[serde(default)]
    pub probe_lag: WaitSummary,
    /// How late hollow nodes sent the renewals of their Leases.
    #[serde(default)]
    pub heartbeat_lag: WaitSummary,
    /// How late the harness's timers ran.
    #[serde(default)]
    pub timer_lag: WaitSummary,
    /// Processor time of the harness in ns, user and system.
    pub harness_cpu_ns: u64,
    /// Largest resident memory of the harness, in bytes.
    pub harness_resident_max: u64,
    /// Comparison of the ledger's leases with Vault.
    pub leases: Reconciliation,
    /// Comparison of the ledger's tokens with Vault. The harness then revokes those that are alive.
    #[serde(default)]
    pub tokens: Reconciliation,
    /// Comparison of the refusals that agents reported with the audit trails.
    pub denials: Denials,
    /// How well each audit trail identifies the investigation that caused an entry.
    pub attribution: Vec<Attributed>,
}

/// Comparison of the leases, or of the tokens, in the harness's ledger with Vault's audit trail and
/// `sys/leases`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Reconciliation {
    /// Leases or tokens in the ledger.
    pub booked: u64,
    /// Those issued according to Vault's audit trail; empty if that cannot be read.
    pub in_trail: Option<u64>,
    /// Those alive at the end of the run in both the ledger and `sys/leases`.
    pub alive: u64,
    /// Those alive in Vault that have ended in the ledger, or are not in it.
    pub alive_unbooked: u64,
    /// Those alive in the ledger that are not in Vault.
    pub booked_not_alive: u64,
    /// Those that are either in the ledger or in the audit trail, but not in both; 0 if the trail
    /// cannot be read.
    pub unmatched: u64,
    /// Leases that were alive when a Vault with storage in memory was restarted. Their credentials
    /// were not revoked. 0 for tokens, which ended with the storage.
    pub lost: u64,
}

impl Reconciliation {
    /// Whether ledger and Vault agree.
    pub const fn agrees(&self) -> bool {
        self.unmatched == 0 && self.alive_unbooked == 0 && self.booked_not_alive == 0
    }
}

/// Refusals by system: the number that agents reported, and the number in the system's audit trail,
/// which is empty if the trail cannot be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Denials {
    /// Refusals by the API server's authorizer.
    pub rbac: (u64, Option<u64>),
    /// Refusals by Vault's policies.
    pub vault_policy: (u64, Option<u64>),
    /// Refusals by PostgreSQL's grants.
    pub database_grant: (u64, Option<u64>),
}

impl Denials {
    /// Whether both numbers are equal for every audit trail that can be read.
    pub fn agree(&self) -> bool {
        [self.rbac, self.vault_policy, self.database_grant]
            .iter()
            .all(|(reported, found)| found.is_none_or(|found| *reported == found))
    }
}

/// How many entries of an audit trail identify the investigation that caused them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Attributed {
    /// Kind of the entries: `postgresql statements`, `kubernetes writes` or `vault requests`.
    pub what: String,
    /// Number of entries that were looked at.
    pub asked: u64,
    /// Entries that identify an investigation by the name of the identity.
    pub by_identity: u64,
    /// Of these, entries that identify the right investigation.
    pub by_identity_rightly: u64,
    /// Entries that identify an investigation by the trail of its Job: the pod of a token or of an
    /// address.
    pub by_job: u64,
    /// Of these, entries that identify the right investigation.
    pub by_job_rightly: u64,
}
