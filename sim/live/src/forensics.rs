//! Forensics: what the servers' own trails say, held against what the agents really did. The trails
//! are read as an investigator would read them, knowing nothing of the harness.

mod trails;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alertstorm_model::event::{Attributed, AuditCount, Denials, Reconciliation};
use alertstorm_model::investigation::InvestigationId;
use alertstorm_model::phase::Refuser;
use alertstorm_platform::Trails;

use crate::leases::LeaseBook;

pub use trails::{Read, TrailError};

#[derive(Debug, Default)]
struct Facts {
    denied: BTreeMap<Refuser, u64>,
    users: BTreeMap<String, InvestigationId>,
    pods: BTreeMap<String, InvestigationId>,
}

/// What agents really did, told by themselves; only answers are judged by it.
#[derive(Clone, Debug, Default)]
pub struct Truth(Arc<Mutex<Facts>>);

impl Truth {
    fn lock(&self) -> MutexGuard<'_, Facts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An agent was refused something.
    pub fn denied(&self, by: Refuser) {
        *self.lock().denied.entry(by).or_default() += 1;
    }

    /// Vault gave an agent this user of PostgreSQL.
    pub fn user(&self, user: &str, id: InvestigationId) {
        self.lock().users.insert(user.to_owned(), id);
    }

    /// Vault gave a pod's agent a token.
    pub fn session(&self, pod: &str, id: InvestigationId) {
        self.lock().pods.insert(pod.to_owned(), id);
    }

    fn reported(&self, by: Refuser) -> u64 {
        self.lock().denied.get(&by).copied().unwrap_or(0)
    }
}

/// What the trails came to.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Leases of the trail against the book.
    pub leases: Reconciliation,
    /// Refusals told and found.
    pub denials: Denials,
    /// Whom the trails name.
    pub attribution: Vec<Attributed>,
    /// Requests to Vault with an identity; those that name an investigation by it; and by its Job.
    pub audit: AuditCount,
}

/// Reads the trails from the places where they stood at the run's start, and judges them.
///
/// # Errors
/// Where a trail cannot be read.
pub fn judge(
    trails: &Trails,
    from: &Read,
    truth: &Truth,
    book: &LeaseBook,
) -> Result<Verdict, TrailError> {
    let found = trails::read(trails, from)?;
    let booked = book.all();
    let given: BTreeSet<&String> = found.leases.iter().collect();
    // What a trail that cannot be read holds, nobody knows.
    let in_trail = |trail: &Option<PathBuf>, found: u64| trail.as_ref().map(|_| found);
    let unmatched = booked.keys().filter(|id| !given.contains(id)).count()
        + given.iter().filter(|id| !booked.contains_key(id.as_str())).count();
    let facts = truth.lock();
    let attribution = vec![
        found.attribute_statements(|user| facts.users.get(user).copied()),
        found.attribute_kubernetes_writes(|pod| facts.pods.get(pod).copied()),
        found.attribute_vault_requests(),
    ];
    drop(facts);
    let vault = &attribution[2];
    Ok(Verdict {
        leases: Reconciliation {
            booked: booked.len() as u64,
            in_trail: in_trail(&trails.vault, given.len() as u64),
            unmatched: trails.vault.as_ref().map_or(0, |_| unmatched as u64),
            ..Reconciliation::default()
        },
        denials: Denials {
            rbac: (truth.reported(Refuser::Rbac), in_trail(&trails.api_server, found.rbac_denials)),
            vault_policy: (
                truth.reported(Refuser::VaultPolicy),
                in_trail(&trails.vault, found.vault_denials),
            ),
            database_grant: (
                truth.reported(Refuser::DatabaseGrant),
                in_trail(&trails.postgres, found.database_denials),
            ),
        },
        audit: AuditCount {
            entries: vault.asked,
            named_per_investigation: vault.by_identity,
            named_shared: vault.by_job,
        },
        attribution,
    })
}
