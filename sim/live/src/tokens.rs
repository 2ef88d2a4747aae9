//! The token book: the Vault tokens of agents' logins, and their ends. A token is identified by its
//! accessor, with which it can be looked up and revoked, and not used. Its agent revokes it when it
//! ends. Any other token, such as that of a crashed agent, mints leases until it expires: it is looked
//! up from its expiry on, and revoked at the end of the run.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alertstorm_agent::vault::{Answer, Vault, VaultError};
use alertstorm_model::event::{Fact, Reconciliation};
use alertstorm_model::investigation::InvestigationId;
use alertstorm_model::time::{Span, Time};
use alertstorm_platform::identity::investigation_of;
use serde_json::json;

use crate::book::Book;
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
    /// None if nothing names the investigation of a token that no agent reported.
    inv: Option<InvestigationId>,
    issued: Time,
    expires: Time,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    open: BTreeMap<String, Open>,
    /// Every token of the ledger, by its accessor.
    all: BTreeMap<String, Option<InvestigationId>>,
    /// Investigations with a journal that was read and is not empty.
    journals: BTreeSet<InvestigationId>,
    /// When Vault lost its storage, and with it every token.
    lost_at: Option<Time>,
}

/// A token that Vault issued at a login of the run, and that no agent reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreported {
    /// Its accessor.
    pub accessor: String,
    /// Its investigation; none if nothing names it.
    pub inv: Option<InvestigationId>,
    /// When Vault issued it.
    pub issued: Time,
    /// When it expires.
    pub expires: Time,
    /// When the agent revoked it, by the audit trail.
    pub revoked: Option<Time>,
}

/// The token book; clones share it.
#[derive(Clone, Debug)]
pub struct TokenBook(Book<Inner>);

impl TokenBook {
    /// An empty book.
    pub fn new(reporter: Reporter) -> Self {
        Self(Book::new(reporter))
    }

    /// Records a token that Vault issued at a login. `expires` counts from the request.
    pub fn issued(&self, accessor: &str, inv: InvestigationId, issued: Time, expires: Time) {
        if accessor.is_empty() {
            let why = format!(
                "the Vault token of {inv} has no accessor, so it is a batch token, which nobody can look \
                 up or revoke: set `token_type` to `service`"
            );
            return self.0.reporter.send(Observation::Invalid(why));
        }
        self.enter(&mut self.0.lock(), accessor, Some(inv), (issued, expires));
    }

    /// The token's number; none if it is in the book.
    fn enter(
        &self,
        inner: &mut Inner,
        accessor: &str,
        inv: Option<InvestigationId>,
        (issued, expires): (Time, Time),
    ) -> Option<u64> {
        if inner.all.contains_key(accessor) {
            return None;
        }
        let token = inner.next;
        inner.next += 1;
        inner.all.insert(accessor.to_owned(), inv);
        self.0.record(issued, inv, Fact::TokenIssued { token, expires });
        match inner.lost_at {
            // An agent in a pod reports its login when it ends.
            Some(lost) if issued < lost => self.0.record(lost, inv, Fact::TokenRevoked { token }),
            _ => {
                let open = Open { number: token, inv, issued, expires };
                inner.open.insert(accessor.to_owned(), open);
            }
        }
        Some(token)
    }

    /// Records a token that no agent reported. Nobody holds it, unless its agent's journal is missing:
    /// then the agent may have held it.
    pub fn recover(&self, token: &Unreported, in_pods: bool) {
        let Unreported { accessor, inv, issued, expires, revoked } = token;
        let mut inner = self.0.lock();
        let Some(token) = self.enter(&mut inner, accessor, *inv, (*issued, *expires)) else {
            return;
        };
        let has_reported = |inv: &InvestigationId| !in_pods || inner.journals.contains(inv);
        if inner.open.contains_key(accessor) && inv.as_ref().is_none_or(has_reported) {
            self.0.record(*issued, *inv, Fact::TokenUnclaimed { token });
        }
        drop(inner);
        if let Some(revoked) = revoked {
            self.revoked(accessor, *revoked);
        }
    }

    /// The journal of the investigation's agent was read. If it `is_empty`, it may be missing.
    pub fn journal_read(&self, inv: InvestigationId, is_empty: bool) {
        if !is_empty {
            self.0.lock().journals.insert(inv);
        }
    }

