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
    /// Nothing more will be recorded: its alert is a duplicate or was shed, or its Job was
    /// collected while a shard that died was in charge.
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
    pub journal_read: bool,
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
            journal_read: false,
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

    /// The latest recorded time. The Job finished later, even if the watch event that reports it
    /// has an earlier time.
    pub fn latest(&self) -> Time {
        self.at.iter().flatten().fold(self.ended_at, |latest, at| latest.max(*at))
    }

    /// Whether a journal may still arrive. A Job that exceeded its deadline may never have had an
    /// agent: if the watches showed `all` of the run, its pod was never scheduled.
    pub fn may_have_journal(&self, finished: Finished, all: bool) -> bool {
        let stopped = finished == Finished::DeadlineExceeded;
        let never_ran = stopped && all && self.reached(Stage::PodScheduled).is_none();
        !self.journal_read && !never_ran
    }

    /// Where the time up to `until` went, in the order of time. Only the gaps between recorded times are
    /// known, so each gap is booked on the component that ends it; together they are the whole time, but
    /// for an agent's own work. The measures divide each gap by the servers' counters.
    pub fn waits(&self, until: Stage) -> Box<[Wait]> {
        let at = |stage: Stage| self.reached(stage);
        let mut gaps = Gaps::new(self.alert.intended, at(until));
        let queued = gaps.up_to(at(Stage::Admitted));
        gaps.book(Component::Concurrency, queued.saturating_sub(self.budget_wait));
        gaps.book(Component::CostBudget, queued.min(self.budget_wait));
        // A stage that was never reached leaves its gap to the next one that was.
        for (time, component) in [
            (self.sent, Component::BackendClient),
            (at(Stage::JobCreated), Component::ControlPlaneCpu),
            (at(Stage::PodCreated), Component::JobControllerWorkers),
            (at(Stage::PodScheduled), Component::SchedulerCycle),
        ] {
            let gap = gaps.up_to(time);
            gaps.book(component, gap);
        }
        if until == Stage::CredentialsReady {
            // The agent starts before its kubelet reports the pod as Running (up to a relist period
            // later). Without a report the container's start and the login are one gap.
            let login = at(Stage::VaultLogin);
            let running = at(Stage::PodRunning).filter(|at| login.is_none_or(|login| *at <= login));
            let start = gaps.up_to(running.or(login));
            gaps.book(Component::PodStart, start);
            let login = gaps.up_to(login);
            gaps.book(Component::VaultCpu, login);
            let credentials = gaps.up_to(at(until));
            gaps.book(Component::VaultDatabaseLock, credentials);
        } else if let Some(running) = at(Stage::PodRunning) {
            let start = gaps.up_to(Some(running));
            gaps.book(Component::PodStart, start);
            // The agent's own work is no wait. An agent that did not finish worked until it ended.
            let ended = Some(self.ended_at).filter(|_| self.ended);
            gaps.up_to(at(Stage::AgentDone).or(ended));
            let done = gaps.up_to(at(until));
            gaps.book(Component::JobControllerWorkers, done);
        } else {
            // It ended while it waited for the first stage that it did not reach.
            let missing = [
                (Stage::Admitted, Component::Concurrency),
                (Stage::JobCreated, Component::ControlPlaneCpu),
                (Stage::PodCreated, Component::JobControllerWorkers),
                (Stage::PodScheduled, Component::SchedulerCycle),
            ];
            let missing = missing.into_iter().find(|(stage, _)| at(*stage).is_none());
            let component = missing.map_or(Component::PodStart, |(_, component)| component);
            let rest = gaps.up_to(at(until));
            gaps.book(component, rest);
        }
        gaps.booked.into()
    }
}

/// The way to a stage, gap by gap. Two watches and the agent's clock report the times, so they may
/// be out of order; a gap neither overlaps the one before nor passes the end.
struct Gaps {
    cursor: Time,
    end: Time,
    booked: Vec<Wait>,
}

impl Gaps {
    fn new(from: Time, end: Option<Time>) -> Self {
        Self { cursor: from, end: end.unwrap_or(from), booked: Vec::new() }
    }

    /// The gap up to a time, if that is known.
    fn up_to(&mut self, time: Option<Time>) -> Span {
        let next = time.unwrap_or(self.cursor).min(self.end).max(self.cursor);
        let gap = next.since(self.cursor);
        self.cursor = next;
        gap
    }

