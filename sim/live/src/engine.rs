//! The live engine: runs a plan's alerts through the model's delivery against real servers. One
//! task owns the state of all investigations and writes every event; other tasks send it messages.

mod held;
mod progress;
mod restart;
mod run_loop;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use alertstorm_model::alert::Alert;
use alertstorm_model::delivery::{Action, Delivery, Input};
use alertstorm_model::event::{Event, Fact, Sink};
use alertstorm_model::investigation::{InvestigationId, Outcome, Stage};
use alertstorm_model::scenario::Plan;
use alertstorm_model::time::{Span, Time};
use tokio::task::JoinSet;

use crate::jobs::Jobs;
use crate::lags::Lag;
use crate::leases::LeaseBook;
use crate::reporter::{Inbox, Observation, Reporter};
use crate::task::guarded;
use crate::timeline::Timeline;

use held::Held;
pub use run_loop::Host;
pub(crate) use run_loop::{Driven, RunLoop};

/// The delay of the reordering buffer: events of several tasks are written in the order of their
/// times if they arrive within it.
const HOLD: Span = Span::millis(60);
/// The slack of the engine's [`RunLoop`].
pub const SLACK: Span = Span::secs(600);
/// The run waits for the collection of Jobs whose `ttlSecondsAfterFinished` is at most this.
const WAIT_FOR_COLLECTION: Span = Span::secs(60);
/// The engine.
pub struct Engine<'a> {
    plan: Arc<Plan>,
    sink: &'a mut dyn Sink,
    reporter: Reporter,
    delivery: Delivery,
    jobs: Arc<Jobs>,
    selector: String,
    book: LeaseBook,
    /// Agents run in pods: their events arrive with the journal when the pod ends, not one by one.
    in_pods: bool,
    all: BTreeMap<InvestigationId, Timeline>,
    /// Investigations that are not over (see [`Timeline::is_over`]).
    open: usize,
    all_came: bool,
    /// Empty between inputs; kept for its capacity.
    actions: Vec<Action>,
    held: BinaryHeap<Reverse<Held>>,
    sequence: u64,
    /// When this engine took over from a shard that died; zero for the first. Alerts that were due
    /// before do not count as late.
    since: Time,
    tasks: JoinSet<()>,
    /// Whether the run ends before every alert is accounted for.
    is_aborted: bool,
}

impl<'a> Engine<'a> {
    /// An engine that has received nothing yet.
    pub fn new(
        plan: Arc<Plan>,
        sink: &'a mut dyn Sink,
        reporter: Reporter,
        jobs: Arc<Jobs>,
        selector: String,
        book: LeaseBook,
        in_pods: bool,
    ) -> Self {
        let delivery = Delivery::new(&plan.scenario().controller);
        Self {
            plan,
            sink,
            reporter,
            delivery,
            jobs,
            selector,
            book,
            in_pods,
            all: BTreeMap::new(),
            open: 0,
            all_came: false,
            actions: Vec::new(),
            held: BinaryHeap::new(),
            sequence: 0,
            since: Time::ZERO,
            tasks: JoinSet::new(),
            is_aborted: false,
        }
    }

    /// Handles the messages that are left, and writes all events.
    pub fn close(&mut self, inbox: &mut Inbox, host: &impl Host) {
        while let Some(observation) = inbox.try_recv() {
            self.take(observation, host);
        }
        self.write_up_to(Time::NEVER);
        self.sink.flush();
    }

    /// Records a fact of the platform with the current time.
    pub fn platform(&mut self, fact: Fact) {
        let at = self.reporter.now();
        self.hold(Event::platform(at, fact));
    }

    fn hold(&mut self, event: Event) {
        self.sequence += 1;
        self.held.push(Reverse(Held(event.at, self.sequence, event)));
    }

    fn write_up_to(&mut self, end: Time) {
        while self.held.peek().is_some_and(|Reverse(held)| held.0 <= end) {
            let Some(Reverse(Held(_, _, event))) = self.held.pop() else { break };
            self.sink.take(&event);
        }
    }

    fn take(&mut self, observation: Observation, host: &impl Host) {
        match observation {
            Observation::Due(alert) => self.due(alert),
            Observation::AllCame => self.all_came = true,
            Observation::Fact(event) => self.fact(event),
            Observation::JobAnswered { id, at, created } => self.answered(id, at, created),
            Observation::Watch { event, at } => self.watch_event(event, at),
            Observation::Remark(text) => self.platform(Fact::Remark { text: text.into() }),
            Observation::Invalid(why) => self.platform(Fact::Invalid { why: why.into() }),
            Observation::Abort(why) => {
                self.platform(Fact::Invalid { why: why.into() });
                self.is_aborted = true;
            }
            Observation::Redeliver(id) => self.deliver(Input::Retry(id)),
            Observation::JournalRead(id) => {
                self.journal_read(id);
            }
            Observation::JournalMissing(id) => {
                if self.journal_read(id) {
                    let text =
                        format!("no journal received from the agent of {id}, whose Job finished");
                    self.platform(Fact::Remark { text: text.into() });
                }
            }
            Observation::Wake => self.deliver(Input::Wake),
            Observation::Fault(number, begins) => {
                let kind = self.plan.faults()[number].kind;
                self.platform(Fact::Fault { kind, began: begins });
                host.fault(number, begins);
            }
            Observation::ControllerCrashes => self.deliver(Input::ControllerCrashed),
            Observation::ControllerStarts(jobs) => self.controller_started(&jobs),
        }
    }

