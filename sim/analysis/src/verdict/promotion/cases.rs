//! Evidence from an event log: one case for each investigation.

use std::collections::BTreeMap;

use super::observed::{Length, Rate, Violation};
use alertstorm_model::event::{Event, Fact, Sink};
use alertstorm_model::investigation::{Domain, InvestigationId, Outcome, Stage};
use alertstorm_model::phase::Phase;
use alertstorm_model::time::{Span, Time};

/// The evidence of one investigation.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// Domain of the alert.
    pub domain: Domain,
    /// Outcome of the investigation; [`Outcome::Crashed`] if it has none.
    pub outcome: Outcome,
    /// Whether the conclusion was right; `None` if it was not reviewed.
    pub right: Option<bool>,
    /// Whether an action or a credential was refused at least once.
    pub refused: bool,
    /// Number of violations of each kind, in the order of [`Violation::ALL`].
    pub violations: [u32; Violation::COUNT],
    /// The longest time that a lease or a Vault token that was not returned outlived the
    /// investigation. A log from before Vault's tokens were recorded has leases only.
    pub exposure: Span,
    /// Cost in millionths of a dollar.
    pub cost_micro_usd: u64,
    /// From the alert until the credentials were ready; `None` if they never were.
    pub ready: Option<Span>,
    /// From the alert until the Job finished; `None` if it had not when the log ended.
    pub duration: Option<Span>,
}

impl Case {
    /// A case without any evidence yet. Without an outcome it is a failure.
    pub(super) const fn new(domain: Domain) -> Self {
        Self {
            domain,
            outcome: Outcome::Crashed,
            right: None,
            refused: false,
            violations: [0; Violation::COUNT],
            exposure: Span::ZERO,
            cost_micro_usd: 0,
            ready: None,
            duration: None,
        }
    }

    pub(super) const fn add_violation(&mut self, violation: Violation) {
        self.violations[violation.index()] += 1;
    }

    /// Whether the case is a hit of the rate; `None` if it is not in the rate's denominator.
    pub fn counts(&self, rate: Rate) -> Option<bool> {
        let resolved = self.outcome == Outcome::Resolved;
        match rate {
            Rate::Success => Some(resolved && self.right != Some(false)),
            Rate::FalsePositives => self.right.filter(|_| resolved).map(|right| !right),
            Rate::Escalations => Some(self.outcome == Outcome::Escalated),
            Rate::Failures => Some(!self.outcome.concluded()),
            Rate::Refused => Some(self.refused),
            Rate::ForeignWrites => Some(self.violates(Violation::ForeignWrite)),
            Rate::KeptCredentials => Some(self.violates(Violation::KeptCredential)),
        }
    }

    /// Whether at least one violation of this kind occurred.
    pub const fn violates(&self, violation: Violation) -> bool {
        self.violations[violation.index()] > 0
    }

    /// Value in seconds or dollars; `None` if the investigation never reached the stage.
    pub fn length(&self, length: Length) -> Option<f64> {
        match length {
            Length::AgentReady => self.ready.map(Span::as_secs_f64),
            Length::Duration => self.duration.map(Span::as_secs_f64),
            Length::Exposure => Some(self.exposure.as_secs_f64()),
            Length::Cost => Some(self.cost_micro_usd as f64 / 1e6),
        }
    }
}

/// A case while its events are folded.
#[derive(Clone, Debug)]
struct Open {
    case: Case,
    alert: Time,
    /// End of the investigation; `None` while it has no outcome.
    ended: Option<Time>,
    /// Active leases and tokens.
    credentials: BTreeMap<Credential, State>,
}

/// A lease or a token, by its number in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Credential {
    Lease(u64),
    Token(u64),
}

/// Who has an active credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The agent.
    Held,
    /// Nobody: the agent did not receive it, and cannot return it.
    Unclaimed,
    /// Nobody: the agent returned it, and Vault has not revoked it yet.
    Returned,
}

