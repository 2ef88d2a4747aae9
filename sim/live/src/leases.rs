//! The lease book: the leases that Vault issued in a run, their investigations, and their ends.
//! Vault sends no event when it revokes a lease, so its leases are listed periodically.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alertstorm_agent::names::{Names, credential_role};
use alertstorm_agent::vault::{Vault, VaultError};
use alertstorm_model::event::Fact;
use alertstorm_model::investigation::{Domain, InvestigationId};
use alertstorm_model::scenario::Scenario;
use alertstorm_model::scenario::knobs::Engine;
use alertstorm_model::time::Time;

use crate::book::Book;
use crate::reporter::Reporter;

/// The period of listing Vault's leases. A revocation is recorded up to this late.
pub const LIST_EVERY: Duration = Duration::from_millis(500);
/// Irrevocable leases are listed with every N-th list.
const IRREVOCABLE_EVERY: u32 = 10;

/// A lease that has not ended, as of the last list.
#[derive(Clone, Debug)]
struct Open {
    number: u64,
    /// None if nothing names the investigation of a lease that no agent reported.
    inv: Option<InvestigationId>,
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
    /// Every lease of the ledger, for the reconciliation with Vault's audit log.
    all: BTreeMap<String, Option<InvestigationId>>,
    /// Investigations with a journal that was read and is not empty.
    journals: BTreeSet<InvestigationId>,
    /// When Vault lost its storage, and with it every lease.
    lost_at: Option<Time>,
    /// When the last list before that was requested: an earlier lease was listed if it was alive.
    listed_before: Time,
    /// When the last list was requested.
    listed_at: Time,
    /// Leases that were listed then, and that no agent had reported.
    lost_unclaimed: BTreeSet<String>,
    /// The number of leases that were alive when Vault lost its storage.
    lost_with_storage: u64,
}

/// A lease that Vault issued to an agent of the run, and that no agent reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreported {
    /// Its id in Vault.
    pub id: String,
    /// Its investigation; none if the audit trail names none.
    pub inv: Option<InvestigationId>,
    /// The domain of its secrets engine.
    pub domain: Domain,
    /// When Vault issued it, by the audit trail.
    pub issued: Time,
    /// When it expires.
    pub expires: Time,
    /// When its token was revoked by the agent, by the audit trail.
    pub returned: Option<Time>,
}

/// The lease book; clones share it.
#[derive(Clone, Debug)]
pub struct LeaseBook(Book<Inner>);

impl LeaseBook {
    /// An empty book.
    pub fn new(reporter: Reporter) -> Self {
        Self(Book::new(reporter))
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
        let mut inner = self.0.lock();
        self.enter(&mut inner, id, Some(inv), domain, (issued, expires));
        // An agent in a pod reports its leases when it ends. One that was not listed may have had no time
        // to be.
        let is_new = issued >= inner.listed_before && !inner.unclaimed.contains_key(id);
        let alive = inner.lost_unclaimed.contains(id) || is_new;
        if let Some(lost) = inner.lost_at.filter(|lost| issued < *lost && alive) {
            self.lose(&mut inner, id, lost);
        }
    }

    fn enter(
        &self,
        inner: &mut Inner,
        id: &str,
        inv: Option<InvestigationId>,
        domain: Domain,
        (issued, expires): (Time, Time),
    ) -> u64 {
        let number = inner.next;
        inner.next += 1;
        let open = Open { number, inv, issued, expires, returned: None };
        inner.open.insert(id.to_owned(), open);
        inner.all.insert(id.to_owned(), inv);
        self.0.record(issued, inv, Fact::LeaseIssued { lease: number, domain, expires });
        number
    }