    /// Records that a token was revoked: by its agent, or by the harness.
    pub fn revoked(&self, accessor: &str, at: Time) {
        if let Some(open) = self.0.lock().open.remove(accessor) {
            let fact = Fact::TokenRevoked { token: open.number };
            self.0.record(at.max(open.issued), open.inv, fact);
        }
    }

    fn expired(&self, accessor: &str) {
        let now = self.0.reporter.now();
        if let Some(open) = self.0.lock().open.remove(accessor) {
            self.0.record(now, open.inv, Fact::TokenExpired { token: open.number });
        }
    }

    /// Records that a token that Vault no longer has expired when it was due, if it was due; whether it
    /// was.
    fn expired_when_due(&self, accessor: &str) -> bool {
        let now = self.0.reporter.now();
        let mut inner = self.0.lock();
        let is_due = inner.open.get(accessor).is_some_and(|open| open.expires <= now);
        if let Some(open) = is_due.then(|| inner.open.remove(accessor)).flatten() {
            let at = open.expires.max(open.issued);
            self.0.record(at, open.inv, Fact::TokenExpired { token: open.number });
        }
        is_due
    }

    /// Records that Vault lost its storage: its tokens are not accepted any more.
    pub fn lost(&self) {
        let now = self.0.reporter.now();
        let mut inner = self.0.lock();
        inner.lost_at = Some(now);
        for open in std::mem::take(&mut inner.open).into_values() {
            self.0.record(now, open.inv, Fact::TokenRevoked { token: open.number });
        }
    }

    /// The accessors of tokens that have not ended.
    pub fn open(&self) -> Vec<String> {
        self.0.lock().open.keys().cloned().collect()
    }

    /// The accessors of tokens whose time-to-live is over.
    fn due(&self) -> Vec<String> {
        let now = self.0.reporter.now();
        let inner = self.0.lock();
        let due = inner.open.iter().filter(|(_, open)| open.expires <= now);
        due.map(|(accessor, _)| accessor.clone()).collect()
    }

    /// Every token of the ledger, by its accessor.
    pub fn all(&self) -> BTreeMap<String, Option<InvestigationId>> {
        self.0.lock().all.clone()
    }

    /// A token for people: its accessor, and its investigation if one is known.
    pub fn name(&self, accessor: &str) -> String {
        match self.0.lock().all.get(accessor).copied().flatten() {
            Some(inv) => format!("{accessor} ({inv})"),
            None => accessor.to_owned(),
        }
    }
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
            match state(&vault, &accessor).await {
                Ok(State::Alive(_)) => {}
                Ok(State::Ended) => book.expired(&accessor),
                Err(error) => {
                    book.0.reporter.failed("the look-up of a Vault token", &error);
                    break;
                }
            }
        }
    }
}

/// The state of a token in Vault.
enum State {
    /// It exists.
    Alive(Answer),
    /// It does not exist, or Vault is revoking it.
    Ended,
}

async fn look_up(vault: &Vault, accessor: &str) -> Result<Answer, VaultError> {
    vault.write("auth/token/lookup-accessor", json!({"accessor": accessor})).await
}

/// Looks up a token. Vault answers 400 ("invalid accessor") if it does not exist, and 403 both while it
/// revokes the token and if a policy forbids the look-up (`handleUpdateLookupAccessor` in
/// vault/token_store.go v1.21.1). The look-up of the harness's own token distinguishes them.
///
/// # Errors
/// If Vault does not say: it is unavailable, or the harness may not look up tokens.
async fn state(vault: &Vault, accessor: &str) -> Result<State, VaultError> {
    match look_up(vault, accessor).await {
        Ok(answer) => Ok(State::Alive(answer)),
        Err(VaultError::Wrong { code: 400 | 404, .. }) => Ok(State::Ended),
        Err(VaultError::Denied) => {
            let own = vault.read("auth/token/lookup-self").await?;
            let own = own.data["accessor"].as_str().unwrap_or_default().to_owned();
            // A harness whose own token has no accessor cannot tell.
            if own.is_empty() || own == accessor {
                return Err(VaultError::Denied);
            }
            look_up(vault, &own).await.map(|_| State::Ended)
        }
        Err(error) => Err(error),
    }
}

