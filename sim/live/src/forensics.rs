//! Forensics: compares the servers' audit logs ("trails") with what the agents did. The attribution
//! uses only the trails, as an investigator after an incident would.

mod trails;
mod unreported;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alertstorm_model::event::{Attributed, AuditCount, Denials, Reconciliation};
use alertstorm_model::investigation::InvestigationId;
use alertstorm_model::phase::Refuser;
use alertstorm_platform::Trails;

use crate::leases::LeaseBook;
use crate::tokens::{TokenBook, some};

pub use trails::{Read, TrailError};
pub use unreported::Run;

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
    /// Logins in the trail that Vault did not answer.
    pub unanswered_logins: usize,
    /// What is in the trail or in the ledger, and not in both: of leases, and of tokens.
    pub differences: [Vec<String>; 2],
}

/// Reads the trails, starting at `from`, and compares them with `truth` and the books. What Vault issued
/// to agents of `run` and no agent reported is entered into the books first, except after an interruption
/// (`listed` is none), when agents have not reported all. `listed` has the leases that Vault has now.
///
/// # Errors
/// If a trail exists and cannot be read.
pub fn judge(
    trails: &Trails,
    run: &Run<'_>,
    from: &Read,
    truth: &Truth,
    (book, tokens): (&LeaseBook, &TokenBook),
    listed: Option<&BTreeSet<String>>,
) -> Result<Verdict, TrailError> {
    let found = trails::read(trails, run.names, from)?;
    let without_response = listed.map(|listed| {
        run.recover_tokens(&found, tokens);
        run.recover_revocations(&found, tokens, book);
        run.recover_leases(&found, book, listed)
    });
    let without_response = without_response.unwrap_or_default();
    // A platform may give no access to a trail: then its count is unknown.
    let in_trail = |trail: &Option<PathBuf>, found: u64| trail.as_ref().map(|_| found);
    let issued: BTreeSet<&String> = found.leases.iter().map(|lease| &lease.id).collect();
    let booked = book.all();
    let of_book = booked.keys().filter(|id| !without_response.contains(*id)).collect();
    let leases = differences(&of_book, &issued);
    let logins: BTreeSet<&String> = found.own_logins().map(|(session, ..)| session).collect();
    let reported = tokens.all();
    let of_tokens = differences(&reported.keys().collect(), &logins);
    let others = misattributed(&found, &reported);
    let has_trail = trails.vault.is_some();
    let unmatched = |of: &(Vec<String>, Vec<String>)| match has_trail {
        true => (of.0.len() + of.1.len()) as u64,
        false => 0,
    };
    let unmatched_leases = unmatched(&leases);
    let unmatched_tokens = unmatched(&of_tokens) + others.len() as u64;
    let mut differences = [leases, of_tokens].map(|(here, there)| {
        let mut notes = Vec::new();
        if has_trail && !here.is_empty() {
            notes.push(format!("the audit log lacks {}", some(&here)));
        }
        if has_trail && !there.is_empty() {
            notes.push(format!("no agent of the run explains {}", some(&there)));
        }
        notes
    });
    if !others.is_empty() {
        differences[1].push(format!("the audit log names another agent for {}", some(&others)));
    }
    let facts = truth.lock();
    let attribution = vec![
        found.attribute_statements(|user| facts.users.get(user).copied()),
        found.attribute_kubernetes_writes(|pod| facts.pods.get(pod).copied()),
        found.attribute_vault_requests(),
    ];
    drop(facts);
    let vault = &attribution[2];
    Ok(Verdict {
        tokens: Reconciliation {
            booked: reported.len() as u64,
            in_trail: in_trail(&trails.vault, logins.len() as u64),
            unmatched: unmatched_tokens,
            ..Reconciliation::default()
        },
        leases: Reconciliation {
            booked: booked.len() as u64,
            in_trail: in_trail(&trails.vault, issued.len() as u64),
            unmatched: unmatched_leases,
            ..Reconciliation::default()
        },
        unanswered_logins: run.unanswered_logins(&found),
        differences,
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

/// What is only in the ledger, and what is only in the trail.
fn differences(here: &BTreeSet<&String>, there: &BTreeSet<&String>) -> (Vec<String>, Vec<String>) {
    let only = |one: &BTreeSet<&String>, other: &BTreeSet<&String>| {
        one.difference(other).map(|name| (*name).clone()).collect()
    };
    (only(here, there), only(there, here))
}

/// The tokens that one agent reported and, by the trail, another one received: a journal may name what is
/// not its agent's.
fn misattributed(
    found: &trails::Found,
    reported: &BTreeMap<String, Option<InvestigationId>>,
) -> Vec<String> {
    let is_others = |(accessor, inv): &(&String, &Option<InvestigationId>)| {
        let of_trail = found.investigation(accessor);
        of_trail.is_some() && inv.is_some() && of_trail != **inv
    };
    reported.iter().filter(is_others).map(|(accessor, _)| accessor.clone()).collect()
}