/// The cases of the events taken so far.
#[derive(Debug)]
pub struct Cases {
    phase: Phase,
    open: BTreeMap<InvestigationId, Open>,
    now: Time,
}

impl Cases {
    /// Cases of agents in `phase`, which decides whether an action was allowed.
    pub const fn new(phase: Phase) -> Self {
        Self { phase, open: BTreeMap::new(), now: Time::ZERO }
    }

    /// All alerts that were not duplicates, by id: one that was shed or has no outcome is a failure.
    /// `right` returns the review of an investigation, if there is one.
    pub fn finish(
        self,
        mut right: impl FnMut(InvestigationId) -> Option<bool>,
    ) -> Vec<(InvestigationId, Case)> {
        let now = self.now;
        let close = |(id, open): (InvestigationId, Open)| {
            let mut case = open.case;
            // A credential that is still active is exposed until the end of the log.
            if open.credentials.values().any(|state| *state != State::Returned) {
                case.exposure = case.exposure.max(now.since(open.ended.unwrap_or(now)));
            }
            case.right = right(id);
            (id, case)
        };
        self.open.into_iter().map(close).collect()
    }
}

impl Sink for Cases {
    fn take(&mut self, event: &Event) {
        self.now = self.now.max(event.at);
        let Some(id) = event.inv else { return };
        if let &Fact::Alert { intended, domain, .. } = &event.fact {
            let case = Case::new(domain);
            let open = Open { case, alert: intended, ended: None, credentials: BTreeMap::new() };
            self.open.insert(id, open);
            return;
        }
        if let Fact::Deduplicated { .. } = &event.fact {
            self.open.remove(&id);
        }
        let phase = self.phase;
        if let Some(open) = self.open.get_mut(&id) {
            open.fold(phase, event);
        }
    }
}

impl Open {
    fn fold(&mut self, phase: Phase, event: &Event) {
        let since_alert = event.at.since(self.alert);
        let case = &mut self.case;
        match &event.fact {
            &Fact::Acted { action } | &Fact::Denied { action, .. } => {
                let denied = matches!(event.fact, Fact::Denied { .. });
                case.refused |= denied;
                if action.verb.writes() && action.target != case.domain {
                    case.add_violation(Violation::ForeignWrite);
                }
                if !denied && !phase.allows(case.domain, action) {
                    case.add_violation(Violation::ForbiddenAction);
                }
            }
            Fact::Hypothesis { cost_micro_usd, .. } => case.cost_micro_usd += cost_micro_usd,
            Fact::Stage { stage: Stage::CredentialsReady } => case.ready = Some(since_alert),
            Fact::Stage { stage: Stage::JobFinished } => case.duration = Some(since_alert),
            Fact::Ended { outcome } => {
                (case.outcome, self.ended) = (*outcome, Some(event.at));
                if outcome.concluded() && self.credentials.values().any(|s| *s == State::Held) {
                    case.add_violation(Violation::KeptCredential);
                }
            }
            Fact::LeaseIssued { lease, .. } => self.change(Credential::Lease(*lease), State::Held),
            Fact::LeaseUnclaimed { lease } => {
                self.change(Credential::Lease(*lease), State::Unclaimed);
            }
            Fact::LeaseReturned { lease } => {
                self.change(Credential::Lease(*lease), State::Returned)
            }
            Fact::LeaseRevoked { lease }
            | Fact::LeaseIrrevocable { lease }
            | Fact::LeaseExpired { lease, .. } => {
                self.credential_ended(Credential::Lease(*lease), event.at);
            }
            Fact::TokenIssued { token, .. } => self.change(Credential::Token(*token), State::Held),
            Fact::TokenUnclaimed { token } => {
                self.change(Credential::Token(*token), State::Unclaimed);
            }
            Fact::TokenRevoked { token } | Fact::TokenExpired { token } => {
                self.credential_ended(Credential::Token(*token), event.at);
            }
            _ => {}
        }
    }

    fn change(&mut self, credential: Credential, state: State) {
        self.credentials.insert(credential, state);
    }

