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
    /// Attempts that its sender has left.
    pub retries: u32,
    /// Whether it was turned away or repeats another.
    pub refused: bool,
    /// Whether the controller has decided to investigate, and the API server has no Job yet.
    pub undecided: bool,
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
    pub fn new(alert: Alert, retries: u32) -> Self {
        let mut at = [None; Stage::COUNT];
        at[Stage::Alert.index()] = Some(alert.intended);
        Self {
            alert,
            retries,
            refused: false,
            undecided: true,
            ended: false,
            ended_at: Time::ZERO,
            told_all: false,
            finished: None,
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
        self.refused || self.reached(Stage::JobFinished).is_some()
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
