//! The loop of a run, for the engine and for the merger of shards: it handles messages and ticks
//! until the run is over.

use std::ops::ControlFlow;
use std::time::Duration;

use alertstorm_model::scenario::Plan;
use alertstorm_model::time::{Span, Time};

use crate::reporter::Inbox;

/// The period of ticks.
const TICK: Duration = Duration::from_millis(25);
/// The period of flushes of the event log.
const FLUSH_EVERY: Span = Span::millis(200);
/// The shortest period of samples.
const SAMPLE_EVERY_MIN: Span = Span::secs(10);
/// How long after its time-to-live Vault may still take to revoke the last lease.
const REVOCATION_GRACE: Span = Span::secs(60);

/// Access to the platform from the loop.
pub trait Host {
    /// Begins or ends a fault of the plan.
    fn fault(&self, number: usize, begins: bool);
    /// Reports processes of the platform that died; called with every tick.
    fn check_processes(&self);
    /// Reads the platform's counters.
    fn sample(&self);
}

/// What the loop drives.
pub(crate) trait Driven {
    /// What it receives.
    type Message;

    /// The next message; none when all senders are gone. Must be cancel safe.
    async fn next(&mut self, inbox: &mut Inbox) -> Option<Self::Message>;
    /// Handles a message.
    async fn handle(&mut self, message: Self::Message, host: &impl Host);
    /// Called when the inbox is empty: writes the events that are due.
    fn write(&mut self);
    /// Flushes the event log.
    fn flush(&mut self);

    /// Now, on the run's clock.
    fn now(&self) -> Time;
    /// When the last lease that may be alive expires; none when none is.
    fn leases_until(&self) -> Option<Time>;
    /// Whether the run is to end at once.
    fn is_aborted(&self) -> bool;
    /// Whether an alert is still to come, or an investigation under way.
    fn is_open(&self) -> bool;
    /// Whether a Job is still to be collected, all investigations being over since `since`.
    fn is_collecting(&self, now: Time, since: Time) -> bool;
}

/// A run's loop, which can be paused and goes on where it was.
#[derive(Debug)]
pub(crate) struct RunLoop {
    /// The plan's own bound; zero is none.
    run_for: Span,
    /// What is still open then is given up.
    gives_up: Time,
    sample_every: Span,
    sampled: Time,
    flushed: Time,
    over_since: Option<Time>,
}

impl RunLoop {
    /// A loop that gives up what is still open long after the plan's last Job should have ended:
    /// `slack` is what the plan does not account for.
    pub fn new(plan: &Plan, slack: Span) -> Self {
        let job = &plan.scenario().controller.job;
        let longest = plan.alerts_last() + job.active_deadline * 4 + slack;
        Self {
            run_for: plan.scenario().limits.run_for,
            gives_up: Time::ZERO + longest * 2,
            sample_every: Span(plan.sample_every().0.max(SAMPLE_EVERY_MIN.0)),
            sampled: Time::ZERO,
            flushed: Time::ZERO,
            over_since: None,
        }
    }

    /// Drives to the end, or until `pause` asks for a pause; whether it did. The end is when every
    /// alert is accounted for and every lease has ended, or the plan's bound is reached.
    pub async fn advance<D: Driven>(
        &mut self,
        driven: &mut D,
        inbox: &mut Inbox,
        host: &impl Host,
        pause: &mut dyn FnMut(Time) -> ControlFlow<()>,
    ) -> bool {
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                biased;
                message = driven.next(inbox) => match message {
                    Some(message) => driven.handle(message, host).await,
                    None => return false,
                },
                _ = tick.tick() => {
                    host.check_processes();
                    let now = driven.now();
                    if now.since(self.sampled) >= self.sample_every {
                        self.sampled = now;
                        host.sample();
                    }
                    if now.since(self.flushed) >= FLUSH_EVERY {
                        self.flushed = now;
                        driven.flush();
                    }
                    if pause(now).is_break() {
                        return true;
                    }
                    if self.is_done(now, driven) {
                        return false;
                    }
                }
            }
            // Facts that wait in the inbox may be earlier than those that were handled.
            if inbox.is_empty() {
                driven.write();
            }
        }
    }

    fn is_done(&mut self, now: Time, driven: &impl Driven) -> bool {
        if driven.is_aborted() {
            return true;
        }
        if self.run_for.0 > 0 && now >= Time::ZERO + self.run_for {
            return true;
        }
        if driven.is_open() {
            self.over_since = None;
            return now >= self.gives_up;
        }
        let since = *self.over_since.get_or_insert(now);
        let until = driven.leases_until().map(|at| at.max(since) + REVOCATION_GRACE);
        let revoking = until.is_some_and(|until| now < until);
        !revoking && !driven.is_collecting(now, since)
    }
}