    fn book(&mut self, component: Component, span: Span) {
        if span.0 > 0 {
            self.booked.push(Wait { component, span });
        }
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
    fn the_engine_waits_for_a_journal_unless_no_agent_ran() {
        let mut timeline = timeline();
        // A completed Job had an agent, even if the watch of pods has not shown its pod yet.
        assert!(timeline.may_have_journal(Finished::Complete, true));
        assert!(timeline.may_have_journal(Finished::Failed, true));
        assert!(!timeline.may_have_journal(Finished::DeadlineExceeded, true));
        // An engine that took over from another has not seen the whole run.
        assert!(timeline.may_have_journal(Finished::DeadlineExceeded, false));
        timeline.reach(Stage::PodScheduled, Time(9));
        assert!(timeline.may_have_journal(Finished::DeadlineExceeded, true));
        timeline.journal_read = true;
        assert!(!timeline.may_have_journal(Finished::Complete, false));
    }

    const BEFORE_THE_POD: [(Stage, u64); 4] = [
        (Stage::Admitted, 10),
        (Stage::JobCreated, 30),
        (Stage::PodCreated, 60),
        (Stage::PodScheduled, 100),
    ];

    fn booked(timeline: &Timeline, until: Stage) -> Vec<(Component, u64)> {
        let waits = timeline.waits(until);
        waits.iter().map(|wait| (wait.component, wait.span.0)).collect()
    }

    fn reached(stages: &[(Stage, u64)]) -> Timeline {
        let mut timeline = timeline();
        for (stage, at) in stages {
            timeline.reach(*stage, Time(*at));
        }
        timeline
    }

    #[test]
    fn the_gaps_to_credentials_are_the_whole_time_before_the_kubelet_reports_the_pod() {
        let mut timeline = reached(&BEFORE_THE_POD);
        timeline.sent = Some(Time(18));
        timeline.reach(Stage::VaultLogin, Time(500));
        timeline.reach(Stage::CredentialsReady, Time(530));
        let waits = booked(&timeline, Stage::CredentialsReady);
        let expected = [
            (Component::Concurrency, 5),
            (Component::BackendClient, 8),
            (Component::ControlPlaneCpu, 12),
            (Component::JobControllerWorkers, 30),
            (Component::SchedulerCycle, 40),
            (Component::PodStart, 400),
            (Component::VaultDatabaseLock, 30),
        ];
        assert_eq!(waits, expected);
        assert_eq!(waits.iter().map(|(_, ns)| ns).sum::<u64>(), 530 - 5);
    }

    #[test]
    fn gaps_of_times_out_of_order_are_not_longer_than_the_time() {
        let mut timeline = reached(&BEFORE_THE_POD);
        timeline.reach(Stage::VaultLogin, Time(90));
        timeline.reach(Stage::PodRunning, Time(700));
        timeline.reach(Stage::CredentialsReady, Time(120));
        let waits = booked(&timeline, Stage::CredentialsReady);
        assert_eq!(waits.iter().map(|(_, ns)| ns).sum::<u64>(), 120 - 5);
    }

    #[test]
    fn a_job_that_ends_before_its_pod_is_scheduled_waited_for_the_scheduler() {
        let mut timeline = reached(&BEFORE_THE_POD[..3]);
        timeline.reach(Stage::JobFinished, Time(900));
        let waits = booked(&timeline, Stage::JobFinished);
        assert_eq!(waits.last(), Some(&(Component::SchedulerCycle, 840)));
        assert_eq!(waits.iter().map(|(_, ns)| ns).sum::<u64>(), 900 - 5);
    }

    #[test]
    fn an_agents_work_is_no_wait() {
        let mut timeline = reached(&BEFORE_THE_POD);
        for (stage, at) in
            [(Stage::PodRunning, 200), (Stage::AgentDone, 700), (Stage::JobFinished, 750)]
        {
            timeline.reach(stage, Time(at));
        }
        let waits = booked(&timeline, Stage::JobFinished);
        assert_eq!(waits.last(), Some(&(Component::JobControllerWorkers, 50)));
        assert_eq!(waits.iter().map(|(_, ns)| ns).sum::<u64>(), 750 - 5 - 500);
    }
}
