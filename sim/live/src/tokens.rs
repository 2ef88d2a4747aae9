//! The token book: the Vault tokens of agents' logins, and their ends. A token is identified by its
//! accessor, with which it can be looked up and revoked, and not used. Its agent revokes it when it
//! ends. Any other token, such as that of a crashed agent, mints leases until it expires: it is looked
//! up from its expiry on, and revoked at the end of the run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alertstorm_agent::names::Names;
use alertstorm_agent::vault::{Vault, VaultError};
use alertstorm_model::event::{Event, Fact, Reconciliation};
use alertstorm_model::investigation::InvestigationId;
use alertstorm_model::scenario::knobs::AuthMethod;
use alertstorm_model::time::Time;
use serde_json::json;

use crate::reporter::{Observation, Reporter};

/// The period of looking up tokens whose time-to-live is over.
const LOOK_UP_EVERY: Duration = Duration::from_secs(1);
/// A token that expires or is revoked leaves Vault's list this long after at most.
const SETTLED_WITHIN: Duration = Duration::from_secs(5);
/// The pause between two lists.
const PAUSE: Duration = Duration::from_millis(250);

/// A token that has not ended.
#[derive(Clone, Debug)]
struct Open {
    number: u64,
    inv: InvestigationId,
    issued: Time,
    expires: Time,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    open: BTreeMap<String, Open>,
    /// The number of reported tokens of each investigation.
    reported: BTreeMap<InvestigationId, u64>,
    /// When Vault lost its storage, and with it every token.
    lost_at: Option<Time>,
}

/// The token book; clones share it.
#[derive(Clone, Debug)]
pub struct TokenBook {
    inner: Arc<Mutex<Inner>>,
    reporter: Reporter,
}

impl TokenBook {
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

    /// Records a token that Vault issued at a login. `expires` counts from the request.
    pub fn issued(&self, accessor: &str, inv: InvestigationId, issued: Time, expires: Time) {
        let mut inner = self.lock();
        let token = inner.next;
        inner.next += 1;
        *inner.reported.entry(inv).or_default() += 1;
        self.record(issued, inv, Fact::TokenIssued { token, expires });
        match inner.lost_at {
            // An agent in a pod reports its login when it ends.
            Some(lost) if issued < lost => self.record(lost, inv, Fact::TokenRevoked { token }),
            _ => {
                let open = Open { number: token, inv, issued, expires };
                inner.open.insert(accessor.to_owned(), open);
            }
        }
    }

    /// Records that a token was revoked: by its agent, or by the harness.
    pub fn revoked(&self, accessor: &str, at: Time) {
        if let Some(open) = self.lock().open.remove(accessor) {
            let fact = Fact::TokenRevoked { token: open.number };
            self.record(at.max(open.issued), open.inv, fact);
        }
    }

    fn expired(&self, accessor: &str) {
        let now = self.reporter.now();
        if let Some(open) = self.lock().open.remove(accessor) {
            self.record(now, open.inv, Fact::TokenExpired { token: open.number });
        }
    }

    /// Records that Vault lost its storage: its tokens are not accepted any more.
    pub fn lost(&self) {
        let now = self.reporter.now();
        let mut inner = self.lock();
        inner.lost_at = Some(now);
        for open in std::mem::take(&mut inner.open).into_values() {
            self.record(now, open.inv, Fact::TokenRevoked { token: open.number });
        }
    }

    /// The accessors of tokens that have not ended.
    pub fn open(&self) -> Vec<String> {
        self.lock().open.keys().cloned().collect()
    }

    /// The accessors of tokens whose time-to-live is over.
    fn due(&self) -> Vec<String> {
        let now = self.reporter.now();
        let inner = self.lock();
        let due = inner.open.iter().filter(|(_, open)| open.expires <= now);
        due.map(|(accessor, _)| accessor.clone()).collect()
    }

    /// The number of tokens that agents reported, by investigation.
    pub fn reported(&self) -> BTreeMap<InvestigationId, u64> {
        self.lock().reported.clone()
    }
}

