//! Forensics: compares the servers' audit logs ("trails") with what the agents did. The attribution
//! uses only the trails, as an investigator after an incident would.

mod trails;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alertstorm_agent::names::Names;
use alertstorm_model::event::{Attributed, AuditCount, Denials, Reconciliation};
use alertstorm_model::investigation::InvestigationId;
use alertstorm_model::phase::Refuser;
use alertstorm_platform::Trails;

use crate::leases::LeaseBook;
use crate::tokens::{self, TokenBook};

pub use trails::{Read, TrailError};

#[derive(Debug, Default)]
struct Facts {
    denied: BTreeMap<Refuser, u64>,
    users: BTreeMap<String, InvestigationId>,
    pods: BTreeMap<String, InvestigationId>,
}

/// What agents did, by their own reports; clones share it. It decides which attributions are right,
/// and is no input to them.
#[derive(Clone, Debug, Default)]
pub struct Truth(Arc<Mutex<Facts>>);

impl Truth {
    fn lock(&self) -> MutexGuard<'_, Facts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a denied action.
    pub fn denied(&self, by: Refuser) {
        *self.lock().denied.entry(by).or_default() += 1;
    }

    /// Records the agent that received a PostgreSQL user.
    pub fn user(&self, user: &str, id: InvestigationId) {
        self.lock().users.insert(user.to_owned(), id);
    }

    /// Records the Vault login of a pod's agent.
    pub fn session(&self, pod: &str, id: InvestigationId) {
        self.lock().pods.insert(pod.to_owned(), id);
    }

    fn reported(&self, by: Refuser) -> u64 {
        self.lock().denied.get(&by).copied().unwrap_or(0)
    }
}

/// The result of the comparison.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Leases in the trail and in the lease book.
    pub leases: Reconciliation,
    /// Tokens in the trail and in the token book.
    pub tokens: Reconciliation,
    /// Denials that agents reported, and denials in the trails.
    pub denials: Denials,
    /// To which investigations the trails attribute actions.
    pub attribution: Vec<Attributed>,
    /// Agents' requests to Vault; those whose identity names an investigation; those whose pod
    /// does.
    pub audit: AuditCount,
}

/// Reads the trails, starting at `from`, and compares them with `truth` and the books.
///
/// # Errors
/// If a trail exists and cannot be read.
pub fn judge(
    trails: &Trails,
    names: &Names,
    from: &Read,
    truth: &Truth,
    (book, tokens): (&LeaseBook, &TokenBook),
) -> Result<Verdict, TrailError> {
    let found = trails::read(trails, names, from)?;
    let booked = book.all();
    let issued: BTreeSet<&String> = found.leases.iter().collect();
    // A platform may give no access to a trail: then its count is unknown.
    let in_trail = |trail: &Option<PathBuf>, found: u64| trail.as_ref().map(|_| found);
    let unmatched = booked.keys().filter(|id| !issued.contains(id)).count()
        + issued.iter().filter(|id| !booked.contains_key(id.as_str())).count();
    let facts = truth.lock();
    let attribution = vec![
        found.attribute_statements(|user| facts.users.get(user).copied()),
        found.attribute_kubernetes_writes(|pod| facts.pods.get(pod).copied()),
        found.attribute_vault_requests(),
    ];
    drop(facts);
    let vault = &attribution[2];
    let (reported, logins) = (tokens.reported(), found.logins());
    let unmatched_tokens = tokens::unmatched(&reported, &logins);
    Ok(Verdict {
        tokens: Reconciliation {
            booked: reported.values().sum(),
            in_trail: in_trail(&trails.vault, logins.values().sum()),
            unmatched: trails.vault.as_ref().map_or(0, |_| unmatched_tokens),
            ..Reconciliation::default()
        },
        leases: Reconciliation {
            booked: booked.len() as u64,
            in_trail: in_trail(&trails.vault, issued.len() as u64),
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
