//! Waits on the critical path, summed over all investigations by component.

use alertstorm_model::event::{Component, Wait};
use alertstorm_model::investigation::Stage;
use alertstorm_model::time::{Span, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::causes::{Causes, Sums};

/// Sums of the waits between the alert and one stage, over all investigations.
#[derive(Clone, Debug)]
struct Path {
    investigations: u64,
    /// Time from the alert to the stage, waits or not.
    total: Span,
    waits: Sums,
    /// Live runs only: `waits` by sample interval (see [`Causes`]).
    by_interval: Vec<Sums>,
    /// Live runs only: number of pod starts, and the shortest.
    starts: (u64, Span),
}

impl Default for Path {
    fn default() -> Self {
        Self {
            investigations: 0,
            total: Span::ZERO,
            waits: [Span::ZERO; Component::COUNT],
            by_interval: Vec::new(),
            starts: (0, Span(u64::MAX)),
        }
    }
}

/// Waits of all investigations, by component: from the alert until the credentials are ready, and
/// until the Job finishes.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    ready: Path,
    finished: Path,
    /// The servers' counters in a live run; `None` for the twin.
    pub(super) causes: Option<Causes>,
}

/// Unexplained time below this share of the path is treated as rounding.
const ROUNDING: f64 = 1e-6;

/// A component's share of the critical path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PathShare {
    /// The component that was waited for.
    pub component: Component,
    /// Live runs only: the gaps between stages in which the component was waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<String>,
    /// Live runs only: what shows the component as the cause: the servers' counters, the controller's own
    /// measurement, or a fault of the scenario. Without it the component only ends the gap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
    /// Wait for the component over the total time from the alert to the end of the path, summed
    /// over investigations; 0 to 1.
    pub share: f64,
    /// Mean wait in seconds per investigation that reached the end of the path.
    pub mean_s: f64,
}

impl Paths {
    /// Adds an investigation that reached the end of a path. Up to the Job's end, time without a booked
    /// wait is the agent's work, as far as the agent can have worked: `agent` at the most.
    pub(super) fn add(
        &mut self,
        (until, at): (Stage, Time),
        total: Span,
        agent: Span,
        waits: &[Wait],
    ) {
        let path = match until {
            Stage::CredentialsReady => &mut self.ready,
            _ => &mut self.finished,
        };
        path.investigations += 1;
        path.total += total;
        let mut rest = total;
        for wait in waits {
            path.waits[wait.component.index()] += wait.span;
            rest = rest.saturating_sub(wait.span);
        }
        if until == Stage::JobFinished {
            path.waits[Component::AgentWork.index()] += rest.min(agent);
        }
        if let Some(causes) = &self.causes {
            causes.divide(until, at, total, waits, &mut path.by_interval);
            for wait in waits.iter().filter(|wait| wait.component == Component::PodStart) {
                path.starts = (path.starts.0 + 1, path.starts.1.min(wait.span));
            }
        }
    }

    /// The path that is reported: to the credentials if any agent obtained some, else to the Job's
    /// end.
    fn reported(&self) -> (&Path, Stage) {
        if self.ready.investigations > 0 {
            (&self.ready, Stage::CredentialsReady)
        } else {
            (&self.finished, Stage::JobFinished)
        }
    }

    /// The stage at which the reported path ends.
    pub fn until(&self) -> Stage {
        self.reported().1
    }