    fn due(&mut self, alert: Alert) {
        let now = self.reporter.now();
        if alert.intended >= self.since {
            self.reporter.lags().record(Lag::Send, now.since(alert.intended));
        }
        self.all.insert(alert.id, Timeline::new(alert));
        self.open += 1;
        let Alert { id, intended, domain, severity, .. } = alert;
        self.hold(Event::of(now, id, Fact::Alert { intended, domain, severity }));
        self.deliver(Input::Alert(alert));
    }

    fn deliver(&mut self, input: Input) {
        let now = self.reporter.now();
        let mut actions = std::mem::take(&mut self.actions);
        self.delivery.step(now, input, &mut actions);
        for action in actions.drain(..) {
            self.act_on(now, action);
        }
        self.actions = actions;
    }

    fn act_on(&mut self, now: Time, action: Action) {
        match action {
            Action::CreateJob { alert, budget_wait } => {
                let Some(timeline) = self.all.get_mut(&alert.id) else { return };
                if timeline.reach(Stage::Admitted, now) {
                    timeline.budget_wait = budget_wait;
                    self.hold(Event::of(now, alert.id, Fact::Stage { stage: Stage::Admitted }));
                }
                self.spawn("the creation of a Job", Arc::clone(&self.jobs).create(alert));
            }
            Action::DeleteJob(id) => {
                if let Some(timeline) = self.all.get(&id) {
                    let alert = timeline.alert;
                    self.spawn("the deletion of a Job", Arc::clone(&self.jobs).delete(alert));
                }
            }
            Action::WakeAt(at) => self.later(at, Observation::Wake),
            Action::Pressure(shedding) => self.platform(Fact::Pressure { shedding }),
            Action::Deduplicated { id, of } => self.refused(now, id, Fact::Deduplicated { of }),
            Action::TurnedAway { id, retry_after } => {
                self.hold(Event::of(now, id, Fact::TurnedAway { retry_after }));
                self.later(now + retry_after, Observation::Redeliver(id));
            }
            Action::Shed { id, retry_after } => self.refused(now, id, Fact::Shed { retry_after }),
        }
    }

    /// Closes an investigation whose alert is a duplicate or was shed.
    fn refused(&mut self, now: Time, id: InvestigationId, fact: Fact) {
        if let Some(timeline) = self.all.get_mut(&id).filter(|timeline| !timeline.closed) {
            timeline.closed = true;
            self.open -= 1;
        }
        self.hold(Event::of(now, id, fact));
    }

    fn spawn(&mut self, what: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(guarded(what, self.reporter.clone(), task));
    }

    fn later(&mut self, at: Time, observation: Observation) {
        let reporter = self.reporter.clone();
        self.tasks.spawn(async move {
            tokio::time::sleep_until(reporter.clock().instant(at)).await;
            reporter.send(observation);
        });
    }

    /// Records a fact that a task reported, unless it is known already.
    fn fact(&mut self, mut event: Event) {
        let Some(timeline) = event.inv.and_then(|id| self.all.get_mut(&id)) else {
            return self.hold(event);
        };
        match &mut event.fact {
            Fact::JobSent => {
                timeline.sent.get_or_insert(event.at);
            }
            &mut Fact::Stage { stage } => {
                if !timeline.reach(stage, event.at) || timeline.is_over() {
                    return;
                }
                if stage == Stage::CredentialsReady {
                    let waits = timeline.waits(stage);
                    let (at, id) = (event.at, timeline.alert.id);
                    self.hold(event);
                    return self.hold(Event::of(at, id, Fact::Waited { until: stage, waits }));
                }
            }
            Fact::Ended { outcome } => {
                if std::mem::replace(&mut timeline.ended, true) {
                    return;
                }
                timeline.ended_at = event.at;
                // A kubelet sees that its pod is deleted, but not why: the Job controller deletes
                // it at activeDeadlineSeconds.
                let created = timeline.reached(Stage::JobCreated).or(timeline.sent);
                let deadline = self.plan.scenario().controller.job.active_deadline;
                let due = created.map(|at| at + deadline.saturating_sub(Span::millis(1_500)));
                if *outcome == Outcome::Evicted && due.is_some_and(|due| event.at >= due) {
                    *outcome = Outcome::DeadlineExceeded;
                }
            }
            Fact::Hypothesis { cost_micro_usd, .. } => timeline.cost_micro_usd += *cost_micro_usd,
            _ => {}
        }
        self.hold(event);
    }

    /// Records a stage that the engine infers.
    fn stage(&mut self, id: InvestigationId, at: Time, stage: Stage) {
        self.fact(Event::of(at, id, Fact::Stage { stage }));
    }
}

impl Driven for Engine<'_> {
    type Message = Observation;

    async fn next(&mut self, inbox: &mut Inbox) -> Option<Observation> {
        inbox.recv().await
    }

    async fn handle(&mut self, observation: Observation, host: &impl Host) {
        self.take(observation, host);
    }

    fn write(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        self.write_up_to(Time(self.reporter.now().0.saturating_sub(HOLD.0)));
    }

    fn flush(&mut self) {
        self.sink.flush();
    }

    fn now(&self) -> Time {
        self.reporter.now()
    }

    fn leases_until(&self) -> Option<Time> {
        self.book.last_expiry()
    }

    fn is_aborted(&self) -> bool {
        self.is_aborted
    }

    fn is_open(&self) -> bool {
        !self.all_came || self.open > 0
    }

    fn is_collecting(&self, now: Time, since: Time) -> bool {
        let ttl = self.plan.scenario().controller.job.ttl_after_finished;
        let collected = |timeline: &Timeline| {
            timeline.closed || timeline.reached(Stage::JobCollected).is_some()
        };
        ttl <= WAIT_FOR_COLLECTION
            && now < since + ttl + Span::secs(60)
            && !self.all.values().all(collected)
    }
}
