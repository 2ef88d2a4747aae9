//! The live engine: alerts by their intended instants, the model's controller, real servers. One
//! task owns all that is known and writes every event; the others tell it what they saw.

mod held;
mod lags;
mod restart;
mod seen;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use alertstorm_model::alert::Alert;
use alertstorm_model::controller::{Command, Controller, Input};
use alertstorm_model::event::{Bucket, Component, Event, Fact, Sample, Sink};
use alertstorm_model::investigation::{InvestigationId, Outcome, Stage};
use alertstorm_model::scenario::Plan;
use alertstorm_model::time::{Span, Time};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;

use crate::jobs::Jobs;
use crate::reporter::{Note, Reporter};
use crate::timeline::Timeline;
use crate::vault::leases::LeaseBook;

use held::Held;
pub use lags::Lags;
use lags::record;

/// An event is held back so long, that those of other tasks may find their place before it.
const HOLD: Span = Span::millis(60);
/// How often the engine looks around: writes, progress, whether all is done.
pub const TICK: Duration = Duration::from_millis(25);
/// How often the log is made sure of.
const FLUSH_EVERY: Span = Span::millis(200);
/// A Job that is collected within this time is waited for.
const WAIT_FOR_COLLECTION: Span = Span::secs(60);
/// After the last lease's time, so long until Vault must have revoked it.
pub const REVOCATION_GRACE: Span = Span::secs(60);
/// A client whose calls wait longer than this for a token on the mean is limited by its bucket.
const BUCKET_LIMITS: Span = Span::millis(20);

/// Whether the Job controller's workers wait for their client's bucket, or are too few or too slow.
/// A bucket that is not empty costs microseconds a call.
pub fn slowest_of_job_controller(sample: &Sample) -> Component {
    let of = |bucket: &&Bucket| bucket.client == "kube-controller-manager";
    let bucket = sample.buckets.iter().find(of);
    let mean = bucket.map_or(0, |bucket| bucket.wait_ns / bucket.calls.max(1));
    match Span(mean) >= BUCKET_LIMITS {
        true => Component::JobControllerBucket,
        false => Component::JobControllerWorkers,
    }
}

/// What the engine asks of whoever runs the platform.
pub trait Host {
    /// A fault of the plan begins or ends.
    fn fault(&self, number: usize, begins: bool);
    /// A look around, some times a second.
    fn look(&self);
    /// Whether the platform's counters are to be read again, at its own pace.
    fn sample(&self);
}

/// The engine's state.
pub struct Engine<'a> {
    plan: Arc<Plan>,
    sink: &'a mut dyn Sink,
    reporter: Reporter,
    controller: Option<Controller>,
    jobs: Arc<Jobs>,
    selector: String,
    book: LeaseBook,
    /// Whether agents tell of themselves at their pods' end, and not at once.
    in_pods: bool,
    /// What the Job controller waits for most, as its own metrics had it last.
    job_controller: Component,
    all: BTreeMap<InvestigationId, Timeline>,
    /// Investigations that are not over.
    open: usize,
    all_came: bool,
    commands: Vec<Command>,
    held: BinaryHeap<Reverse<Held>>,
    sequence: u64,
    flushed: Time,
    sampled: Time,
    /// What was due before is late by a shard's death, and not by the harness.
    since: Time,
    over_since: Option<Time>,
    tasks: JoinSet<()>,
    /// How late the harness was.
    pub lags: Lags,
}

impl<'a> Engine<'a> {
    /// An engine at the beginning of its run.
    pub fn new(
        plan: Arc<Plan>,
        sink: &'a mut dyn Sink,
        reporter: Reporter,
        jobs: Arc<Jobs>,
        selector: String,
        book: LeaseBook,
        in_pods: bool,
    ) -> Self {
        let controller = Some(Controller::new(&plan.scenario.controller));
        Self {
            plan,
            sink,
            reporter,
            controller,
            jobs,
            selector,
            book,
            in_pods,
            job_controller: Component::JobControllerBucket,
            all: BTreeMap::new(),
            open: 0,
            all_came: false,
            commands: Vec::new(),
            held: BinaryHeap::new(),
            sequence: 0,
            flushed: Time::ZERO,
            sampled: Time::ZERO,
            since: Time::ZERO,
            over_since: None,
            tasks: JoinSet::new(),
            lags: Lags::default(),
        }
    }