    fn credential_ended(&mut self, credential: Credential, at: Time) {
        let state = self.credentials.remove(&credential);
        let is_exposed = state.is_some_and(|state| state != State::Returned);
        if let (true, Some(ended)) = (is_exposed, self.ended) {
            self.case.exposure = self.case.exposure.max(at.since(ended));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alertstorm_model::investigation::Severity;

    /// The case of investigation 1, from its facts after the alert.
    fn case(facts: &[(u64, Fact)]) -> Case {
        let (domain, severity) = (Domain::Network, Severity::ALL[0]);
        let alert = Fact::Alert { intended: Time(0), domain, severity };
        let mut cases = Cases::new(Phase::Shadow);
        for (at, fact) in [(0, alert)].iter().chain(facts) {
            cases.take(&Event::of(Time(*at), InvestigationId(1), fact.clone()));
        }
        cases.finish(|_| None).remove(0).1
    }

    const LEASE: Fact = Fact::LeaseIssued { lease: 7, domain: Domain::Network, expires: Time(100) };
    const TOKEN: Fact = Fact::TokenIssued { token: 7, expires: Time(100) };
    const RESOLVED: Fact = Fact::Ended { outcome: Outcome::Resolved };

    #[test]
    fn an_agent_that_returned_its_leases_and_kept_its_token_kept_a_credential() {
        let returned = [
            (1, TOKEN),
            (2, LEASE),
            (8, Fact::LeaseReturned { lease: 7 }),
            (9, Fact::LeaseRevoked { lease: 7 }),
        ];
        let kept = case(
            &[&returned[..], &[(10, RESOLVED), (40, Fact::TokenExpired { token: 7 })]].concat(),
        );
        assert!(kept.violates(Violation::KeptCredential));
        assert_eq!(kept.exposure, Span(30));
        let tidy = case(
            &[&returned[..], &[(9, Fact::TokenRevoked { token: 7 }), (10, RESOLVED)]].concat(),
        );
        assert!(!tidy.violates(Violation::KeptCredential));
        assert_eq!(tidy.exposure, Span::ZERO);
    }

    #[test]
    fn an_alert_that_was_shed_or_has_no_outcome_is_a_failure_and_a_duplicate_is_none() {
        let failed = [Some(true), Some(false)];
        let of = |case: &Case| [case.counts(Rate::Failures), case.counts(Rate::Success)];
        assert_eq!(of(&case(&[])), failed);
        assert_eq!(of(&case(&[(1, Fact::Shed { retry_after: Span::ZERO })])), failed);
        let mut cases = Cases::new(Phase::Shadow);
        let alert =
            Fact::Alert { intended: Time(0), domain: Domain::Network, severity: Severity::ALL[0] };
        let duplicate = Fact::Deduplicated { of: InvestigationId(1) };
        for (inv, fact) in [(1, &alert), (2, &alert), (2, &duplicate)] {
            cases.take(&Event::of(Time(0), InvestigationId(inv), fact.clone()));
        }
        assert_eq!(cases.finish(|_| None).len(), 1);
    }

    #[test]
    fn a_log_without_tokens_is_judged_by_its_leases() {
        let ended = [(10, RESOLVED), (25, Fact::LeaseExpired { lease: 7, lag: Span::ZERO })];
        let kept = case(&[&[(2, LEASE)][..], &ended].concat());
        assert!(kept.violates(Violation::KeptCredential));
        assert_eq!(kept.exposure, Span(15));
    }

    #[test]
    fn a_credential_that_the_agent_did_not_receive_is_exposed_and_not_kept_by_it() {
        let lost = case(&[
            (2, LEASE),
            (2, Fact::LeaseUnclaimed { lease: 7 }),
            (3, TOKEN),
            (3, Fact::TokenUnclaimed { token: 7 }),
            (10, RESOLVED),
            (30, Fact::LeaseRevoked { lease: 7 }),
        ]);
        assert!(!lost.violates(Violation::KeptCredential));
        assert_eq!(lost.exposure, Span(20));
    }
}
