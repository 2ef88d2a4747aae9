//! What a live run finds when it audits itself: how late the harness was, and whether its books
//! agree with what the servers wrote down.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sample::WaitSummary;

/// The audit of a live run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Audited {
    /// From an alert's intended instant to its delivery to the controller.
    pub send_lag: WaitSummary,
    /// From the answer to a Job's creation to the watch event that shows it.
    pub watch_lag: WaitSummary,
    /// The harness's own processor time, in ns.
    pub harness_cpu_ns: u64,
    /// Most memory that the harness held, in bytes.
    pub harness_resident_max: u64,
    /// Leases, against Vault's own list and audit trail.
    pub leases: Reconciliation,
    /// Refusals, against the trails of who refused.
    pub denials: Denials,
    /// Whom the trails name, trail by trail.
    pub attribution: Vec<Attributed>,
}

/// The book of leases, against Vault.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Reconciliation {
    /// Leases in the book.
    pub booked: u64,
    /// Leases that Vault's audit trail has it giving out; none where that cannot be read.
    pub in_trail: Option<u64>,
    /// Leases alive in the book and in `sys/leases` at the run's end.
    pub alive: u64,
    /// Leases alive in Vault that the book has as ended, or does not know.
    pub alive_unbooked: u64,
    /// Leases alive in the book that Vault does not have.
    pub booked_not_alive: u64,
    /// Leases of one that the other does not have.
    pub unmatched: u64,
    /// Leases that were alive when Vault lost its memory: at their source they live on.
    pub lost: u64,
}

impl Reconciliation {
    /// Whether book and Vault agree.
    pub const fn agrees(&self) -> bool {
        self.unmatched == 0 && self.alive_unbooked == 0 && self.booked_not_alive == 0
    }
}

/// Refusals that agents met, against those that the trails hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Denials {
    /// Refusals by the API server: told by agents, and found in its audit trail, where that can be
    /// read.
    pub rbac: (u64, Option<u64>),
    /// Refusals by Vault's policies.
    pub vault_policy: (u64, Option<u64>),
    /// Refusals by PostgreSQL.
    pub database_grant: (u64, Option<u64>),
}

impl Denials {
    /// Whether they match one for one, where there is a trail to match.
    pub fn agree(&self) -> bool {
        [self.rbac, self.vault_policy, self.database_grant]
            .iter()
            .all(|(told, found)| found.is_none_or(|found| *told == found))
    }
}

/// What one kind of trail answers, when it is asked which investigation did something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Attributed {
    /// What was asked about: `postgresql statements`, `kubernetes writes`, `vault requests`.
    pub what: String,
    /// Questions asked.
    pub asked: u64,
    /// Answered by the identity's own name.
    pub by_identity: u64,
    /// Of these, rightly.
    pub by_identity_rightly: u64,
    /// Answered by the trails of Jobs: the pod of a token, the pod of an address.
    pub by_job: u64,
    /// Of these, rightly.
    pub by_job_rightly: u64,
}