    /// Shares of the reported path in descending order, including the unexplained rest. They add up
    /// to 1; components without a wait are left out.
    pub(super) fn shares(&self) -> Vec<PathShare> {
        let (path, until) = self.reported();
        let total = path.total.as_secs_f64();
        let share_of = |component: Component, wait: f64| PathShare {
            component,
            gap: None,
            evidence: None,
            share: wait / total.max(1e-9),
            mean_s: wait / path.investigations.max(1) as f64,
        };
        let wait = |component: Component| path.waits[component.index()].as_secs_f64();
        let attributed: f64 = Component::ALL.iter().map(|c| wait(*c)).sum();
        let mut shares: Vec<_> = match &self.causes {
            None => Component::ALL.iter().map(|c| share_of(*c, wait(*c))).collect(),
            Some(causes) => {
                let by_cause = path.by_cause(causes).into_iter().map(|cause| PathShare {
                    gap: Some(cause.gaps(until)),
                    evidence: cause.evidence(causes),
                    ..share_of(cause.component, cause.seconds)
                });
                let work = share_of(Component::AgentWork, wait(Component::AgentWork));
                by_cause.chain([work]).collect()
            }
        };
        if total - attributed > ROUNDING * total {
            shares.push(share_of(Component::Unexplained, total - attributed));
        }
        shares.retain(|share| share.share > 0.0);
        shares.sort_by(|a, b| b.share.total_cmp(&a.share));
        shares
    }
}

impl Path {
    /// The waits of a live run by cause.
    fn by_cause(&self, causes: &Causes) -> Vec<ByCause> {
        let (count, shortest) = self.starts;
        let start = self.waits[Component::PodStart.index()].as_secs_f64();
        let excess = 1.0 - (count as f64 * shortest.as_secs_f64() / start.max(1e-9)).min(1.0);
        let mut all: Vec<ByCause> = Vec::new();
        for (i, sums) in self.by_interval.iter().enumerate() {
            let gaps = Component::ALL.iter().zip(sums).filter(|(_, span)| span.0 > 0);
            for (&gap, span) in gaps {
                for cause in causes.of(i, gap, excess) {
                    let seconds = span.as_secs_f64() * cause.share;
                    let known = all.iter().position(|of| of.component == cause.component);
                    let known = known.unwrap_or_else(|| {
                        all.push(ByCause::new(cause.component));
                        all.len() - 1
                    });
                    all[known].add(i, gap, seconds, cause.shown);
                }
            }
        }
        all
    }
}

/// The time that a live run's investigations spent in gaps because of one component.
struct ByCause {
    component: Component,
    seconds: f64,
    /// Seconds for which counters show the cause, by number of the sample interval.
    shown: Vec<(usize, f64)>,
    /// Seconds by the component that ends the gap.
    gaps: Vec<(Component, f64)>,
}

impl ByCause {
    const fn new(component: Component) -> Self {
        Self { component, seconds: 0.0, shown: Vec::new(), gaps: Vec::new() }
    }

    fn add(&mut self, interval: usize, gap: Component, seconds: f64, shown: bool) {
        self.seconds += seconds;
        if shown {
            self.shown.push((interval, seconds));
        }
        match self.gaps.iter_mut().find(|(of, _)| *of == gap) {
            Some((_, sum)) => *sum += seconds,
            None => self.gaps.push((gap, seconds)),
        }
    }

    /// The gaps, the longest first; those of less than a tenth are left out.
    fn gaps(&self, until: Stage) -> String {
        let mut gaps = self.gaps.clone();
        gaps.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        let long = gaps.iter().filter(|(_, seconds)| *seconds >= 0.1 * self.seconds);
        let named = long.filter_map(|(component, _)| gap(*component, until));
        named.collect::<Vec<_>>().join("; ")
    }

    /// The counters, if they show the cause of most of the time.
    fn evidence(&self, causes: &Causes) -> Option<String> {
        let shown: f64 = self.shown.iter().map(|(_, seconds)| seconds).sum();
        (shown * 2.0 >= self.seconds).then(|| causes.evidence(self.component, &self.shown))?
    }
}