    /// Records a lease that no agent reported. Nobody holds it, unless its agent's journal is missing:
    /// then the agent may have held it. `listed` has the leases that Vault has now.
    pub fn recover(&self, lease: &Unreported, in_pods: bool, listed: &BTreeSet<String>) {
        let now = self.0.reporter.now();
        let mut inner = self.0.lock();
        if inner.all.contains_key(&lease.id) {
            return;
        }
        let Unreported { id, inv, domain, issued, expires, returned } = lease;
        let returned = returned.filter(|at| at < expires);
        let number = self.enter(&mut inner, id, *inv, *domain, (*issued, *expires));
        let has_reported = |inv: &InvestigationId| !in_pods || inner.journals.contains(inv);
        if inv.as_ref().is_none_or(has_reported) {
            self.0.record(*issued, *inv, Fact::LeaseUnclaimed { lease: number });
        } else if let Some(returned) = returned {
            self.0.record(returned, *inv, Fact::LeaseReturned { lease: number });
        }
        if let Some(open) = inner.open.get_mut(id) {
            open.returned = returned;
        }
        let gone = inner.unclaimed.remove(id).flatten();
        match inner.lost_at {
            Some(lost) if *issued < lost => {
                self.lose(&mut inner, id, lost);
            }
            _ if listed.contains(id) => {}
            // It ended, and nobody observed when.
            _ => self.end(&mut inner, id, gone.or(returned).unwrap_or(now.min(*expires))),
        }
    }

    /// Records the end of a lease that was alive when Vault lost its storage.
    fn lose(&self, inner: &mut Inner, id: &str, lost: Time) {
        let Some(open) = inner.open.remove(id) else { return };
        inner.lost_with_storage += u64::from(!inner.lost_unclaimed.remove(id));
        self.0.record(lost, open.inv, Fact::LeaseIrrevocable { lease: open.number });
    }

    /// Records that Vault lost its storage: it will not revoke the leases that were alive. Returns
    /// their number, as far as it is known: agents in pods report leases late.
    pub fn storage_lost(&self) -> usize {
        let reported = self.lost(&self.open());
        let now = self.0.reporter.now();
        let mut inner = self.0.lock();
        let Inner { unclaimed, all, .. } = &*inner;
        let alive =
            |(id, gone): &(&String, &Option<Time>)| gone.is_none() && !all.contains_key(*id);
        let listed: BTreeSet<String> =
            unclaimed.iter().filter(alive).map(|(id, _)| id.clone()).collect();
        let count = reported + listed.len();
        inner.lost_at = Some(now);
        inner.listed_before = inner.listed_at;
        inner.lost_unclaimed = listed;
        inner.lost_with_storage += count as u64;
        count
    }

    /// The number of leases that were alive when Vault lost its storage.
    pub fn lost_with_storage(&self) -> u64 {
        self.0.lock().lost_with_storage
    }

    /// Records a renewal.
    pub fn renewed(&self, id: &str, at: Time, expires: Time) {
        if let Some(open) = self.0.lock().open.get_mut(id) {
            open.expires = expires;
            self.0.record(at, open.inv, Fact::LeaseRenewed { lease: open.number });
        }
    }

    /// Records that an agent revoked its token, and with it all of its leases.
    pub fn returned(&self, inv: InvestigationId, at: Time) {
        let mut inner = self.0.lock();
        for open in inner.open.values_mut().filter(|open| open.inv == Some(inv)) {
            if open.returned.is_none() {
                open.returned = Some(at);
                self.0.record(at, open.inv, Fact::LeaseReturned { lease: open.number });
            }
        }
    }

    /// All leases of the investigation are reported now, unless the journal `is_empty`: it may be
    /// missing. Those that are no longer listed have ended.
    pub fn journal_read(&self, inv: InvestigationId, is_empty: bool) {
        let mut inner = self.0.lock();
        if !is_empty {
            inner.journals.insert(inv);
        }
        let of = |open: &Open| open.inv == Some(inv);
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
        self.0.record(at, open.inv, fact);
    }

    /// The number of leases that have not ended.
    pub fn alive(&self) -> usize {
        self.0.lock().open.len()
    }

    /// When the last lease that has not ended will expire.
    pub fn last_expiry(&self) -> Option<Time> {
        self.0.lock().open.values().map(|open| open.expires).max()
    }

    /// The leases that Vault listed and that are not in the ledger.
    pub fn unclaimed(&self) -> Vec<String> {
        let inner = self.0.lock();
        let unclaimed = inner.unclaimed.keys().filter(|id| !inner.all.contains_key(*id));
        unclaimed.cloned().collect()
    }