    /// Runs until every alert is accounted for and every lease has ended, the plan's bound is
    /// reached, or `watch` asks for the end; whether it was asked.
    pub async fn run(
        &mut self,
        inbox: &mut UnboundedReceiver<Note>,
        host: &impl Host,
        watch: &mut dyn FnMut(Time) -> ControlFlow<()>,
    ) -> bool {
        let asked = self.advance(inbox, host, watch).await;
        if asked {
            self.platform(Fact::Interrupted);
        }
        asked
    }

    /// Goes on until all is over, or `pause` asks for a pause; whether it did.
    pub async fn advance(
        &mut self,
        inbox: &mut UnboundedReceiver<Note>,
        host: &impl Host,
        pause: &mut dyn FnMut(Time) -> ControlFlow<()>,
    ) -> bool {
        let mut tick = tokio::time::interval(TICK);
        let every = self.plan.sample_every.0.max(Span::secs(10).0);
        loop {
            tokio::select! {
                biased;
                note = inbox.recv() => match note {
                    Some(note) => {
                        self.take(note, host);
                        // All that is there first: facts find their order before they are written.
                        while let Ok(note) = inbox.try_recv() {
                            self.take(note, host);
                        }
                    }
                    None => return false,
                },
                _ = tick.tick() => {
                    host.look();
                    while self.tasks.try_join_next().is_some() {}
                    let now = self.reporter.now();
                    if now.since(self.sampled).0 >= every {
                        self.sampled = now;
                        host.sample();
                    }
                    if pause(now).is_break() {
                        return true;
                    }
                    if self.is_done(now) {
                        return false;
                    }
                }
            }
            self.write(Time(self.reporter.now().0.saturating_sub(HOLD.0)));
        }
    }

    /// Writes all that is left.
    pub fn close(&mut self, inbox: &mut UnboundedReceiver<Note>, host: &impl Host) {
        while let Ok(note) = inbox.try_recv() {
            self.take(note, host);
        }
        self.write(Time::NEVER);
        self.sink.flush();
    }

    /// A fact of the platform, now.
    pub fn platform(&mut self, fact: Fact) {
        let at = self.reporter.now();
        self.hold(Event::platform(at, fact));
    }

    fn hold(&mut self, event: Event) {
        self.sequence += 1;
        self.held.push(Reverse(Held(event.at, self.sequence, event)));
    }

    fn write(&mut self, up_to: Time) {
        while self.held.peek().is_some_and(|Reverse(held)| held.0 <= up_to) {
            let Some(Reverse(Held(_, _, event))) = self.held.pop() else { break };
            self.sink.take(&event);
        }
        let now = self.reporter.now();
        if now.since(self.flushed) >= FLUSH_EVERY {
            self.flushed = now;
            self.sink.flush();
        }
    }

    fn is_done(&mut self, now: Time) -> bool {
        let bound = self.plan.scenario.limits.run_for;
        if bound.0 > 0 && now >= Time::ZERO + bound {
            return true;
        }
        if !self.all_came || self.open > 0 {
            self.over_since = None;
            let job = &self.plan.scenario.controller.job;
            // What is still open then will never end.
            let longest = self.plan.alerts_last() + job.active_deadline * 4 + Span::secs(600);
            return self.all_came && now >= Time::ZERO + longest * 2;
        }
        let since = *self.over_since.get_or_insert(now);
        let ttl = self.plan.scenario.controller.job.ttl_after_finished;
        let collected = |timeline: &Timeline| {
            timeline.refused || timeline.reached(Stage::JobCollected).is_some()
        };
        let collects = ttl <= WAIT_FOR_COLLECTION
            && now < since + ttl + Span::secs(60)
            && !self.all.values().all(collected);
        let alive = self.book.alive() > 0;
        let last = self.book.last_expiry().unwrap_or(since).max(since);
        let leases = alive && now < last + REVOCATION_GRACE;
        !collects && !leases
    }

    fn take(&mut self, note: Note, host: &impl Host) {
        match note {
            Note::Due(alert) => self.due(alert),
            Note::AllCame => self.all_came = true,
            Note::Fact(event) => self.fact(event),
            Note::JobAnswered { id, at, created } => self.answered(id, at, created),
            Note::Seen { what, at } => self.seen(what, at),
            Note::Remark(text) => self.platform(Fact::Remark { text: text.into() }),
            Note::Invalid(why) => self.platform(Fact::Invalid { why: why.into() }),
            Note::Redeliver(id) => {
                let undecided = self.all.get(&id).filter(|timeline| timeline.undecided);
                if let Some(alert) = undecided.map(|timeline| timeline.alert) {
                    self.tell(Input::Alert(alert));
                }
            }
            Note::ToldAll(id) => {
                self.told_all(id);
            }
            Note::Untold(id) => {
                if self.told_all(id) {
                    let text = format!("nothing was heard of the agent of {id}, whose Job ended");
                    self.platform(Fact::Remark { text: text.into() });
                }
            }
            Note::Wake => self.tell(Input::Wake),
            Note::Fault(number, begins) => {
                let kind = self.plan.faults[number].kind;
                self.platform(Fact::Fault { kind, began: begins });
                host.fault(number, begins);
            }
            Note::ControllerCrashes => self.controller = None,
            Note::ControllerStarts(jobs) => self.restart(&jobs),
        }
    }

