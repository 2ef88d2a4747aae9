//! Leases and tokens that Vault issued to agents of the run, and that no agent reported: the response was
//! lost, came after the agent's time-out, or came when the agent had ended. The audit trail names them.

use std::collections::BTreeSet;

use alertstorm_agent::names::Names;
use alertstorm_model::investigation::Domain;
use alertstorm_model::scenario::Scenario;
use alertstorm_model::scenario::knobs::AuthMethod;
use alertstorm_model::time::Span;

use super::trails::{Found, Unanswered};
use crate::leases::{self, LeaseBook};
use crate::reporter::Clock;
use crate::tokens::{self, TokenBook};

/// What identifies the leases and tokens of a run.
pub struct Run<'a> {
    /// Its names.
    pub names: &'a Names,
    /// Its scenario, which has the time-to-live of leases.
    pub scenario: &'a Scenario,
    /// Its clock.
    pub clock: &'a Clock,
    /// Whether agents run in pods, and report when they end.
    pub in_pods: bool,
}

impl Run<'_> {
    /// Enters the tokens of the trail that no agent reported into the book.
    pub fn recover_tokens(&self, found: &Found, book: &TokenBook) {
        let known = book.all();
        let unreported = found.own_logins().filter(|(accessor, ..)| !known.contains_key(*accessor));
        for (accessor, issued, expires) in unreported {
            let token = tokens::Unreported {
                accessor: accessor.clone(),
                inv: found.investigation(accessor),
                issued: self.clock.of_wall(issued),
                expires: self.clock.of_wall(expires),
                revoked: found.revoked.get(accessor).map(|at| self.clock.of_wall(*at)),
            };
            book.recover(&token, self.in_pods);
        }
    }

    /// Enters the revocations of tokens into the books whose agents received no response.
    pub fn recover_revocations(&self, found: &Found, tokens: &TokenBook, leases: &LeaseBook) {
        let all = tokens.all();
        for accessor in tokens.open() {
            let Some(at) = found.revoked.get(&accessor) else { continue };
            let at = self.clock.of_wall(*at);
            tokens.revoked(&accessor, at);
            if let Some(inv) = all.get(&accessor).copied().flatten() {
                leases.returned(inv, at);
            }
        }
    }

    /// Enters the leases that no agent reported into the book: those that the trail has, and those that
    /// Vault lists for a path whose request has no response in the trail. Returns the ids of the latter.
    pub fn recover_leases(
        &self,
        found: &Found,
        book: &LeaseBook,
        listed: &BTreeSet<String>,
    ) -> BTreeSet<String> {
        let own: BTreeSet<&String> = found.own_logins().map(|(session, ..)| session).collect();
        let known = book.all();
        for lease in &found.leases {
            if known.contains_key(&lease.id) || !own.contains(&lease.session) {
                continue;
            }
            self.recover(found, book, listed, &lease.id, (Some(&lease.session), lease.at));
        }
        let known = book.all();
        let issued: BTreeSet<&String> = found.leases.iter().map(|lease| &lease.id).collect();
        let mut unanswered: Vec<&Unanswered> =
            found.unanswered().filter(|request| own.contains(&request.session)).collect();
        let of_vault: BTreeSet<String> =
            book.unclaimed().into_iter().chain(listed.iter().cloned()).collect();
        let mut without_response = BTreeSet::new();
        for id in of_vault.into_iter().filter(|id| !known.contains_key(id) && !issued.contains(id))
        {
            let path = id.rsplit_once('/').map_or("", |(path, _)| path);
            let Some(place) = unanswered.iter().position(|request| request.path == path) else {
                continue;
            };
            let same = unanswered.iter().filter(|request| request.path == path);
            let sessions: BTreeSet<&String> = same.map(|request| &request.session).collect();
            let request = unanswered.swap_remove(place);
            // Which of several requests it answers is not known.
            let session = (sessions.len() == 1).then_some(&request.session);
            self.recover(found, book, listed, &id, (session, request.at));
            without_response.insert(id);
        }
        without_response
    }

    fn recover(
        &self,
        found: &Found,
        book: &LeaseBook,
        listed: &BTreeSet<String>,
        id: &str,
        (session, at): (Option<&String>, i128),
    ) {
        let Some((domain, ttl)) = self.engine_of(id) else { return };
        let renewed = found.renewed.get(id).copied().unwrap_or(at).max(at);
        let lease = leases::Unreported {
            id: id.to_owned(),
            inv: session.and_then(|session| found.investigation(session)),
            domain,
            issued: self.clock.of_wall(at),
            expires: self.clock.of_wall(renewed) + ttl,
            returned: session
                .and_then(|session| found.revoked.get(session))
                .map(|at| self.clock.of_wall(*at)),
        };
        book.recover(&lease, self.in_pods, listed);
    }

    /// The domain of a lease's secrets engine, and the time-to-live of its leases.
    fn engine_of(&self, id: &str) -> Option<(Domain, Span)> {
        let of = |domain: &&Domain| id.starts_with(&format!("{}/", self.names.mount(**domain)));
        let domain = *Domain::ALL.iter().find(of)?;
        Some((domain, self.scenario.vault.secrets.of(domain).ttl))
    }

    /// The number of logins that Vault did not answer.
    pub fn unanswered_logins(&self, found: &Found) -> usize {
        let is_login = |request: &&Unanswered| {
            AuthMethod::ALL.iter().any(|&method| request.path == self.names.login_path(method))
        };
        found.unanswered().filter(is_login).count()
    }
}

