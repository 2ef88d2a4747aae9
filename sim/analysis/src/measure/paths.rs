//! Waits on the critical path, summed over all investigations by component.

use alertstorm_model::event::{Component, Wait};
use alertstorm_model::investigation::Stage;
use alertstorm_model::time::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Sums of the waits between the alert and one stage, over all investigations.
#[derive(Clone, Debug)]
struct Path {
    investigations: u64,
    /// Time from the alert to the stage, waits or not.
    total: Span,
    waits: [Span; Component::COUNT],
}

impl Default for Path {
    fn default() -> Self {
        Self { investigations: 0, total: Span::ZERO, waits: [Span::ZERO; Component::COUNT] }
    }
}

/// Waits of all investigations, by component: from the alert until the credentials are ready, and
/// until the Job finishes.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    ready: Path,
    finished: Path,
}

/// Unexplained time below this share of the path is treated as rounding.
const ROUNDING: f64 = 1e-6;

/// A component's share of the critical path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PathShare {
    /// The component that was waited for.
    pub component: Component,
    /// Live runs only: the gap between stages that is attributed to the component. What took the
    /// time within the gap is not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<String>,
    /// Wait for the component over the total time from the alert to the end of the path, summed
    /// over investigations; 0 to 1.
    pub share: f64,
    /// Mean wait in seconds per investigation that reached the end of the path.
    pub mean_s: f64,
}

impl Paths {
    /// Adds an investigation. Up to the Job's end, time without a booked wait is the agent's work, as
    /// far as the agent can have worked: `agent` at the most.
    pub(super) fn add(&mut self, until: Stage, total: Span, agent: Span, waits: &[Wait]) {
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
    /// to 1; components without a wait are left out. With `gaps`, each row names the gap between
    /// stages that a live run attributes to the component.
    pub(super) fn shares(&self, gaps: bool) -> Vec<PathShare> {
        let (path, until) = self.reported();
        let total = path.total.as_secs_f64();
        let share_of = |component: Component, wait: f64| PathShare {
            component,
            gap: gaps.then(|| gap(component, until).map(str::to_owned)).flatten(),
            share: wait / total.max(1e-9),
            mean_s: wait / path.investigations.max(1) as f64,
        };
        let wait = |component: Component| path.waits[component.index()].as_secs_f64();
        let mut shares: Vec<_> = Component::ALL.iter().map(|c| share_of(*c, wait(*c))).collect();
        let attributed: f64 = Component::ALL.iter().map(|c| wait(*c)).sum();
        if total - attributed > ROUNDING * total {
            shares.push(share_of(Component::Unexplained, total - attributed));
        }
        shares.retain(|share| share.share > 0.0);
        shares.sort_by(|a, b| b.share.total_cmp(&a.share));
        shares
    }
}

/// The gap between two stages that a live run attributes to a component (`live::timeline`), on the
/// path to `until`; `None` for components that only the twin observes.
const fn gap(component: Component, until: Stage) -> Option<&'static str> {
    Some(match (component, until) {
        (Component::Concurrency | Component::CostBudget, _) => "alert → admitted",
        (Component::BackendClient, _) => "admitted → job sent",
        (Component::ControlPlaneCpu, _) => "job sent → job created",
        (
            Component::JobControllerBucket | Component::JobControllerWorkers,
            Stage::CredentialsReady,
        ) => "job created → pod created",
        (Component::JobControllerBucket | Component::JobControllerWorkers, _) => {
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
    use super::*;

    fn paths(attributed_s: u64) -> Paths {
        let mut paths = Paths::default();
        let wait = Wait { component: Component::PodStart, span: Span::secs(attributed_s) };
        paths.add(Stage::CredentialsReady, Span::secs(10), Span::secs(60), &[wait]);
        paths
    }

    #[test]
    fn the_agents_work_is_a_row_of_the_path_to_the_jobs_end() {
        let mut paths = Paths::default();
        let wait = Wait { component: Component::PodStart, span: Span::secs(3) };
        paths.add(Stage::JobFinished, Span::secs(10), Span::secs(6), &[wait]);
        let shares: Vec<_> =
            paths.shares(false).iter().map(|share| (share.component, share.mean_s)).collect();
        let expected = [
            (Component::AgentWork, 6.0),
            (Component::PodStart, 3.0),
            (Component::Unexplained, 1.0),
        ];
        assert_eq!(shares, expected);
    }

    #[test]
    fn unexplained_time_is_a_row_of_its_own() {
        let shares = paths(3).shares(false);
        assert_eq!(shares[0].component, Component::Unexplained);
        assert!((shares[0].share - 0.7).abs() < 1e-12 && (shares[1].share - 0.3).abs() < 1e-12);
        assert_eq!(paths(10).shares(false).len(), 1);
    }

    #[test]
    fn a_live_run_reports_gaps_instead_of_causes() {
        let shares = paths(10).shares(true);
        assert_eq!(shares[0].gap.as_deref(), Some("pod scheduled → pod running or login"));
        assert_eq!(paths(10).shares(false)[0].gap, None);
    }
}