    fn due(&mut self, alert: Alert) {
        let now = self.reporter.now();
        if alert.intended >= self.since {
            record(&mut self.lags.send, now.since(alert.intended));
        }
        let retries = self.plan.scenario.controller.sender_retries;
        self.all.insert(alert.id, Timeline::new(alert, retries));
        self.open += 1;
        let Alert { id, intended, domain, severity, .. } = alert;
        self.hold(Event::of(now, id, Fact::Alert { intended, domain, severity }));
        self.tell(Input::Alert(alert));
    }

    /// Tells the controller, where there is one, and does what it wants.
    fn tell(&mut self, input: Input) {
        let now = self.reporter.now();
        let Some(controller) = &mut self.controller else { return };
        let mut commands = std::mem::take(&mut self.commands);
        controller.step(now, input, &mut commands);
        for command in commands.drain(..) {
            self.obey(now, command);
        }
        self.commands = commands;
    }

    fn obey(&mut self, now: Time, command: Command) {
        match command {
            Command::CreateJob { alert, budget_wait } => {
                let Some(timeline) = self.all.get_mut(&alert.id) else { return };
                timeline.budget_wait = budget_wait;
                if timeline.reach(Stage::Admitted, now) {
                    self.hold(Event::of(now, alert.id, Fact::Stage { stage: Stage::Admitted }));
                }
                self.tasks.spawn(Arc::clone(&self.jobs).create(alert));
            }
            Command::Deduplicate { alert, of } => {
                self.refuse(alert.id);
                self.hold(Event::of(now, alert.id, Fact::Deduplicated { of }));
            }
            Command::Shed { alert, retry_after } => self.shed(now, alert, retry_after),
            Command::DeleteJob(id) => {
                if let Some(timeline) = self.all.get(&id) {
                    self.tasks.spawn(Arc::clone(&self.jobs).delete(timeline.alert));
                }
            }
            Command::WakeAt(at) => self.later(at, Note::Wake),
            Command::Pressure(shedding) => self.platform(Fact::Pressure { shedding }),
        }
    }

    fn later(&mut self, at: Time, note: Note) {
        let reporter = self.reporter.clone();
        self.tasks.spawn(async move {
            tokio::time::sleep_until(reporter.clock().instant(at)).await;
            reporter.note(note);
        });
    }

    fn refuse(&mut self, id: InvestigationId) {
        if let Some(timeline) = self.all.get_mut(&id).filter(|timeline| !timeline.refused) {
            timeline.refused = true;
            timeline.undecided = false;
            self.open -= 1;
        }
    }

    fn shed(&mut self, now: Time, alert: Alert, retry_after: Span) {
        let Some(timeline) = self.all.get_mut(&alert.id).filter(|one| one.undecided) else {
            return;
        };
        match timeline.retries.checked_sub(1) {
            Some(left) => {
                timeline.retries = left;
                self.hold(Event::of(now, alert.id, Fact::TurnedAway { retry_after }));
                self.later(now + retry_after, Note::Redeliver(alert.id));
            }
            None => {
                self.refuse(alert.id);
                self.hold(Event::of(now, alert.id, Fact::Shed { retry_after }));
            }
        }
    }

    /// A fact that a task saw: what the engine knows already is not told twice.
    fn fact(&mut self, mut event: Event) {
        if let Fact::Sample { sample } = &event.fact {
            self.job_controller = slowest_of_job_controller(sample);
        }
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
                    let waits = timeline.waits(stage, self.job_controller);
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
                // A kubelet sees that its pod is deleted, and not why: the Job's clock tells.
                let created = timeline.reached(Stage::JobCreated).or(timeline.sent);
                let deadline = self.plan.scenario.controller.job.active_deadline;
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

    /// A stage that the engine works out itself.
    fn stage(&mut self, id: InvestigationId, at: Time, stage: Stage) {
        self.fact(Event::of(at, id, Fact::Stage { stage }));
    }
}