    /// Every lease of the ledger.
    pub fn all(&self) -> BTreeMap<String, Option<InvestigationId>> {
        self.0.lock().all.clone()
    }

    /// The ids of leases that have not ended.
    pub fn open(&self) -> Vec<String> {
        self.0.lock().open.keys().cloned().collect()
    }

    /// Records the result of a list that was requested at `asked`: other leases have ended.
    pub fn left(&self, asked: Time, left: &BTreeSet<String>) {
        let now = self.0.reporter.now();
        let mut inner = self.0.lock();
        inner.listed_at = inner.listed_at.max(asked);
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

    /// Records leases that Vault gave up revoking. Returns how many of them had not ended.
    pub fn lost(&self, ids: &[String]) -> usize {
        let now = self.0.reporter.now();
        let mut inner = self.0.lock();
        let mut lost = 0;
        for id in ids {
            if let Some(open) = inner.open.remove(id) {
                lost += 1;
                self.0.record(now, open.inv, Fact::LeaseIrrevocable { lease: open.number });
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
pub async fn listed(vault: &Vault, prefixes: &[String]) -> Result<BTreeSet<String>, VaultError> {
    let mut all = BTreeSet::new();
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
        let asked = book.0.reporter.now();
        let left = listed(&vault, &prefixes).await;
        // Vault may have lost its storage before it answered.
        let still = client().is_ok();
        match left {
            Ok(left) if still => book.left(asked, &left),
            Ok(_) => {}
            Err(error) => book.0.reporter.failed("the list of Vault's leases", &error),
        }
        if lists.is_multiple_of(IRREVOCABLE_EVERY) {
            match irrevocable(&vault).await {
                Ok(irrevocable) => _ = book.lost(&irrevocable),
                Err(error) => {
                    book.0.reporter.failed("the list of Vault's irrevocable leases", &error);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reporter::{Clock, Inbox, Observation};

    fn facts(inbox: &mut Inbox) -> Vec<(Time, Fact)> {
        let messages = std::iter::from_fn(|| inbox.try_recv());
        let of = |message| match message {
            Observation::Fact(event) => Some((event.at, event.fact)),
            _ => None,
        };
        messages.filter_map(of).collect()
    }

    fn listed(ids: &[&str]) -> BTreeSet<String> {
        ids.iter().map(|&id| id.to_owned()).collect()
    }

    fn unreported(id: &str, inv: Option<InvestigationId>, returned: Option<Time>) -> Unreported {
        let domain = Domain::Database;
        Unreported { id: id.to_owned(), inv, domain, issued: Time(5), expires: Time(50), returned }
    }

    /// A book whose clock shows more than a minute.
    fn book() -> (LeaseBook, Inbox) {
        let clock = Clock::default();
        clock.start(tokio::time::Instant::now() - Duration::from_secs(60));
        let (reporter, inbox) = Reporter::new(clock);
        (LeaseBook::new(reporter), inbox)
    }

    #[test]
    fn a_lease_that_a_pod_reports_after_vault_lost_its_storage_is_irrevocable() {
        let (reporter, mut inbox) = Reporter::new(Clock::default());
        reporter.clock().start(tokio::time::Instant::now() - Duration::from_secs(10));
        let book = LeaseBook::new(reporter);
        let listed = |ids: &[&str]| ids.iter().map(|&id| id.to_owned()).collect();
        book.left(Time(1), &listed(&["a/1", "a/2"]));
        book.left(Time(2), &listed(&["a/1"]));
        // The second one was revoked before, as was the fourth, which no list has; the third was issued
        // since the last list.
        assert_eq!(book.storage_lost(), 1);
        book.left(Time(3), &listed(&[]));
        for (number, id, at) in [(1, "a/1", 0), (2, "a/2", 0), (3, "a/3", 2), (4, "a/4", 0)] {
            book.issued(id, InvestigationId(number), Domain::Database, Time(at), Time(9));
            book.journal_read(InvestigationId(number), false);
        }
        book.left(Time(4), &listed(&[]));
        let mut ends = Vec::new();
        while let Some(Observation::Fact(event)) = inbox.try_recv() {
            match event.fact {
                Fact::LeaseIssued { .. } => {}
                fact => ends.push((event.inv.map_or(0, |inv| inv.0), fact)),
            }
        }
        let is_lost = |fact: &Fact| matches!(fact, Fact::LeaseIrrevocable { .. });
        let lost: Vec<u64> = ends.iter().filter(|(_, f)| is_lost(f)).map(|(id, _)| *id).collect();
        assert_eq!((lost, ends.len(), book.alive()), (vec![1, 3], 4, 0), "{ends:?}");
        assert_eq!(book.lost_with_storage(), 2);
    }

    #[test]
    fn a_listed_lease_that_no_agent_reports_stays_unclaimed_also_after_its_end() {
        let (reporter, _inbox) = Reporter::new(Clock::default());
        let book = LeaseBook::new(reporter);
        book.left(Time(1), &listed(&["database/creds/a/1", "database/creds/a/2"]));
        assert_eq!(book.unclaimed().len(), 2);
        book.issued("database/creds/a/1", InvestigationId(1), Domain::Database, Time(0), Time(9));
        book.left(Time(2), &listed(&[]));
        assert_eq!(book.unclaimed(), ["database/creds/a/2"]);
    }

    #[test]
    fn a_lease_whose_response_was_lost_is_in_the_ledger_and_ends_when_vault_no_longer_lists_it() {
        let (book, mut inbox) = book();
        let inv = Some(InvestigationId(1));
        book.recover(&unreported("a", inv, None), false, &listed(&["a"]));
        book.recover(&unreported("a", inv, None), false, &listed(&["a"]));
        book.recover(&unreported("b", None, Some(Time(9))), false, &listed(&["a"]));
        book.recover(&unreported("c", inv, None), false, &listed(&["a"]));
        assert_eq!(book.open(), ["a"]);
        assert!(book.unclaimed().is_empty());
        let issued = |lease| {
            (Time(5), Fact::LeaseIssued { lease, domain: Domain::Database, expires: Time(50) })
        };
        let unclaimed = |lease| (Time(5), Fact::LeaseUnclaimed { lease });
        let all = [
            issued(0),
            unclaimed(0),
            issued(1),
            unclaimed(1),
            (Time(9), Fact::LeaseRevoked { lease: 1 }),
            issued(2),
            unclaimed(2),
            (Time(50), Fact::LeaseExpired { lease: 2, lag: alertstorm_model::time::Span::ZERO }),
        ];
        assert_eq!(facts(&mut inbox), all);
    }

    #[test]
    fn a_lease_of_an_agent_whose_journal_is_missing_may_have_been_held_by_it() {
        let (book, mut inbox) = book();
        let (lost, read) = (InvestigationId(1), InvestigationId(2));
        book.journal_read(lost, true);
        book.journal_read(read, false);
        book.recover(&unreported("a", Some(lost), Some(Time(9))), true, &listed(&[]));
        book.recover(&unreported("b", Some(read), None), true, &listed(&["b"]));
        let facts: Vec<Fact> = facts(&mut inbox).into_iter().map(|(_, fact)| fact).collect();
        assert_eq!(facts[1], Fact::LeaseReturned { lease: 0 });
        assert_eq!(facts[2], Fact::LeaseRevoked { lease: 0 });
        assert_eq!(facts[4], Fact::LeaseUnclaimed { lease: 1 });
    }

    #[test]
    fn a_lease_that_was_issued_before_vault_lost_its_storage_is_irrevocable() {
        let (book, mut inbox) = book();
        assert_eq!(book.storage_lost(), 0);
        book.recover(&unreported("a", None, None), false, &listed(&[]));
        assert!(book.open().is_empty());
        let last = facts(&mut inbox).pop().map(|(_, fact)| fact);
        assert_eq!(last, Some(Fact::LeaseIrrevocable { lease: 0 }));
    }
}