/// Whether the token was issued at the path of this login.
fn is_of(login: &str, answer: &Answer) -> bool {
    answer.data["path"].as_str() == Some(login)
}

/// The number of tokens of the run's logins in Vault. `sys/leases` lists a service token of a login
/// below the path of the login (`RegisterAuth` in vault/expiration.go), by a hash of the token.
async fn listed(vault: &Vault, login: &str) -> Result<usize, VaultError> {
    Ok(vault.list(&format!("sys/leases/lookup/{login}")).await?.len())
}

/// Compares the book with Vault, at the end of the run: the difference of both sets by accessor, with
/// names. Vault's list does not contain accessors. But each token of the book that is found at the login's
/// path is in the list, so the sets are equal if the list is as long as the number of tokens found.
/// `unanswered` is the number of logins in the audit trail that have no response: Vault died before it
/// answered, and may have issued a token. Such a token is looked for among all of Vault's, and entered
/// into the book.
///
/// # Errors
/// If a request fails.
pub async fn reconcile(
    vault: &Vault,
    login: &str,
    book: &TokenBook,
    unanswered: usize,
) -> Result<(Reconciliation, Vec<String>), VaultError> {
    if unanswered > 0 {
        recover_unanswered(vault, login, book, unanswered).await?;
    }
    compare(vault, login, book, SETTLED_WITHIN).await
}

