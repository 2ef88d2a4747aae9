//! The leases of a run: which Vault gave out, to whom, and what became of them. Vault tells nobody
//! when it has revoked a lease, so it is asked which are left.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alertstorm_agent::names::{credential_path, credential_role};
use alertstorm_agent::vault::{Vault, VaultError};
use alertstorm_model::event::{Event, Fact};
use alertstorm_model::investigation::{Domain, InvestigationId};
use alertstorm_model::scenario::Scenario;
use alertstorm_model::scenario::knobs::Engine;
use alertstorm_model::time::Time;

use crate::reporter::{Observation, Reporter};

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
    returned: Option<Time>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    open: BTreeMap<String, Open>,
    /// Leases that Vault has, or had until the instant, and that nobody has told of yet: a pod tells
    /// of its leases at its end.
    unclaimed: BTreeMap<String, Option<Time>>,
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

    fn record(&self, at: Time, inv: InvestigationId, fact: Fact) {
        self.reporter.send(Observation::Fact(Event::of(at, inv, fact)));
    }

    /// Vault gave a lease out. Its time began after it was asked for and before the answer; of the
    /// two the earlier counts for `expires`, so that what ran out is not taken for revoked.
    pub fn issued(
        &self,
        id: &str,
        inv: InvestigationId,
        domain: Domain,
        issued: Time,
        expires: Time,
    ) {
        let mut inner = self.lock();
        let number = inner.next;
        inner.next += 1;
        let open = Open { number, inv, issued, expires, returned: None };
        inner.open.insert(id.to_owned(), open);
        inner.all.insert(id.to_owned(), inv);
        self.record(issued, inv, Fact::LeaseIssued { lease: number, domain, expires });
    }

    /// Vault renewed a lease.
    pub fn renewed(&self, id: &str, at: Time, expires: Time) {
        if let Some(open) = self.lock().open.get_mut(id) {
            open.expires = expires;
            self.record(at, open.inv, Fact::LeaseRenewed { lease: open.number });
        }
    }

    /// An agent revoked its token, and with it all its leases.
    pub fn returned(&self, inv: InvestigationId, at: Time) {
        let mut inner = self.lock();
        for open in inner.open.values_mut().filter(|open| open.inv == inv) {
            if open.returned.is_none() {
                open.returned = Some(at);
                self.record(at, inv, Fact::LeaseReturned { lease: open.number });
            }
        }
    }

    /// A pod has told all that it will: what Vault ended meanwhile ends in the book too.
    pub fn journal_read(&self, inv: InvestigationId) {
        let mut inner = self.lock();
        let of = |open: &Open| open.inv == inv;
        let own: Vec<String> =
            inner.open.iter().filter(|(_, open)| of(open)).map(|(id, _)| id.clone()).collect();
        for id in own {
            if let Some(Some(gone)) = inner.unclaimed.remove(&id) {
                self.end(&mut inner, &id, gone);
            }
        }
    }

    /// Vault has ended a lease.
    fn end(&self, inner: &mut Inner, id: &str, at: Time) {
        let Some(open) = inner.open.remove(id) else { return };
        let lease = open.number;
        // It cannot have ended before it was given back.
        let at = at.max(open.returned.unwrap_or(open.issued));
        let fact = if open.returned.is_none() && at >= open.expires {
            Fact::LeaseExpired { lease, lag: at.since(open.expires) }
        } else {
            Fact::LeaseRevoked { lease }
        };
        self.record(at, open.inv, fact);
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
            self.end(&mut inner, &id, now);
        }
        for id in left {
            // Whose it is, its pod will tell.
            if !inner.all.contains_key(id) {
                inner.unclaimed.entry(id.clone()).or_default();
            }
        }
        for (_, gone) in inner.unclaimed.iter_mut().filter(|(id, _)| !left.contains(*id)) {
            gone.get_or_insert(now);
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
                self.record(now, open.inv, Fact::LeaseIrrevocable { lease: open.number });
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

/// Asks the Vault that the book is of which leases are left, until it is aborted; also where the book has none alive, if
/// agents are `in_pods`, which tell of them late.
pub async fn follow(
    of_the_book: impl Fn() -> Result<Vault, VaultError>,
    book: LeaseBook,
    prefixes: Vec<String>,
    in_pods: bool,
) {
    let mut looks = 0_u32;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        looks = looks.wrapping_add(1);
        if !in_pods && book.alive() == 0 {
            continue;
        }
        let Ok(vault) = of_the_book() else { continue };
        let asked = book.reporter.now();
        let left = listed(&vault, &prefixes).await;
        // Unless it was replaced meanwhile.
        let still = of_the_book().is_ok();
        match left {
            Ok(left) if still => book.left(asked, &left),
            Ok(_) => {}
            Err(error) => book.reporter.failed("the list of Vault's leases", &error),
        }
        if looks.is_multiple_of(IRREVOCABLE_EVERY)
            && let Ok(given_up) = irrevocable(&vault).await
        {
            book.lost(&given_up);
        }
    }
}
