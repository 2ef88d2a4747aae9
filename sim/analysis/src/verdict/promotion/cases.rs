//! Evidence, investigation by investigation, out of an event log.

use std::collections::BTreeMap;

use super::{Length, Rate, Violation};
use alertstorm_model::event::{Event, Fact, Sink};
use alertstorm_model::investigation::{Domain, InvestigationId, Outcome, Stage};
use alertstorm_model::phase::Phase;
use alertstorm_model::time::{Span, Time};

/// What one investigation shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// What it was about.
    pub domain: Domain,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether its conclusion was right, where somebody reviewed it.
    pub right: Option<bool>,
    /// Whether it was refused something.
    pub refused: bool,
    /// What is never tolerated, in the order of [`Violation::ALL`]: how often.
    pub violations: [u32; Violation::COUNT],
    /// The longest time that a credential outlived it.
    pub exposure: Span,
    /// Millionths of a dollar.
    pub cost_micro_usd: u64,
    /// From the alert to its credentials; nothing where it never had them.
    pub ready: Option<Span>,
    /// From the alert to the Job's end.
    pub duration: Option<Span>,
}

impl Case {
    /// An investigation of which nothing is known yet; it crashed unless it is said otherwise.
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

    /// Notes a violation.
    pub(super) const fn violate(&mut self, violation: Violation) {
        self.violations[violation.index()] += 1;
    }

    /// Whether it counts for a rate; nothing where it says nothing of it.
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

    /// Whether a violation happened.
    pub const fn violates(&self, violation: Violation) -> bool {
        self.violations[violation.index()] > 0
    }

    /// A length, in seconds or dollars.
    pub fn length(&self, length: Length) -> Option<f64> {
        match length {
            Length::AgentReady => self.ready.map(Span::as_secs_f64),
            Length::Duration => self.duration.map(Span::as_secs_f64),
            Length::Exposure => Some(self.exposure.as_secs_f64()),
            Length::Cost => Some(self.cost_micro_usd as f64 / 1e6),
        }
    }
}

/// A case that may still grow.
#[derive(Clone, Debug)]
struct Open {
    case: Case,
    alert: Time,
    /// When it ended; until then the case has no outcome of its own.
    ended: Option<Time>,
    /// Leases alive, and whether they were given back.
    leases: BTreeMap<u64, bool>,
}

/// Folds events into cases.
#[derive(Debug)]
pub struct Cases {
    phase: Phase,
    open: BTreeMap<InvestigationId, Open>,
    now: Time,
}

impl Cases {
    /// Of agents in a phase.
    pub const fn new(phase: Phase) -> Self {
        Self { phase, open: BTreeMap::new(), now: Time::ZERO }
    }

    /// The investigations that have an outcome, in their order; `right` reviews them.
    pub fn finish(
        self,
        mut right: impl FnMut(InvestigationId) -> Option<bool>,
    ) -> Vec<(InvestigationId, Case)> {
        let now = self.now;
        let close = |(id, open): (InvestigationId, Open)| {
            let (ended, mut case) = (open.ended?, open.case);
            // What is alive still is exposed until now.
            if open.leases.values().any(|returned| !returned) {
                case.exposure = case.exposure.max(now.since(ended));
            }
            case.right = right(id);
            Some((id, case))
        };
        self.open.into_iter().filter_map(close).collect()
    }
}

impl Sink for Cases {
    fn take(&mut self, event: &Event) {
        self.now = self.now.max(event.at);
        let Some(id) = event.inv else { return };
        if let &Fact::Alert { intended, domain, .. } = &event.fact {
            let case = Case::new(domain);
            let open = Open { case, alert: intended, ended: None, leases: BTreeMap::new() };
            self.open.insert(id, open);
            return;
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
                    case.violate(Violation::ForeignWrite);
                }
                if !denied && !phase.allows(case.domain, action) {
                    case.violate(Violation::ForbiddenAction);
                }
            }
            Fact::Hypothesis { cost_micro_usd, .. } => case.cost_micro_usd += cost_micro_usd,
            Fact::Stage { stage: Stage::CredentialsReady } => case.ready = Some(since_alert),
            Fact::Stage { stage: Stage::JobFinished } => case.duration = Some(since_alert),
            Fact::Ended { outcome } => {
                (case.outcome, self.ended) = (*outcome, Some(event.at));
                if outcome.concluded() && self.leases.values().any(|returned| !returned) {
                    case.violate(Violation::KeptCredential);
                }
            }
            Fact::LeaseIssued { lease, .. } => drop(self.leases.insert(*lease, false)),
            Fact::LeaseReturned { lease } => drop(self.leases.insert(*lease, true)),
            Fact::LeaseRevoked { lease }
            | Fact::LeaseIrrevocable { lease }
            | Fact::LeaseExpired { lease, .. } => self.lease_ended(*lease, event.at),
            _ => {}
        }
    }

    fn lease_ended(&mut self, lease: u64, at: Time) {
        let returned = self.leases.remove(&lease);
        if let (Some(false), Some(ended)) = (returned, self.ended) {
            self.case.exposure = self.case.exposure.max(at.since(ended));
        }
    }
}