async fn compare(
    vault: &Vault,
    login: &str,
    book: &TokenBook,
    within: Duration,
) -> Result<(Reconciliation, Vec<String>), VaultError> {
    let until = tokio::time::Instant::now() + within;
    loop {
        let (mut alive, mut gone) = (0, Vec::new());
        for accessor in book.open() {
            match state(vault, &accessor).await? {
                State::Alive(answer) if is_of(login, &answer) => alive += 1,
                State::Ended if book.expired_when_due(&accessor) => {}
                _ => gone.push(accessor),
            }
        }
        let listed = listed(vault, login).await?;
        let agrees = gone.is_empty() && listed == alive;
        if agrees || tokio::time::Instant::now() >= until {
            let unbooked = listed.saturating_sub(alive);
            let mut notes = Vec::new();
            if !gone.is_empty() {
                let names: Vec<String> = gone.iter().map(|accessor| book.name(accessor)).collect();
                notes.push(format!("Vault does not have {}", some(&names)));
            }
            if unbooked > 0 {
                let names = alive_although_ended(vault, login, book, unbooked).await?;
                let others = unbooked - names.len();
                if !names.is_empty() {
                    notes.push(format!("Vault still has {}", some(&names)));
                }
                if others > 0 {
                    notes.push(format!("Vault has {others} that the ledger does not have"));
                }
            }
            let counts = Reconciliation {
                booked: book.all().len() as u64,
                alive: alive as u64,
                alive_unbooked: unbooked as u64,
                booked_not_alive: gone.len() as u64,
                ..Reconciliation::default()
            };
            return Ok((counts, notes));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The first few of these, and the number of the others.
pub fn some(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = names[..names.len().min(SHOWN)].join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Up to `count` tokens that have ended in the book and that Vault has.
async fn alive_although_ended(
    vault: &Vault,
    login: &str,
    book: &TokenBook,
    count: usize,
) -> Result<Vec<String>, VaultError> {
    let open: BTreeSet<String> = book.open().into_iter().collect();
    let mut found = Vec::new();
    for accessor in book.all().into_keys().filter(|accessor| !open.contains(accessor)) {
        if found.len() == count {
            break;
        }
        match state(vault, &accessor).await? {
            State::Alive(answer) if is_of(login, &answer) => found.push(book.name(&accessor)),
            _ => {}
        }
    }
    Ok(found)
}

/// Enters tokens of logins that Vault did not answer into the book, at most `count`.
async fn recover_unanswered(
    vault: &Vault,
    login: &str,
    book: &TokenBook,
    count: usize,
) -> Result<(), VaultError> {
    let known = book.all();
    let accessors = vault.list("auth/token/accessors").await?;
    let mut left = count;
    for accessor in accessors.into_iter().filter(|accessor| !known.contains_key(accessor)) {
        if left == 0 {
            break;
        }
        let State::Alive(answer) = state(vault, &accessor).await? else { continue };
        if !is_of(login, &answer) {
            continue;
        }
        left -= 1;
        let seconds = |field: &str| answer.data[field].as_u64().unwrap_or_default();
        // Of a resolution of one second, like the time-to-live.
        let created = i128::from(seconds("creation_time")) * 1_000_000_000;
        let issued = book.0.reporter.clock().of_wall(created);
        let expires = issued + Span::secs(seconds("creation_ttl"));
        let meta = |field: &str| answer.data["meta"][field].as_str().and_then(investigation_of);
        let inv = meta("pod_name").or_else(|| meta("service_account_name"));
        let token = Unreported { accessor, inv, issued, expires, revoked: None };
        // Nobody received it, in whatever the agent ran.
        book.recover(&token, false);
    }
    Ok(())
}

/// The result of [`revoke_all`].
#[derive(Debug, Default)]
pub struct Revoked {
    /// The number of tokens that were alive and are revoked.
    pub revoked: usize,
    /// The errors of those that may live on.
    pub failed: Vec<VaultError>,
}

/// Revokes every token that has not ended, and with it what it could still be used for. A token that
/// Vault does not have counts as ended. Accessors come from journals, which agents write: a token of
/// another login than the run's is left alone. If Vault is unavailable, no further one is tried.
pub async fn revoke_all(vault: &Vault, login: &str, book: &TokenBook) -> Revoked {
    let mut done = Revoked::default();
    let open = book.open();
    for (number, accessor) in open.iter().enumerate() {
        let now = || book.0.reporter.now();
        let failed = match state(vault, accessor).await {
            Ok(State::Alive(answer)) if is_of(login, &answer) => {
                let body = json!({"accessor": accessor});
                match vault.write("auth/token/revoke-accessor", body).await {
                    Ok(_) | Err(VaultError::Wrong { code: 400 | 404, .. }) => {
                        done.revoked += 1;
                        book.revoked(accessor, now());
                        continue;
                    }
                    Err(error) => error,
                }
            }
            Ok(State::Alive(_)) => {
                let why = "a journal names a Vault token that the run's logins did not issue";
                book.0.reporter.send(Observation::Invalid(why.to_owned()));
                continue;
            }
            Ok(State::Ended) => {
                book.revoked(accessor, now());
                continue;
            }
            Err(error) => error,
        };
        if matches!(failed, VaultError::Unavailable(_)) {
            done.failed.resize(done.failed.len() + open.len() - number, failed);
            return done;
        }
        done.failed.push(failed);
    }
    done
}

/// The same for a run that was interrupted: a login that was under way when its agents were stopped
/// returns a token afterwards.
pub async fn revoke_interrupted(vault: &Vault, login: &str, book: &TokenBook) -> Revoked {
    let until = tokio::time::Instant::now() + SETTLED_WITHIN;
    let mut all = Revoked::default();
    loop {
        let done = revoke_all(vault, login, book).await;
        all.revoked += done.revoked;
        all.failed = done.failed;
        let is_over = tokio::time::Instant::now() >= until;
        if is_over || !all.failed.is_empty() || listed(vault, login).await.is_ok_and(|n| n == 0) {
            return all;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use alertstorm_agent::vault::Address;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

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
        assert_eq!(book.all().values().flatten().count(), 3);
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
    fn a_token_whose_response_was_lost_is_an_orphan_in_the_ledger_once() {
        let (reporter, mut inbox) = Reporter::new(Clock::default());
        let book = TokenBook::new(reporter);
        let inv = Some(InvestigationId(1));
        let of = |accessor: &str, revoked| {
            let accessor = accessor.to_owned();
            Unreported { accessor, inv, issued: Time(5), expires: Time(50), revoked }
        };
        book.recover(&of("a", None), false);
        book.recover(&of("a", None), false);
        // The journal of its agent is missing, and the trail has its revocation.
        book.recover(&of("b", Some(Time(9))), true);
        assert_eq!(book.open(), ["a"]);
        let facts: Vec<Fact> = facts(&mut inbox).into_iter().map(|(_, fact)| fact).collect();
        let issued = |token| Fact::TokenIssued { token, expires: Time(50) };
        let unclaimed = Fact::TokenUnclaimed { token: 0 };
        assert_eq!(facts, [issued(0), unclaimed, issued(1), Fact::TokenRevoked { token: 1 }]);
    }

    #[test]
    fn a_batch_token_which_has_no_accessor_makes_the_run_invalid() {
        let (reporter, mut inbox) = Reporter::new(Clock::default());
        let book = TokenBook::new(reporter);
        book.issued("", InvestigationId(1), Time(1), Time(9));
        assert!(book.all().is_empty());
        let Some(Observation::Invalid(why)) = inbox.try_recv() else { panic!("no reason") };
        assert!(why.contains("batch token"), "{why}");
    }

    /// A Vault that has some tokens, each with the path of its login.
    #[derive(Default)]
    struct Fake {
        tokens: BTreeMap<String, String>,
        /// Tokens that Vault is revoking.
        pending: BTreeSet<String>,
        /// Whether a policy allows look-ups.
        may_look_up: bool,
        revoked: Vec<String>,
    }

    const LOGIN: &str = "auth/of-the-run/login";

    impl Fake {
        fn with(tokens: &[(&str, &str)]) -> Self {
            let own = [("of-the-harness", "auth/token/root")];
            let all = tokens.iter().chain(&own);
            let tokens = all.map(|(a, path)| ((*a).to_owned(), (*path).to_owned())).collect();
            Self { tokens, may_look_up: true, ..Self::default() }
        }

        /// Status and body.
        fn answer(&mut self, request: &str) -> (u16, String) {
            let line = request.lines().next().unwrap_or_default();
            let body = request.split_once("\r\n\r\n").map_or("", |(_, body)| body);
            let body: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
            let accessor = body["accessor"].as_str().unwrap_or_default();
            let data = |data: serde_json::Value| {
                let answer = json!({"request_id": "1", "lease_id": "", "lease_duration": 0,
                    "renewable": false, "data": data, "warnings": null, "wrap_info": null, "auth": null});
                (200, answer.to_string())
            };
            let denied = (403, json!({"errors": ["permission denied"]}).to_string());
            if line.contains("lookup-self") {
                data(json!({"accessor": "of-the-harness"}))
            } else if line.contains("lookup-accessor") {
                match self.tokens.get(accessor) {
                    _ if !self.may_look_up || self.pending.contains(accessor) => denied,
                    Some(path) => {
                        data(json!({"path": path, "creation_time": 0, "creation_ttl": 60,
                        "meta": {"service_account_name": "inv-0000007-shadow-network"}}))
                    }
                    None => (400, json!({"errors": ["invalid accessor"]}).to_string()),
                }
            } else if line.contains("revoke-accessor") {
                self.revoked.push(accessor.to_owned());
                self.tokens.remove(accessor);
                (204, String::new())
            } else if line.contains("auth/token/accessors") {
                data(json!({"keys": self.tokens.keys().collect::<Vec<_>>()}))
            } else {
                let of_login = self.tokens.values().filter(|path| *path == LOGIN).count();
                data(json!({"keys": vec!["a-hash"; of_login]}))
            }
        }
    }

    /// Serves a fake Vault; a client of it.
    async fn serve(fake: Arc<Mutex<Fake>>) -> Vault {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut text = String::new();
                let complete = |text: &str| {
                    let (head, body) = text.split_once("\r\n\r\n")?;
                    let length = head.lines().find_map(|line| {
                        let (key, value) = line.split_once(':')?;
                        let is_length = key.eq_ignore_ascii_case("content-length");
                        is_length.then(|| value.trim().parse::<usize>().ok())?
                    });
                    (body.len() >= length.unwrap_or(0)).then_some(())
                };
                let mut part = [0; 4096];
                while complete(&text).is_none() {
                    let read = stream.read(&mut part).await.unwrap();
                    if read == 0 {
                        break;
                    }
                    text.push_str(&String::from_utf8_lossy(&part[..read]));
                }
                let (status, body) = fake.lock().unwrap().answer(&text);
                let answer = format!(
                    "HTTP/1.1 {status} S\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let tls = alertstorm_agent::trust::only("").unwrap();
        Vault::new(&Address { url, namespace: None, tls }, None, "a-token").unwrap()
    }

    fn of_run(accessors: &[&str]) -> (TokenBook, Inbox) {
        let (reporter, inbox) = Reporter::new(Clock::default());
        let book = TokenBook::new(reporter);
        for (number, accessor) in (1..).zip(accessors) {
            book.issued(accessor, InvestigationId(number), Time(1), Time::NEVER);
        }
        (book, inbox)
    }

    #[tokio::test]
    async fn a_403_of_a_policy_is_no_end_of_a_token_and_a_403_of_a_revocation_is_one() {
        let mut fake = Fake::with(&[("a", LOGIN)]);
        fake.may_look_up = false;
        let fake = Arc::new(Mutex::new(fake));
        let vault = serve(Arc::clone(&fake)).await;
        assert!(matches!(state(&vault, "a").await, Err(VaultError::Denied)));
        let (book, _inbox) = of_run(&["a"]);
        let done = revoke_all(&vault, LOGIN, &book).await;
        assert_eq!((done.revoked, done.failed), (0, vec![VaultError::Denied]));
        assert_eq!(book.open(), ["a"]);
        fake.lock().unwrap().may_look_up = true;
        assert!(matches!(state(&vault, "a").await, Ok(State::Alive(_))));
        fake.lock().unwrap().pending.insert("a".to_owned());
        assert!(matches!(state(&vault, "a").await, Ok(State::Ended)));
    }

    #[tokio::test]
    async fn the_book_and_vault_are_compared_by_accessor_and_the_difference_has_names() {
        // As many in Vault as in the book, and not the same.
        let fake = Fake::with(&[("a", LOGIN), ("ended", LOGIN), ("foreign", "auth/other/login")]);
        let vault = serve(Arc::new(Mutex::new(fake))).await;
        let (book, _inbox) = of_run(&["a", "missing", "ended"]);
        book.revoked("ended", Time(2));
        let (counts, notes) = compare(&vault, LOGIN, &book, Duration::ZERO).await.unwrap();
        assert_eq!((counts.alive, counts.alive_unbooked, counts.booked_not_alive), (1, 1, 1));
        let missing = format!("Vault does not have missing ({})", InvestigationId(2));
        assert_eq!(notes, [missing, format!("Vault still has ended ({})", InvestigationId(3))]);
    }

    #[tokio::test]
    async fn a_token_of_a_login_that_vault_did_not_answer_is_entered_and_no_foreign_one() {
        let tokens = [("a", LOGIN), ("lost", LOGIN), ("foreign", "auth/other/login")];
        let vault = serve(Arc::new(Mutex::new(Fake::with(&tokens)))).await;
        let (book, _inbox) = of_run(&["a"]);
        // Nobody looked it up since it was due.
        book.issued("expired", InvestigationId(2), Time(0), Time(0));
        let (counts, notes) = reconcile(&vault, LOGIN, &book, 1).await.unwrap();
        assert!(counts.agrees() && notes.is_empty(), "{counts:?} {notes:?}");
        let lost = Some(InvestigationId(7));
        assert_eq!(book.all().get("lost"), Some(&lost));
        assert_eq!(book.open(), ["a", "lost"]);
    }

    #[tokio::test]
    async fn only_tokens_of_the_runs_logins_are_revoked_and_they_are_counted() {
        let tokens = [("a", LOGIN), ("b", LOGIN), ("foreign", "auth/other/login")];
        let fake = Arc::new(Mutex::new(Fake::with(&tokens)));
        let vault = serve(Arc::clone(&fake)).await;
        let (book, _inbox) = of_run(&["a", "foreign", "missing"]);
        let done = revoke_all(&vault, LOGIN, &book).await;
        assert_eq!((done.revoked, done.failed.len()), (1, 0));
        assert_eq!(fake.lock().unwrap().revoked, ["a"]);
        assert_eq!(book.open(), ["foreign"]);
        // The response of a login that was under way when its agent was stopped.
        book.issued("b", InvestigationId(4), Time(1), Time::NEVER);
        let done = revoke_interrupted(&vault, LOGIN, &book).await;
        assert_eq!((done.revoked, done.failed.len()), (1, 0));
        assert_eq!(fake.lock().unwrap().revoked, ["a", "b"]);
    }
}
