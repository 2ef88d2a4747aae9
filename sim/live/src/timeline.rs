//! The engine's state of one investigation: the stages that it reached, and where its time went.

use alertstorm_model::alert::Alert;
use alertstorm_model::event::{Component, Wait};
use alertstorm_model::investigation::Stage;
use alertstorm_model::time::{Span, Time};

use crate::reporter::Finished;

/// The state of one investigation.
#[derive(Clone, Debug)]
pub struct Timeline {
    /// Its alert.
    pub alert: Alert,
    /// Nothing more will be recorded: its alert is a duplicate or was shed, or its Job was collected
    /// while a shard that died was in charge.
    pub closed: bool,
    /// Its outcome was recorded.
    pub ended: bool,
    /// When its agent ended; zero if that is not known.
    pub ended_at: Time,
    /// What it cost so far, in millionths of a dollar.
    pub cost_micro_usd: u64,
    /// When the request that creates its Job was sent.
    pub sent: Option<Time>,
    /// Its pod's journal was read, or is no longer waited for.
    pub told_all: bool,
    /// How and when its Job finished, while its pod's journal is waited for.
    pub finished: Option<(Time, Finished)>,
    /// When its Job was collected, while its pod's journal is waited for.
    pub gone: Option<Time>,
    /// When the API server answered the creation, until a watch shows the Job.
    pub answered: Option<Time>,
    /// Whether a watch has shown its Job.
    pub shown: bool,
    /// How long its alert waited for the cost budget.
    pub budget_wait: Span,
    at: [Option<Time>; Stage::COUNT],
}

impl Timeline {
    /// The state when the alert is due.
    pub fn new(alert: Alert) -> Self {
        let mut at = [None; Stage::COUNT];
        at[Stage::Alert.index()] = Some(alert.intended);
        Self {
            alert,
            closed: false,
            ended: false,
            ended_at: Time::ZERO,
            told_all: false,
            finished: None,
            gone: None,
            cost_micro_usd: 0,
            sent: None,
            answered: None,
            shown: false,
            budget_wait: Span::ZERO,
            at,
        }
    }

    /// Records a stage; false if it was recorded before.
    pub fn reach(&mut self, stage: Stage, at: Time) -> bool {
        let known = &mut self.at[stage.index()];
        let new = known.is_none();
        known.get_or_insert(at);
        new
    }

    /// When the stage was reached.
    pub fn reached(&self, stage: Stage) -> Option<Time> {
        self.at[stage.index()]
    }

    /// Nothing but its Job's collection is still to be recorded.
    pub fn is_over(&self) -> bool {
        self.closed || self.reached(Stage::JobFinished).is_some()
    }

    /// The latest recorded time. The Job did not finish before it, whatever a watch's clock says.
    pub fn latest(&self) -> Time {
        self.at.iter().flatten().fold(self.ended_at, |latest, at| latest.max(*at))
    }

    /// Whether a journal may still arrive. A Job that exceeded its deadline may never have had an
    /// agent: if the watches showed `all` of the run, its pod was never scheduled.
    pub fn may_have_journal(&self, finished: Finished, all: bool) -> bool {
        let stopped = finished == Finished::DeadlineExceeded;
        let never_ran = stopped && all && self.reached(Stage::PodScheduled).is_none();
        !self.told_all && !never_ran
    }

    /// Where the time up to `until` went: each gap between two stages is attributed to the component
    /// that ends it. `job_controller` is what limits the Job controller, by its metrics.
    pub fn waits(&self, until: Stage, job_controller: Component) -> Box<[Wait]> {
        let gap = |from: Option<Time>, to: Stage| match (from, self.reached(to)) {
            (Some(from), Some(to)) => to.since(from),
            _ => Span::ZERO,
        };
        let at = |stage: Stage| self.reached(stage);
        let queued = gap(at(Stage::Alert), Stage::Admitted).saturating_sub(self.budget_wait);
        let sent = self.sent.or_else(|| at(Stage::Admitted));
        let for_connection = match (at(Stage::Admitted), self.sent) {
            (Some(admitted), Some(sent)) => sent.since(admitted),
            _ => Span::ZERO,
        };
        let mut waits = vec![
            (Component::Concurrency, queued),
            (Component::CostBudget, self.budget_wait),
            (Component::BackendClient, for_connection),
            (Component::ControlPlaneCpu, gap(sent, Stage::JobCreated)),
            (job_controller, gap(at(Stage::JobCreated), Stage::PodCreated)),
            (Component::SchedulerCycle, gap(at(Stage::PodCreated), Stage::PodScheduled)),
        ];
        if until == Stage::CredentialsReady {
            // The agent starts before its kubelet reports the pod as Running.
            let running = match (at(Stage::PodRunning), at(Stage::VaultLogin)) {
                (Some(running), Some(login)) => Some(running.min(login)),
                (running, _) => running,
            };
            let start = match (at(Stage::PodScheduled), running) {
                (Some(scheduled), Some(running)) => running.since(scheduled),
                _ => Span::ZERO,
            };
            waits.push((Component::PodStart, start));
            waits.push((Component::VaultCpu, gap(running, Stage::VaultLogin)));
            let taking = gap(at(Stage::VaultLogin), Stage::CredentialsReady);
            waits.push((Component::VaultDatabaseLock, taking));
        } else {
            waits.push((Component::PodStart, gap(at(Stage::PodScheduled), Stage::PodRunning)));
            let done = gap(at(Stage::PodRunning), Stage::JobFinished);
            waits.push((job_controller, done));
        }
        waits
            .into_iter()
            .filter(|(_, span)| span.0 > 0)
            .map(|(component, span)| Wait { component, span })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use alertstorm_model::investigation::{Domain, InvestigationId, Severity};

    use super::*;

    fn timeline() -> Timeline {
        let (domain, severity) = (Domain::Network, Severity::Low);
        let (id, intended) = (InvestigationId(0), Time(5));
        let alert = Alert { id, intended, domain, severity, fingerprint: 0 };
        Timeline::new(alert)
    }

    #[test]
    fn a_job_finishes_after_every_recorded_time() {
        let mut timeline = timeline();
        assert_eq!(timeline.latest(), Time(5));
        // The watch of pods may show a pod after the watch of Jobs shows its Job finished.
        timeline.reach(Stage::PodRunning, Time(30));
        timeline.reach(Stage::VaultLogin, Time(20));
        timeline.ended_at = Time(25);
        assert_eq!(timeline.latest(), Time(30));
        timeline.ended_at = Time(40);
        assert_eq!(timeline.latest(), Time(40));
    }

    #[test]
    fn a_journal_is_waited_for_unless_no_agent_ran() {
        let mut timeline = timeline();
        // A completed Job had an agent, even if the watch of pods has not shown its pod yet.
        assert!(timeline.may_have_journal(Finished::Complete, true));
        assert!(timeline.may_have_journal(Finished::Failed, true));
        assert!(!timeline.may_have_journal(Finished::DeadlineExceeded, true));
        // An engine that took over from another has not seen the whole run.
        assert!(timeline.may_have_journal(Finished::DeadlineExceeded, false));
        timeline.reach(Stage::PodScheduled, Time(9));
        assert!(timeline.may_have_journal(Finished::DeadlineExceeded, true));
        timeline.told_all = true;
        assert!(!timeline.may_have_journal(Finished::Complete, false));
    }
}
