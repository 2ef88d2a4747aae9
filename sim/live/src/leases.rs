//! The lease book: the leases that Vault issued in a run, their investigations, and their ends.
//! Vault sends no event when it revokes a lease, so its leases are listed periodically.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alertstorm_agent::names::{Names, credential_role};
use alertstorm_agent::vault::{Vault, VaultError};
use alertstorm_model::event::{Event, Fact};
use alertstorm_model::investigation::{Domain, InvestigationId};
use alertstorm_model::scenario::Scenario;
use alertstorm_model::scenario::knobs::Engine;
use alertstorm_model::time::Time;

use crate::reporter::{Observation, Reporter};

/// The period of listing Vault's leases. A revocation is recorded up to this late.
pub const LIST_EVERY: Duration = Duration::from_millis(500);
/// Irrevocable leases are listed with every N-th list.
const IRREVOCABLE_EVERY: u32 = 10;

/// A lease that has not ended, as of the last list.
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
    /// Leases that were listed before an agent reported them (an agent in a pod reports when it
    /// ends), and since when they are no longer listed.
    unclaimed: BTreeMap<String, Option<Time>>,
    /// Every reported lease, for the reconciliation with Vault's audit log.
    all: BTreeMap<String, InvestigationId>,
}

/// The lease book; clones share it.
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

    /// Records a lease that Vault issued. Its time-to-live began between the request and the
    /// response. `expires` counts from the request, so that a lease that expired does not count as
    /// revoked.
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

    /// Records a renewal.
    pub fn renewed(&self, id: &str, at: Time, expires: Time) {
        if let Some(open) = self.lock().open.get_mut(id) {
            open.expires = expires;
            self.record(at, open.inv, Fact::LeaseRenewed { lease: open.number });
        }
    }

    /// Records that an agent revoked its token, and with it all of its leases.
    pub fn returned(&self, inv: InvestigationId, at: Time) {
        let mut inner = self.lock();
        for open in inner.open.values_mut().filter(|open| open.inv == inv) {
            if open.returned.is_none() {
                open.returned = Some(at);
                self.record(at, inv, Fact::LeaseReturned { lease: open.number });
            }
        }
    }

    /// All leases of the investigation are reported now. Those that are no longer listed have
    /// ended.
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

    /// Records that a lease ended: it expired if nobody revoked it before `expires`.
    fn end(&self, inner: &mut Inner, id: &str, at: Time) {
        let Some(open) = inner.open.remove(id) else { return };
        let lease = open.number;
        // A revocation cannot end it before it was requested.
        let at = at.max(open.returned.unwrap_or(open.issued));
        let fact = if open.returned.is_none() && at >= open.expires {
            Fact::LeaseExpired { lease, lag: at.since(open.expires) }
        } else {
            Fact::LeaseRevoked { lease }
        };
        self.record(at, open.inv, fact);
    }

    /// The number of leases that have not ended.
    pub fn alive(&self) -> usize {
        self.lock().open.len()
    }

    /// When the last lease that has not ended will expire.
    pub fn last_expiry(&self) -> Option<Time> {
        self.lock().open.values().map(|open| open.expires).max()
    }

    /// The number of leases that Vault listed and no agent reported.
    pub fn unclaimed(&self) -> usize {
        let inner = self.lock();
        inner.unclaimed.keys().filter(|id| !inner.all.contains_key(*id)).count()
    }

    /// Every lease that agents reported.
    pub fn all(&self) -> BTreeMap<String, InvestigationId> {
        self.lock().all.clone()
    }

    /// The ids of leases that have not ended.
    pub fn open(&self) -> Vec<String> {
        self.lock().open.keys().cloned().collect()
    }

    /// Records the result of a list that was requested at `asked`: other leases have ended.
    fn left(&self, asked: Time, left: &std::collections::BTreeSet<String>) {
        let now = self.reporter.now();
        let mut inner = self.lock();
        // A lease issued after the request may be missing in the response.
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
            // The agent has not reported it yet.
            if !inner.all.contains_key(id) {
                inner.unclaimed.entry(id.clone()).or_default();
            }
        }
        for (_, gone) in inner.unclaimed.iter_mut().filter(|(id, _)| !left.contains(*id)) {
            gone.get_or_insert(now);
        }
    }

    /// Records leases that Vault will not revoke: it gave up, or lost its storage. Returns how many
    /// of them had not ended.
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

/// The prefixes of the run's lease ids.
pub fn prefixes(scenario: &Scenario, names: &Names) -> Vec<String> {
    let mut all = Vec::new();
    for &target in Domain::ALL {
        let engine = scenario.vault.secrets.of(target);
        if engine.engine == Engine::Kv {
            continue;
        }
        for config in 0..engine.configs.get() {
            for home in [target, Domain::ALL[(target.index() + 1) % Domain::COUNT]] {
                let role = credential_role(scenario.phase, home, target, config);
                all.push(names.credential_path(engine.engine, target, &role));
            }
        }
    }
    all
}

/// Lists the ids of Vault's leases with these prefixes.
///
/// # Errors
/// The first request that fails.
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

/// Lists the leases that Vault has failed to revoke and no longer retries.
///
/// # Errors
/// If the request fails.
pub async fn irrevocable(vault: &Vault) -> Result<Vec<String>, VaultError> {
    let answer = vault.read("sys/leases?type=irrevocable&limit=none").await?;
    let leases = answer.data["leases"].as_array().into_iter().flatten();
    Ok(leases.filter_map(|lease| lease["lease_id"].as_str().map(str::to_owned)).collect())
}

/// Lists Vault's leases for the lease book until it is aborted. `client` fails if Vault lost its
/// storage since. While no lease is alive nothing is listed, except if agents run `in_pods`, as
/// these report their leases late.
pub async fn follow(
    client: impl Fn() -> Result<Vault, VaultError>,
    book: LeaseBook,
    prefixes: Vec<String>,
    in_pods: bool,
) {
    let mut lists = 0_u32;
    loop {
        tokio::time::sleep(LIST_EVERY).await;
        lists = lists.wrapping_add(1);
        if !in_pods && book.alive() == 0 {
            continue;
        }
        let Ok(vault) = client() else { continue };
        let asked = book.reporter.now();
        let left = listed(&vault, &prefixes).await;
        // Vault may have lost its storage before it answered.
        let still = client().is_ok();
        match left {
            Ok(left) if still => book.left(asked, &left),
            Ok(_) => {}
            Err(error) => book.reporter.failed("the list of Vault's leases", &error),
        }
        if lists.is_multiple_of(IRREVOCABLE_EVERY) {
            match irrevocable(&vault).await {
                Ok(irrevocable) => _ = book.lost(&irrevocable),
                Err(error) => {
                    book.reporter.failed("the list of Vault's irrevocable leases", &error);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reporter::Clock;

    #[test]
    fn a_listed_lease_that_no_agent_reports_stays_unclaimed_also_after_its_end() {
        let (reporter, _inbox) = Reporter::new(Clock::default());
        let book = LeaseBook::new(reporter);
        let listed = |ids: &[&str]| ids.iter().map(|&id| id.to_owned()).collect();
        book.left(Time(1), &listed(&["database/creds/a/1", "database/creds/a/2"]));
        assert_eq!(book.unclaimed(), 2);
        book.issued("database/creds/a/1", InvestigationId(1), Domain::Database, Time(0), Time(9));
        book.left(Time(2), &listed(&[]));
        assert_eq!(book.unclaimed(), 1);
    }
}
