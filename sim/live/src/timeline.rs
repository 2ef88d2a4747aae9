//! One investigation as the engine knows it: which stages it has reached, and where its time went.

use alertstorm_model::alert::Alert;
use alertstorm_model::event::{Component, Wait};
use alertstorm_model::investigation::Stage;
use alertstorm_model::time::{Span, Time};

use crate::watch::Finished;

/// What the engine knows of an investigation.
#[derive(Clone, Debug)]
pub struct Timeline {
    /// Its alert.
    pub alert: Alert,
    /// Whether nothing more is to come of it: its alert was refused for good, or its Job was collected
    /// in the time of a shard that died.
    pub closed: bool,
    /// Whether its outcome is known.
    pub ended: bool,
    /// When its agent ended, where that is known here.
    pub ended_at: Time,
    /// What it cost so far, in millionths of a dollar.
    pub cost_micro_usd: u64,
    /// When its Job was sent.
    pub sent: Option<Time>,
    /// Whether its pod has told all that it will.
    pub told_all: bool,
    /// Its Job's end, while its pod has not.
    pub finished: Option<(Time, Finished)>,
    /// When its Job was seen to be gone, before its end was told.
    pub gone: Option<Time>,
    /// When the API server answered.
    pub answered: Option<Time>,
    /// Whether a watch has shown its Job.
    pub shown: bool,
    /// How long it waited for the cost budget.
    pub budget_wait: Span,
    at: [Option<Time>; Stage::COUNT],
}

impl Timeline {
    /// A new one.
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

    /// Notes a stage; whether it is new.
    pub fn reach(&mut self, stage: Stage, at: Time) -> bool {
        let known = &mut self.at[stage.index()];
        let new = known.is_none();
        known.get_or_insert(at);
        new
    }

    /// When a stage was reached.
    pub fn reached(&self, stage: Stage) -> Option<Time> {
        self.at[stage.index()]
    }

    /// Whether nothing more is to come but its Job's collection.
    pub fn is_over(&self) -> bool {
        self.closed || self.reached(Stage::JobFinished).is_some()
    }

    /// The last instant that is known of it: its Job's end, whichever watch or clock told of that,
    /// was not before.
    pub fn latest(&self) -> Time {
        self.at.iter().flatten().fold(self.ended_at, |latest, at| latest.max(*at))
    }

    /// Whether an agent may have run of which nothing was heard yet. A Job that was stopped by its
    /// clock may have had none: what watches have shown tells, where they showed `all` of it.
    pub fn may_have_words(&self, finished: Finished, all: bool) -> bool {
        let stopped = finished == Finished::DeadlineExceeded;
        let never_ran = stopped && all && self.reached(Stage::PodScheduled).is_none();
        !self.told_all && !never_ran
    }

    /// Where the time up to `until` went: each gap between two stages is the component's that ends
    /// it. What the Job controller itself waits for, its own metrics tell.
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
            // An agent may work before its pod's status says that it runs.
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
    fn a_job_ends_after_all_that_is_known_of_it() {
        let mut timeline = timeline();
        assert_eq!(timeline.latest(), Time(5));
        // A watch of pods that lists later than that of Jobs shows a pod after its Job's end.
        timeline.reach(Stage::PodRunning, Time(30));
        timeline.reach(Stage::VaultLogin, Time(20));
        timeline.ended_at = Time(25);
        assert_eq!(timeline.latest(), Time(30));
        timeline.ended_at = Time(40);
        assert_eq!(timeline.latest(), Time(40));
    }

    #[test]
    fn words_are_waited_for_unless_there_can_be_none() {
        let mut timeline = timeline();
        // A Job watch may be ahead of the pods' watch: a Job that completed had an agent.
        assert!(timeline.may_have_words(Finished::Complete, true));
        assert!(timeline.may_have_words(Finished::Failed, true));
        assert!(!timeline.may_have_words(Finished::DeadlineExceeded, true));
        // Whoever took up where another left off has not seen all.
        assert!(timeline.may_have_words(Finished::DeadlineExceeded, false));
        timeline.reach(Stage::PodScheduled, Time(9));
        assert!(timeline.may_have_words(Finished::DeadlineExceeded, true));
        timeline.told_all = true;
        assert!(!timeline.may_have_words(Finished::Complete, false));
    }
}
