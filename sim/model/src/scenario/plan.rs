//! What can run: a scenario with all defaults filled in and all files read.

use std::sync::Arc;

use super::raw::{FaultKind, Scenario};
use crate::agent::{Agent, Profiles, Trace, draw};
use crate::alert::{Alert, AlertSource, Alerts};
use crate::seed::{Purpose, Stream};
use crate::time::{Span, Time};

/// A checked scenario. It cannot be changed: [`Self::with_seed`], [`Self::with_knob`] and
/// [`Self::with_scenario`] make another one, which is checked as well.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(super) scenario: Scenario,
    pub(super) sources: Vec<AlertSource>,
    pub(super) agents: Agents,
    pub(super) faults: Vec<FaultPlan>,
    pub(super) alerts_expected: u64,
    pub(super) sample_every: Span,
    pub(super) digest: String,
}

/// Where agents take their traces from.
#[derive(Clone, Debug)]
pub enum Agents {
    /// A trace is drawn from the profile of the alert's domain.
    Profiles(Arc<Profiles>),
    /// A recorded trace is picked; at least one exists.
    Traces(Arc<[Trace]>),
}

/// A fault with its instants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultPlan {
    /// The component that fails, and how.
    pub kind: FaultKind,
    /// Start of the fault.
    pub from: Time,
    /// End of the fault.
    pub until: Time,
    /// The node, from 0; only for [`FaultKind::NodeDown`].
    pub node: u32,
    /// Added to each sync; only for [`FaultKind::SlowFsync`].
    pub extra: Span,
}

impl Plan {
    /// Every field of the scenario, with its default where the file leaves it out.
    pub const fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// The sources of alerts, in the order of the scenario.
    pub fn sources(&self) -> &[AlertSource] {
        &self.sources
    }

    /// What the agents follow.
    pub const fn agents(&self) -> &Agents {
        &self.agents
    }

    /// The faults, by their begin.
    pub fn faults(&self) -> &[FaultPlan] {
        &self.faults
    }

    /// How many alerts there are; the expected number where a source is random.
    pub const fn alerts_expected(&self) -> u64 {
        self.alerts_expected
    }

    /// The time between two samples of the platform's counters. Where the scenario leaves it out,
    /// it gives about 300 samples, and is at least a second.
    pub const fn sample_every(&self) -> Span {
        self.sample_every
    }

    /// 16 hex digits: plans with the same digest give the same run under the same seed. Names of
    /// files, the question and the objectives are left out.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The alerts under the plan's seed, in the order of time.
    pub fn alerts(&self) -> Alerts<'_> {
        Alerts::new(&self.sources, self.scenario.seed)
    }

    /// The agent of an alert's investigation: its trace depends on (seed, alert) alone.
    pub fn agent(&self, alert: &Alert) -> Agent {
        Agent::new(self.trace(alert), self.scenario.vault.client_timeout)
    }

    /// The trace of an alert's investigation. Of recorded traces one of the alert's domain is
    /// picked, or any if no trace has that domain.
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

    /// Whether a review finds the conclusion of an alert's investigation right. None for recorded
    /// agents, whose reviews are not part of a trace.
    pub fn right(&self, alert: &Alert) -> Option<bool> {
        let Agents::Profiles(profiles) = &self.agents else { return None };
        Some(draw::right(self.scenario.seed, alert.id, profiles.of(alert.domain)))
    }

    /// The time from the start of the run to the end of the last source.
    pub fn alerts_last(&self) -> Span {
        let ends = |source: &AlertSource| source.start.since(Time::ZERO) + source.arrivals.lasts();
        self.sources.iter().map(ends).max().unwrap_or_default()
    }
}