/// Compares the number of tokens in the book with that in Vault's audit trail, by investigation. In
/// the trail, `None` has the logins that it does not attribute.
pub fn unmatched(
    reported: &BTreeMap<InvestigationId, u64>,
    in_trail: &BTreeMap<Option<InvestigationId>, u64>,
) -> u64 {
    if in_trail.contains_key(&None) {
        return in_trail.values().sum::<u64>().abs_diff(reported.values().sum());
    }
    let of_trail = |id: &InvestigationId| in_trail.get(&Some(*id)).copied().unwrap_or(0);
    let missing: u64 = reported.iter().map(|(id, count)| count.abs_diff(of_trail(id))).sum();
    let foreign =
        in_trail.iter().filter(|(id, _)| id.is_some_and(|id| !reported.contains_key(&id)));
    missing + foreign.map(|(_, count)| count).sum::<u64>()
}

/// Looks up tokens whose time-to-live is over until it is aborted. `client` fails if Vault lost its
/// storage since.
pub async fn follow(client: impl Fn() -> Result<Vault, VaultError>, book: TokenBook) {
    loop {
        tokio::time::sleep(LOOK_UP_EVERY).await;
        let due = book.due();
        if due.is_empty() {
            continue;
        }
        let Ok(vault) = client() else { continue };
        for accessor in due {
            match is_alive(&vault, &accessor).await {
                Ok(true) => {}
                Ok(false) => book.expired(&accessor),
                Err(error) => {
                    book.reporter.failed("the look-up of a Vault token", &error);
                    break;
                }
            }
        }
    }
}