#[cfg(test)]
mod tests {
    use alertstorm_model::event::Fact;
    use alertstorm_model::investigation::InvestigationId;
    use alertstorm_model::scenario::{NoFiles, load};
    use alertstorm_model::time::Time;
    use serde_json::{Value, json};

    use super::*;
    use crate::reporter::{Inbox, Observation, Reporter};

    /// The names of a run, and the investigation of its agents.
    fn names() -> Names {
        Names::of_run(&"a1".parse().expect("an id"))
    }

    const INV: InvestigationId = InvestigationId(7);
    const AT: &str = "2026-01-01T00:00:05.5Z";

    fn login(accessor: &str, path: &str) -> Value {
        json!({
            "time": AT, "type": "response", "auth": {},
            "request": {"id": format!("login-{accessor}"), "path": path, "remote_address": "127.64.0.9"},
            "response": {"auth": {"accessor": accessor, "token_ttl": 60, "metadata": {
                "service_account_name": "inv-0000007-shadow-network"}}},
        })
    }

    /// A request for a lease, and its response if Vault issued this lease.
    fn request(session: &str, number: u32, path: &str, lease: Option<&str>) -> Vec<Value> {
        let policies = json!([format!("{}agent", names().policies())]);
        let entry = |kind: &str, response: Value| {
            json!({
                "time": AT, "type": kind, "auth": {"accessor": session, "policies": policies},
                "request": {"id": number.to_string(), "path": path}, "response": response,
            })
        };
        let asked = entry("request", Value::Null);
        match lease {
            None => vec![asked],
            Some(lease) => vec![asked, entry("response", json!({"secret": {"lease_id": lease}}))],
        }
    }

    struct Place {
        found: Found,
        leases: LeaseBook,
        tokens: TokenBook,
        inbox: Inbox,
        clock: Clock,
    }

    impl Place {
        fn new(trail: impl IntoIterator<Item = Value>) -> Self {
            let mut found = Found::default();
            trail.into_iter().for_each(|entry| found.vault(&entry, &names()));
            let clock = Clock::default();
            clock.start(tokio::time::Instant::now());
            let (reporter, inbox) = Reporter::new(clock.clone());
            let (leases, tokens) = (LeaseBook::new(reporter.clone()), TokenBook::new(reporter));
            Self { found, leases, tokens, inbox, clock }
        }

        fn recover(&self, listed: &[&str]) -> BTreeSet<String> {
            let plan = load("alerts: [{flood: 1}]", "plan", &[], &NoFiles).expect("a plan");
            let names = names();
            let run = Run {
                names: &names,
                scenario: plan.scenario(),
                clock: &self.clock,
                in_pods: false,
            };
            run.recover_tokens(&self.found, &self.tokens);
            let listed = listed.iter().map(|&id| id.to_owned()).collect();
            run.recover_leases(&self.found, &self.leases, &listed)
        }

        fn facts(&mut self) -> Vec<(Option<InvestigationId>, Fact)> {
            let messages = std::iter::from_fn(|| self.inbox.try_recv());
            let of = |message| match message {
                Observation::Fact(event) => Some((event.inv, event.fact)),
                _ => None,
            };
            messages.filter_map(of).collect()
        }
    }

    fn own_login() -> String {
        names().login_path(AuthMethod::Kubernetes)
    }

    fn path() -> String {
        format!("{}/creds/shadow-own-0", names().mount(Domain::Database))
    }

