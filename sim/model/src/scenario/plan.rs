//! What can run: every quantity resolved, every file read, nothing left to go wrong.

use std::sync::Arc;

use super::raw::{FaultKind, Scenario, Spacing};
use crate::agent::{Agent, Profiles, Trace, draw};
use crate::alert::Alert;
use crate::alert::alertmanager::Recorded;
use crate::quantity::Quantity;
use crate::seed::{Purpose, Stream};
use crate::time::{Span, Time};

/// A checked scenario.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The knobs, each with its value or its default.
    pub scenario: Scenario,
    /// Where alerts come from.
    pub sources: Vec<AlertSource>,
    /// What agents do.
    pub agents: Agents,
    /// What breaks, in the order of time.
    pub faults: Vec<FaultPlan>,
    /// How many alerts there are; an expectation where a source is random.
    pub alerts_expected: u64,
    /// How often the platform's counters are read.
    pub sample_every: Span,
    /// Names the plan: equal digests, equal plans (the seed left out).
    pub digest: String,
}

/// Where alerts come from, and of what kind they are.
#[derive(Clone, Debug)]
pub struct AlertSource {
    /// When they come.
    pub arrivals: Arrivals,
    /// When the source begins.
    pub start: Time,
    /// Weights of the domains, in their order.
    pub domains: [f64; 4],
    /// Weights of the severities, in their order.
    pub severities: [f64; 4],
    /// How many different alerts there are, where they repeat.
    pub fingerprints: Option<u64>,
}

/// When alerts of a source come.
#[derive(Clone, Debug)]
pub enum Arrivals {
    /// So many within a time.
    Flood {
        /// How many.
        count: u64,
        /// Within which time.
        over: Span,
        /// How they are spread over it.
        spacing: Spacing,
    },
    /// Rates that follow each other: alerts a second, and for how long.
    Rate {
        /// The steps.
        steps: Vec<(f64, Span)>,
        /// How alerts are spread.
        spacing: Spacing,
    },
    /// A recorded log.
    Replay {
        /// Its alerts, in the order of time.
        alerts: Arc<[Recorded]>,
    },
}

impl Arrivals {
    /// How many alerts there will be, or may be expected.
    pub fn expected(&self) -> f64 {
        match self {
            Self::Flood { count, .. } => *count as f64,
            Self::Rate { steps, .. } => steps.iter().map(|(rate, span)| rate * span.base()).sum(),
            Self::Replay { alerts } => alerts.len() as f64,
        }
    }

    /// How long the source lasts.
    pub fn lasts(&self) -> Span {
        match self {
            Self::Flood { over, .. } => *over,
            Self::Rate { steps, .. } => steps.iter().fold(Span::ZERO, |sum, (_, s)| sum + *s),
            Self::Replay { alerts } => alerts.last().map_or(Span::ZERO, |last| last.after),
        }
    }
}

/// What agents do.
#[derive(Clone, Debug)]
pub enum Agents {
    /// Drawn from profiles.
    Profiles(Arc<Profiles>),
    /// Recorded.
    Traces(Arc<[Trace]>),
}

/// A fault with its place in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultPlan {
    /// What breaks.
    pub kind: FaultKind,
    /// When.
    pub from: Time,
    /// When it is whole again.
    pub until: Time,
    /// Which node.
    pub node: u32,
    /// What is added to a sync.
    pub extra: Span,
}

impl Plan {
    /// The agent of an alert's investigation: its trace depends on (seed, alert) alone.
    pub fn agent(&self, alert: &Alert) -> Agent {
        Agent::new(self.trace(alert), self.scenario.vault.client_timeout)
    }

    /// The trace of an alert's investigation. Of recorded traces one of the alert's domain is
    /// drawn, or any where there is none.
    pub fn trace(&self, alert: &Alert) -> Trace {
        let seed = self.scenario.seed;
        match &self.agents {
            Agents::Profiles(profiles) => {
                draw::trace(seed, alert.id, alert.domain, profiles.of(alert.domain))
            }
            Agents::Traces(traces) => {
                let own = traces.iter().filter(|trace| trace.domain == alert.domain);
                let count = own.clone().count();
                let mut stream = Stream::new(seed, Purpose::Trace, alert.id.0);
                let picked = if count > 0 {
                    own.clone().nth(stream.below(count as u64) as usize)
                } else {
                    traces.get(stream.below(traces.len() as u64) as usize)
                };
                picked.map_or_else(|| traces[0].clone(), Clone::clone)
            }
        }
    }

    /// Whether a review finds the conclusion of an alert's investigation right; nothing where agents
    /// are recorded, whose reviews nobody knows but those who made them.
    pub fn right(&self, alert: &Alert) -> Option<bool> {
        let Agents::Profiles(profiles) = &self.agents else { return None };
        Some(draw::right(self.scenario.seed, alert.id, profiles.of(alert.domain)))
    }

    /// How long alerts go on coming.
    pub fn alerts_last(&self) -> Span {
        let ends = |source: &AlertSource| source.start.since(Time::ZERO) + source.arrivals.lasts();
        self.sources.iter().map(ends).max().unwrap_or_default()
    }

    /// The same plan with another seed.
    #[must_use]
    pub fn with_seed(&self, seed: u64) -> Self {
        let mut plan = self.clone();
        plan.scenario.seed = seed;
        plan
    }
}