/// Whether Vault still has the token. It answers 400 ("invalid accessor") if not, or 403 ("bad token")
/// while it revokes the token (vault/token_store.go v1.21.1).
async fn is_alive(vault: &Vault, accessor: &str) -> Result<bool, VaultError> {
    match vault.write("auth/token/lookup-accessor", json!({"accessor": accessor})).await {
        Ok(_) => Ok(true),
        Err(VaultError::Wrong { code: 400 | 404, .. } | VaultError::Denied) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the token was issued at the path of this login.
async fn is_of(vault: &Vault, login: &str, accessor: &str) -> Result<bool, VaultError> {
    let answer = vault.write("auth/token/lookup-accessor", json!({"accessor": accessor})).await?;
    Ok(answer.data["path"].as_str() == Some(login))
}

/// The number of tokens of the run's logins in Vault. `sys/leases` lists a service token of a login
/// below the path of the login (`RegisterAuth` in vault/expiration.go).
async fn listed(vault: &Vault, names: &Names, auth: AuthMethod) -> Result<u64, VaultError> {
    let tokens = vault.list(&format!("sys/leases/lookup/{}", names.login_path(auth))).await?;
    Ok(tokens.len() as u64)
}

/// Compares the book with Vault's list, at the end of the run.
///
/// # Errors
/// If a list fails.
pub async fn reconcile(
    vault: &Vault,
    names: &Names,
    auth: AuthMethod,
    book: &TokenBook,
) -> Result<Reconciliation, VaultError> {
    let until = tokio::time::Instant::now() + SETTLED_WITHIN;
    loop {
        let (listed, open) = (listed(vault, names, auth).await?, book.open().len() as u64);
        if listed == open || tokio::time::Instant::now() >= until {
            return Ok(Reconciliation {
                booked: book.reported().values().sum(),
                alive: listed.min(open),
                alive_unbooked: listed.saturating_sub(open),
                booked_not_alive: open.saturating_sub(listed),
                ..Reconciliation::default()
            });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Revokes every token that has not ended, and with it what it could still be used for. A token that
/// Vault does not have counts as revoked. Accessors come from journals, which agents write: a token of
/// another login than the run's is left alone. Returns the errors of those that may live on.
pub async fn revoke_all(vault: &Vault, login: &str, book: &TokenBook) -> Vec<VaultError> {
    let mut failed = Vec::new();
    for accessor in book.open() {
        match is_of(vault, login, &accessor).await {
            Ok(true) => {}
            Ok(false) => {
                let why = "a journal names a Vault token that the run's logins did not issue";
                book.reporter.send(Observation::Invalid(why.to_owned()));
                continue;
            }
            Err(VaultError::Wrong { code: 400 | 404, .. }) => {
                book.revoked(&accessor, book.reporter.now());
                continue;
            }
            Err(error) => {
                failed.push(error);
                continue;
            }
        }
        let body = json!({"accessor": accessor});
        match vault.write("auth/token/revoke-accessor", body).await {
            Ok(_) | Err(VaultError::Wrong { code: 400 | 404, .. }) => {
                book.revoked(&accessor, book.reporter.now());
            }
            Err(error) => failed.push(error),
        }
    }
    failed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reporter::{Clock, Inbox};

    fn facts(inbox: &mut Inbox) -> Vec<(u64, Fact)> {
        let messages = std::iter::from_fn(|| inbox.try_recv());
        let of = |message| match message {
            Observation::Fact(event) => Some((event.inv?.0, event.fact)),
            _ => None,
        };
        messages.filter_map(of).collect()
    }

    #[test]
    fn a_token_that_its_agent_did_not_revoke_is_due_at_its_expiry() {
        let (reporter, mut inbox) = Reporter::new(Clock::default());
        let book = TokenBook::new(reporter);
        let (crashed, tidy) = (InvestigationId(1), InvestigationId(2));
        book.issued("of-1", crashed, Time(1), Time(0));
        book.issued("of-2", tidy, Time(2), Time::NEVER);
        book.issued("again-of-2", tidy, Time(2), Time::NEVER);
        book.revoked("of-2", Time(1));
        assert_eq!(book.due(), ["of-1"]);
        book.expired("of-1");
        book.revoked("of-1", Time(9));
        assert_eq!(book.open(), ["again-of-2"]);
        assert_eq!(book.reported(), BTreeMap::from([(crashed, 1), (tidy, 2)]));
        let ends: Vec<_> = facts(&mut inbox).split_off(3);
        let revoked = (2, Fact::TokenRevoked { token: 1 });
        assert_eq!(ends, [revoked, (1, Fact::TokenExpired { token: 0 })]);
    }

    #[test]
    fn a_vault_that_lost_its_storage_has_no_token_also_none_that_is_reported_later() {
        let clock = Clock::default();
        clock.start(tokio::time::Instant::now() - Duration::from_secs(5));
        let (reporter, mut inbox) = Reporter::new(clock);
        let book = TokenBook::new(reporter);
        book.issued("a", InvestigationId(1), Time(1), Time::NEVER);
        book.lost();
        book.issued("b", InvestigationId(2), Time(2), Time::NEVER);
        assert!(book.open().is_empty());
        let ends = facts(&mut inbox);
        let revoked = |fact: &Fact| matches!(fact, Fact::TokenRevoked { .. });
        assert_eq!(ends.iter().filter(|(_, fact)| revoked(fact)).count(), 2, "{ends:?}");
    }

    #[test]
    fn a_login_in_the_trail_that_no_agent_reported_is_unmatched() {
        let (a, b) = (InvestigationId(1), InvestigationId(2));
        let reported = BTreeMap::from([(a, 1), (b, 2)]);
        let trail = |of: &[(Option<InvestigationId>, u64)]| of.iter().copied().collect();
        assert_eq!(unmatched(&reported, &trail(&[(Some(a), 1), (Some(b), 2)])), 0);
        assert_eq!(unmatched(&reported, &trail(&[(Some(a), 2), (Some(b), 1)])), 2);
        let foreign = trail(&[(Some(a), 1), (Some(b), 2), (Some(InvestigationId(3)), 1)]);
        assert_eq!(unmatched(&reported, &foreign), 1);
        assert_eq!(unmatched(&reported, &trail(&[(None, 3)])), 0);
        assert_eq!(unmatched(&reported, &trail(&[(None, 4)])), 1);
    }
}