    #[test]
    fn a_revocation_whose_response_was_lost_ends_the_token_and_returns_its_leases() {
        let revoked = json!({
            "time": "2026-01-01T00:00:08Z", "type": "response",
            "auth": {"accessor": "one", "policies": [format!("{}agent", names().policies())]},
            "request": {"id": "9", "path": "auth/token/revoke-self"}, "response": {},
        });
        let mut place = Place::new([login("one", &own_login()), revoked]);
        let (from, to) = (Time(0), Time(60_000_000_000));
        place.tokens.issued("one", INV, from, to);
        place.tokens.issued("two", INV, from, to);
        place.leases.issued(&format!("{}/x", path()), INV, Domain::Database, from, to);
        let names = names();
        let plan = load("alerts: [{flood: 1}]", "plan", &[], &NoFiles).expect("a plan");
        let (scenario, clock) = (plan.scenario(), &place.clock);
        let run = Run { names: &names, scenario, clock, in_pods: false };
        run.recover_revocations(&place.found, &place.tokens, &place.leases);
        assert_eq!(place.tokens.open(), ["two"]);
        let facts = place.facts();
        let has = |wanted: fn(&Fact) -> bool| facts.iter().any(|(_, fact)| wanted(fact));
        assert!(has(|fact| matches!(fact, Fact::TokenRevoked { token: 0 })), "{facts:?}");
        assert!(has(|fact| matches!(fact, Fact::LeaseReturned { .. })), "{facts:?}");
    }

    #[test]
    fn a_login_and_a_lease_that_no_agent_reported_are_orphans_of_the_investigation_of_the_trail() {
        let lease = format!("{}/lost", path());
        let mut trail = vec![login("s", &own_login())];
        trail.extend(request("s", 1, &path(), Some(&lease)));
        let mut place = Place::new(trail);
        assert!(place.recover(&[&lease]).is_empty());
        assert_eq!(place.leases.open(), [lease.as_str()]);
        let facts = place.facts();
        assert!(facts.iter().all(|(inv, _)| *inv == Some(INV)), "{facts:?}");
        assert!(matches!(facts[1].1, Fact::TokenUnclaimed { token: 0 }), "{facts:?}");
        assert!(
            matches!(facts[2].1, Fact::LeaseIssued { domain: Domain::Database, .. }),
            "{facts:?}"
        );
        assert!(matches!(facts[3].1, Fact::LeaseUnclaimed { lease: 0 }), "{facts:?}");
    }

    #[test]
    fn a_lease_of_a_session_that_did_not_log_in_at_the_runs_auth_method_is_not_the_runs() {
        let lease = format!("{}/foreign", path());
        let mut trail = vec![login("s", "auth/other/login")];
        trail.extend(request("s", 1, &path(), Some(&lease)));
        let mut place = Place::new(trail);
        place.leases.left(Time(0), &[lease.clone()].into());
        place.recover(&[&lease]);
        assert!(place.facts().is_empty());
        assert_eq!(place.leases.unclaimed(), [lease]);
    }

    #[test]
    fn a_lease_that_vault_lists_for_a_request_without_a_response_is_the_runs() {
        let lease = format!("{}/lost", path());
        let mut trail = vec![login("s", &own_login())];
        trail.extend(request("s", 1, &path(), None));
        let place = Place::new(trail);
        let found = place.recover(&[&lease]);
        assert_eq!(found, [lease.clone()].into());
        assert_eq!(place.leases.all().get(&lease), Some(&Some(INV)));
    }

    #[test]
    fn a_request_without_a_response_explains_one_lease_only() {
        let ids = [format!("{}/1", path()), format!("{}/2", path())];
        let mut trail = vec![login("s", &own_login())];
        trail.extend(request("s", 1, &path(), None));
        let place = Place::new(trail);
        place.leases.left(Time(0), &ids.clone().into());
        place.recover(&[&ids[0], &ids[1]]);
        assert_eq!(place.leases.unclaimed().len(), 1);
    }

    #[test]
    fn the_token_of_an_agent_that_the_trail_does_not_name_has_no_investigation() {
        let mut of_shared = login("s", &own_login());
        of_shared["response"]["auth"]["metadata"] =
            json!({"service_account_name": "agent-shadow-network"});
        let mut place = Place::new([of_shared]);
        place.recover(&[]);
        let facts = place.facts();
        assert!(facts.iter().all(|(inv, _)| inv.is_none()) && facts.len() == 2, "{facts:?}");
    }

    #[test]
    fn a_token_that_another_agent_reported_is_named() {
        let place = Place::new([login("s", &own_login()), login("t", &own_login())]);
        let reported = [("s".to_owned(), Some(INV)), ("t".to_owned(), Some(InvestigationId(8)))];
        let others = super::super::misattributed(&place.found, &reported.into());
        assert_eq!(others, ["t"]);
    }
}
