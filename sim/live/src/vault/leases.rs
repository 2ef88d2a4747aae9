//! The leases of a run: which Vault gave out, to whom, and what became of them. Vault tells nobody
//! when it has revoked a lease, so it is asked which are left.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alertstorm_model::event::{Event, Fact};
use alertstorm_model::investigation::{Domain, InvestigationId};
use alertstorm_model::scenario::Scenario;
use alertstorm_model::scenario::knobs::Engine;
use alertstorm_model::time::{Span, Time};

use super::setup::{credential_path, credential_role};
use super::{Vault, VaultError};
use crate::reporter::{Note, Reporter};

/// How often Vault is asked which leases are left; a revocation is seen up to this much late.
pub const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often it is asked for leases that it gave up: every so many looks.
const IRREVOCABLE_EVERY: u32 = 10;

/// A lease that is alive as far as is known.
#[derive(Clone, Debug)]
struct Open {
    number: u64,
    inv: InvestigationId,
    issued: Time,
    expires: Time,
    returned: bool,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    open: BTreeMap<String, Open>,
    /// Every lease ever issued, for the reconciliation.
    all: BTreeMap<String, InvestigationId>,
}

/// The book of leases, shared by the agents and whoever asks Vault.
#[derive(Clone, Debug)]
pub struct LeaseBook {
    inner: Arc<Mutex<Inner>>,
    reporter: Reporter,
}

impl LeaseBook {
    /// An empty book.
    pub fn new(reporter: Reporter) -> Self {
        Self { inner: Arc::default(), reporter }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, at: Time, inv: InvestigationId, fact: Fact) {
        self.reporter.note(Note::Fact(Event::of(at, inv, fact)));
    }

    /// Vault answered with a lease to what was asked at `asked`. Its time began after that and
    /// before the answer; of the two the earlier counts, so that what ran out is not taken for
    /// revoked.
    pub fn issued(&self, id: &str, inv: InvestigationId, domain: Domain, asked: Time, ttl: Span) {
        let mut inner = self.lock();
        let issued = self.reporter.now();
        let expires = asked + ttl;
        let number = inner.next;
        inner.next += 1;
        let open = Open { number, inv, issued, expires, returned: false };
        inner.open.insert(id.to_owned(), open);
        inner.all.insert(id.to_owned(), inv);
        self.tell(issued, inv, Fact::LeaseIssued { lease: number, domain, expires });
    }

    /// Vault renewed a lease, as was asked at `asked`.
    pub fn renewed(&self, id: &str, asked: Time, ttl: Span) {
        let now = self.reporter.now();
        if let Some(open) = self.lock().open.get_mut(id) {
            open.expires = asked + ttl;
            self.tell(now, open.inv, Fact::LeaseRenewed { lease: open.number });
        }
    }

    /// The agent revoked its token, and with it these leases.
    pub fn returned(&self, ids: &[String]) {
        let now = self.reporter.now();
        let mut inner = self.lock();
        for id in ids {
            if let Some(open) = inner.open.get_mut(id)
                && !std::mem::replace(&mut open.returned, true)
            {
                self.tell(now, open.inv, Fact::LeaseReturned { lease: open.number });
            }
        }
    }

    /// Now, on the run's clock.
    pub fn now(&self) -> Time {
        self.reporter.now()
    }

    /// Leases that may be alive.
    pub fn alive(&self) -> usize {
        self.lock().open.len()
    }

    /// The latest instant at which a lease ends by itself.
    pub fn last_expiry(&self) -> Option<Time> {
        self.lock().open.values().map(|open| open.expires).max()
    }

    /// Every lease that was ever issued.
    pub fn all(&self) -> BTreeMap<String, InvestigationId> {
        self.lock().all.clone()
    }

    /// The leases that are alive as far as is known.
    pub fn open(&self) -> Vec<String> {
        self.lock().open.keys().cloned().collect()
    }

    /// Vault was asked at `asked`, and these were left: the others have ended.
    fn left(&self, asked: Time, left: &std::collections::BTreeSet<String>) {
        let now = self.reporter.now();
        let mut inner = self.lock();
        // A lease issued after the question is not in the answer, and is alive.
        let gone = |id: &String, open: &Open| open.issued < asked && !left.contains(id);
        let ended: Vec<String> = inner
            .open
            .iter()
            .filter(|(id, open)| gone(id, open))
            .map(|(id, _)| id.clone())
            .collect();
        for id in ended {
            let Some(open) = inner.open.remove(&id) else { continue };
            let lease = open.number;
            let fact = if !open.returned && now >= open.expires {
                Fact::LeaseExpired { lease, lag: now.since(open.expires) }
            } else {
                Fact::LeaseRevoked { lease }
            };
            self.tell(now, open.inv, fact);
        }
    }

    /// Vault gave these up, or does not know them any more: nobody will revoke them.
    pub fn lost(&self, ids: &[String]) -> usize {
        let now = self.reporter.now();
        let mut inner = self.lock();
        let mut lost = 0;
        for id in ids {
            if let Some(open) = inner.open.remove(id) {
                lost += 1;
                self.tell(now, open.inv, Fact::LeaseIrrevocable { lease: open.number });
            }
        }
        lost
    }
}

/// The prefixes below which the run's leases are.
pub fn prefixes(scenario: &Scenario) -> Vec<String> {
    let mut all = Vec::new();
    for &target in Domain::ALL {
        let engine = scenario.vault.secrets.of(target);
        if engine.engine == Engine::Kv {
            continue;
        }
        for config in 0..engine.configs.get() {
            for home in [target, Domain::ALL[(target.index() + 1) % Domain::COUNT]] {
                let role = credential_role(scenario.phase, home, target, config);
                all.push(credential_path(engine.engine, target, &role));
            }
        }
    }
    all
}

/// Every lease that Vault has below the prefixes.
///
/// # Errors
/// [`VaultError`].
pub async fn listed(
    vault: &Vault,
    prefixes: &[String],
) -> Result<std::collections::BTreeSet<String>, VaultError> {
    let mut all = std::collections::BTreeSet::new();
    for prefix in prefixes {
        let keys = vault.list(&format!("sys/leases/lookup/{prefix}")).await?;
        all.extend(keys.into_iter().map(|key| format!("{prefix}/{key}")));
    }
    Ok(all)
}

/// The leases that Vault gave up revoking.
///
/// # Errors
/// [`VaultError`].
pub async fn irrevocable(vault: &Vault) -> Result<Vec<String>, VaultError> {
    let answer = vault.read("sys/leases?type=irrevocable&limit=none").await?;
    let leases = answer.data["leases"].as_array().into_iter().flatten();
    Ok(leases.filter_map(|lease| lease["lease_id"].as_str().map(str::to_owned)).collect())
}

/// Asks Vault which leases are left, until it is aborted.
pub async fn follow(
    vault: impl Fn() -> Result<Vault, VaultError>,
    book: LeaseBook,
    prefixes: Vec<String>,
) {
    let mut looks = 0_u32;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        looks = looks.wrapping_add(1);
        if book.alive() == 0 {
            continue;
        }
        let Ok(vault) = vault() else { continue };
        let asked = book.reporter.now();
        if let Ok(left) = listed(&vault, &prefixes).await {
            book.left(asked, &left);
        }
        if looks.is_multiple_of(IRREVOCABLE_EVERY)
            && let Ok(given_up) = irrevocable(&vault).await
        {
            book.lost(&given_up);
        }
    }
}