/// The gap between two stages that a live run attributes to a component (`live::timeline`), on the
/// path to `until`; `None` for components that only the twin observes.
const fn gap(component: Component, until: Stage) -> Option<&'static str> {
    Some(match (component, until) {
        (Component::Concurrency | Component::CostBudget, _) => "alert → admitted",
        (Component::BackendClient, _) => "admitted → job sent",
        (Component::ControlPlaneCpu, _) => "job sent → job created",
        (Component::JobControllerWorkers, Stage::CredentialsReady) => "job created → pod created",
        (Component::JobControllerWorkers, _) => {
            "job created → pod created, agent done → job finished"
        }
        (Component::SchedulerCycle, Stage::CredentialsReady) => "pod created → pod scheduled",
        (Component::SchedulerCycle, _) => "pod created → pod scheduled, or the Job's end",
        (Component::AgentWork, _) => "pod scheduled → agent done",
        (Component::PodStart, Stage::CredentialsReady) => "pod scheduled → pod running or login",
        (Component::PodStart, _) => "pod scheduled → pod running",
        (Component::VaultCpu, _) => "pod running → vault login",
        (Component::VaultDatabaseLock, _) => "vault login → credentials ready",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use alertstorm_model::event::{Capacity, Occupation, Resource};

    use super::*;

    fn paths(attributed_s: u64) -> Paths {
        let mut paths = Paths::default();
        let wait = Wait { component: Component::PodStart, span: Span::secs(attributed_s) };
        let at = Time::ZERO + Span::secs(10);
        paths.add((Stage::CredentialsReady, at), Span::secs(10), Span::secs(60), &[wait]);
        paths
    }

    #[test]
    fn the_agents_work_is_a_row_of_the_path_to_the_jobs_end() {
        let mut paths = Paths::default();
        let wait = Wait { component: Component::PodStart, span: Span::secs(3) };
        let at = Time::ZERO + Span::secs(10);
        paths.add((Stage::JobFinished, at), Span::secs(10), Span::secs(6), &[wait]);
        let shares: Vec<_> =
            paths.shares().iter().map(|share| (share.component, share.mean_s)).collect();
        let expected = [
            (Component::AgentWork, 6.0),
            (Component::PodStart, 3.0),
            (Component::Unexplained, 1.0),
        ];
        assert_eq!(shares, expected);
    }

    #[test]
    fn unexplained_time_is_a_row_of_its_own() {
        let shares = paths(3).shares();
        assert_eq!(shares[0].component, Component::Unexplained);
        assert!((shares[0].share - 0.7).abs() < 1e-12 && (shares[1].share - 0.3).abs() < 1e-12);
        assert_eq!(paths(10).shares().len(), 1);
    }

    #[test]
    fn a_live_runs_gaps_are_divided_by_the_counters_and_add_up() {
        let mut paths = Paths { causes: Some(Causes::default()), ..Paths::default() };
        let causes = paths.causes.as_mut().unwrap();
        causes.occupied(Time::ZERO, &[]);
        let cores = Occupation {
            of: Resource::Cores,
            busy_ns: 19_800_000_000,
            capacity: Capacity::whole(2),
        };
        causes.occupied(Time::ZERO + Span::secs(10), &[cores]);
        let wait = |component, s| Wait { component, span: Span::secs(s) };
        let waits =
            [wait(Component::JobControllerWorkers, 6), wait(Component::VaultDatabaseLock, 14)];
        let end = (Stage::CredentialsReady, Time::ZERO + Span::secs(20));
        paths.add(end, Span::secs(20), Span::ZERO, &waits);
        let shares = paths.shares();
        let found: Vec<_> = shares
            .iter()
            .map(|share| (share.component, share.mean_s, share.evidence.is_some()))
            .collect();
        let expected = [
            (Component::VaultDatabaseLock, 10.0, false),
            (Component::ControlPlaneCpu, 6.0, true),
            (Component::VaultCpu, 4.0, true),
        ];
        assert_eq!(found, expected);
        assert_eq!(shares[1].gap.as_deref(), Some("job created → pod created"));
        assert_eq!(
            shares[1].evidence.as_deref(),
            Some("2.0 of 2 cores busy: other processes 1.98")
        );
    }
}
