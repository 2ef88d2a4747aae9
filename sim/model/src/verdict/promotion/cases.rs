//! Evidence, investigation by investigation, out of an event log.

use std::collections::BTreeMap;

use super::{Length, Rate, Violation};
use crate::event::{Event, Fact, Sink};
use crate::investigation::{Domain, InvestigationId, Outcome, Stage};
use crate::phase::Phase;
use crate::time::{Span, Time};

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

#[derive(Clone, Debug)]
struct Open {
    domain: Domain,
    alert: Time,
    outcome: Option<(Outcome, Time)>,
    refused: bool,
    violations: [u32; Violation::COUNT],
    exposure: Span,
    cost_micro_usd: u64,
    ready: Option<Span>,
    duration: Option<Span>,
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
        mut self,
        mut right: impl FnMut(InvestigationId) -> Option<bool>,
    ) -> Vec<(InvestigationId, Case)> {
        let now = self.now;
        for open in self.open.values_mut() {
            // What is alive still is exposed until now.
            let kept = open.leases.values().any(|returned| !returned);
            if let (true, Some((_, ended))) = (kept, open.outcome) {
                open.exposure = open.exposure.max(now.since(ended));
            }
        }
        let case = |(id, open): (InvestigationId, Open)| {
            let (outcome, _) = open.outcome?;
            let Open { domain, refused, violations, exposure, cost_micro_usd, .. } = open;
            let (ready, duration) = (open.ready, open.duration);
            let right = right(id);
            let case = Case {
                domain,
                outcome,
                right,
                refused,
                violations,
                exposure,
                cost_micro_usd,
                ready,
                duration,
            };
            Some((id, case))
        };
        self.open.into_iter().filter_map(case).collect()
    }
}

impl Sink for Cases {
    fn take(&mut self, event: &Event) {
        self.now = self.now.max(event.at);
        let Some(id) = event.inv else { return };
        if let &Fact::Alert { intended, domain, .. } = &event.fact {
            let open = Open {
                domain,
                alert: intended,
                outcome: None,
                refused: false,
                violations: [0; Violation::COUNT],
                exposure: Span::ZERO,
                cost_micro_usd: 0,
                ready: None,
                duration: None,
                leases: BTreeMap::new(),
            };
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
    fn violates(&mut self, violation: Violation) {
        self.violations[violation.index()] += 1;
    }

    fn fold(&mut self, phase: Phase, event: &Event) {
        let since_alert = event.at.since(self.alert);
        match &event.fact {
            &Fact::Acted { action } | &Fact::Denied { action, .. } => {
                let denied = matches!(event.fact, Fact::Denied { .. });
                self.refused |= denied;
                if action.verb.writes() && action.target != self.domain {
                    self.violates(Violation::ForeignWrite);
                }
                if !denied && !phase.allows(self.domain, action) {
                    self.violates(Violation::ForbiddenAction);
                }
            }
            Fact::Hypothesis { cost_micro_usd, .. } => self.cost_micro_usd += cost_micro_usd,
            Fact::Stage { stage: Stage::CredentialsReady } => self.ready = Some(since_alert),
            Fact::Stage { stage: Stage::JobFinished } => self.duration = Some(since_alert),
            Fact::Ended { outcome } => {
                self.outcome = Some((*outcome, event.at));
                if outcome.concluded() && self.leases.values().any(|returned| !returned) {
                    self.violates(Violation::KeptCredential);
                }
            }
            Fact::LeaseIssued { lease, .. } => drop(self.leases.insert(*lease, false)),
            Fact::LeaseReturned { lease } => drop(self.leases.insert(*lease, true)),
            Fact::LeaseRevoked { lease } | Fact::LeaseIrrevocable { lease } => {
                self.lease_ended(*lease, event.at);
            }
            Fact::LeaseExpired { lease, .. } => self.lease_ended(*lease, event.at),
            _ => {}
        }
    }

    fn lease_ended(&mut self, lease: u64, at: Time) {
        let returned = self.leases.remove(&lease);
        if let (Some(false), Some((_, ended))) = (returned, self.outcome) {
            self.exposure = self.exposure.max(at.since(ended));
        }
    }
}
