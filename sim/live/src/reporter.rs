//! Messages of the other tasks to the engine, and the monotonic clock of a run, by which all tasks
//! time them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use alertstorm_model::alert::Alert;
use alertstorm_model::event::{Event, Fact};
use alertstorm_model::investigation::InvestigationId;
use alertstorm_model::time::{Span, Time};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Duration, Instant};

use crate::lags::{Lag, Lags};

/// The clock of a run. Time zero is the run's start, which is set once the platform is ready.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    zero: Arc<OnceLock<(Instant, i128)>>,
}

/// Nanoseconds since 1970, by this machine's clock.
pub fn wall() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

impl Clock {
    /// Sets the run's start, in the future or the past. Only the first call has an effect.
    pub fn start(&self, zero: Instant) {
        let now = Instant::now();
        let ahead = zero.saturating_duration_since(now).as_nanos() as i128;
        let past = now.saturating_duration_since(zero).as_nanos() as i128;
        self.zero.get_or_init(|| (zero, i128::from(wall()) + ahead - past));
    }

    /// The run's start in nanoseconds since 1970.
    pub fn wall_zero(&self) -> u64 {
        self.zero.get().map_or_else(wall, |(_, zero)| u64::try_from(*zero).unwrap_or(0))
    }

    fn zero(&self) -> Instant {
        self.zero.get().map_or_else(Instant::now, |(zero, _)| *zero)
    }

    /// Converts nanoseconds since 1970 to a time of the run; zero if before the start.
    pub fn of_wall(&self, nanos: i128) -> Time {
        let zero = self.zero.get().map_or_else(|| i128::from(wall()), |(_, zero)| *zero);
        Time(u64::try_from((nanos - zero).max(0)).unwrap_or(u64::MAX))
    }

    /// The current time; zero before the start.
    pub fn now(&self) -> Time {
        let since = Instant::now().saturating_duration_since(self.zero());
        Time(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    /// Converts a time of the run to an instant.
    pub fn instant(&self, at: Time) -> Instant {
        self.zero() + Duration::from_nanos(at.0)
    }
}

/// Converts a span to a duration.
pub const fn duration(span: Span) -> Duration {
    Duration::from_nanos(span.0)
}

/// The state of an object that a watch of the API server reported.
#[derive(Clone, Debug)]
pub enum WatchEvent {
    /// A Job was created or changed.
    Job {
        /// From the Job's label.
        id: InvestigationId,
        /// None while the Job is not finished.
        finished: Option<Finished>,
    },
    /// A Job was deleted.
    JobDeleted(InvestigationId),
    /// A pod was created or changed.
    Pod {
        /// From the pod's label.
        id: InvestigationId,
        /// Whether `spec.nodeName` is set.
        scheduled: bool,
        /// Whether its container is running or has terminated.
        has_run: bool,
    },
}

/// How a Job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// The condition `Complete`.
    Complete,
    /// The condition `Failed` with the reason `DeadlineExceeded`.
    DeadlineExceeded,
    /// The condition `Failed` with another reason.
    Failed,
}

/// A message to the engine.
#[derive(Debug)]
pub enum Observation {
    /// A fact for the log.
    Fact(Event),
    /// The intended instant of an alert has come.
    Due(Alert),
    /// The plan has no more alerts.
    AllCame,
    /// The creation of a Job succeeded or failed for good.
    JobAnswered {
        /// The Job's investigation.
        id: InvestigationId,
        /// When the response arrived.
        at: Time,
        /// Whether the Job exists.
        created: bool,
    },
    /// An event of a watch.
    Watch {
        /// The object's state.
        event: WatchEvent,
        /// When it arrived.
        at: Time,
    },
    /// The journal of a pod's agent was read to its end.
    JournalRead(InvestigationId),
    /// The journal of a pod's agent was not read in time.
    JournalMissing(InvestigationId),
    /// A remark for the report.
    Remark(String),
    /// An error of the harness that makes the run invalid.
    Invalid(String),
    /// The same, and the run ends at once.
    Abort(String),
    /// An alert that was turned away is sent again.
    Redeliver(InvestigationId),
    /// A timer that the controller set has expired.
    Wake,
    /// The controller's process crashes and loses its state.
    ControllerCrashes,
    /// The controller restarts and lists these Jobs; true if the Job is finished.
    ControllerStarts(Vec<(InvestigationId, bool)>),
    /// A fault, by its index in the plan, begins (true) or ends.
    Fault(usize, bool),
}

/// Sends messages to the engine; clones share the channel and the counts.
#[derive(Clone, Debug)]
pub struct Reporter {
    clock: Clock,
    engine: UnboundedSender<Observation>,
    /// Errors that were retried, by operation.
    retried: Arc<Mutex<BTreeMap<&'static str, Retried>>>,
    lags: Lags,
    depth: Arc<Depth>,
    /// When the provider last restarted a server of the control plane; `u64::MAX` for never.
    restarted: Arc<AtomicU64>,
}

/// The number of messages that wait for the engine.
#[derive(Debug, Default)]
struct Depth {
    now: AtomicUsize,
    is_reported: AtomicBool,
}

/// The receiver of a [`Reporter`]'s messages.
#[derive(Debug)]
pub struct Inbox {
    messages: UnboundedReceiver<Observation>,
    depth: Arc<Depth>,
}

impl Inbox {
    /// The next message; none when all reporters are gone. Cancel safe.
    pub async fn recv(&mut self) -> Option<Observation> {
        let message = self.messages.recv().await;
        self.taken(message.is_some());
        message
    }

    /// A message, if one waits.
    pub fn try_recv(&mut self) -> Option<Observation> {
        let message = self.messages.try_recv().ok();
        self.taken(message.is_some());
        message
    }

    /// Whether no message waits.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    fn taken(&self, is_taken: bool) {
        if is_taken {
            self.depth.now.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Messages that may wait for the engine. More of them make the run invalid: their times are right,
/// but the controller reacts too late.
const DEPTH_MAX: usize = 100_000;

/// Errors of one operation: their number, the first and the last.
#[derive(Debug, Default)]
struct Retried {
    count: u64,
    first: String,
    last: String,
}

impl Reporter {
    /// A reporter, and the receiver for the engine.
    pub fn new(clock: Clock) -> (Self, Inbox) {
        let (engine, messages) = unbounded_channel();
        let (lags, depth) = (Lags::default(), Arc::<Depth>::default());
        let inbox = Inbox { messages, depth: Arc::clone(&depth) };
        let restarted = Arc::new(AtomicU64::new(u64::MAX));
        (Self { clock, engine, retried: Arc::default(), lags, depth, restarted }, inbox)
    }

    /// The clock of the run.
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Now, on the run's clock.
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// Sends a message. After the run, when the receiver is dropped, messages are discarded.
    pub fn send(&self, observation: Observation) {
        match &observation {
            Observation::Invalid(why) | Observation::Abort(why) => {
                tracing::warn!(why, "the run is invalid");
            }
            Observation::Remark(text) => tracing::info!("{text}"),
            _ => {}
        }
        // Counted first, as the engine may receive it at once.
        let before = self.depth.now.fetch_add(1, Ordering::Relaxed);
        if self.engine.send(observation).is_ok()
            && before >= DEPTH_MAX
            && !self.depth.is_reported.swap(true, Ordering::Relaxed)
        {
            let why = format!(
                "the harness was the bottleneck: {DEPTH_MAX} messages waited for its engine"
            );
            self.send(Observation::Invalid(why));
        }
    }

    /// The delays of the harness.
    pub const fn lags(&self) -> &Lags {
        &self.lags
    }

    /// Records a delay of the harness.
    pub fn late(&self, lag: Lag, late: Duration) {
        self.lags.record(lag, Span(u64::try_from(late.as_nanos()).unwrap_or(u64::MAX)));
    }

    /// Records that the provider restarts a server that requests to the API server depend on.
    pub fn server_restarted(&self) {
        self.restarted.store(self.now().0, Ordering::Relaxed);
    }

    /// When it last did.
    pub fn restarted_at(&self) -> Option<Time> {
        Some(self.restarted.load(Ordering::Relaxed)).filter(|at| *at != u64::MAX).map(Time)
    }

    /// Logs and counts an error of something that is tried again.
    pub fn failed(&self, what: &'static str, error: &dyn std::fmt::Display) {
        let mut retried = self.retried.lock().unwrap_or_else(PoisonError::into_inner);
        let Retried { count, first, last } = retried.entry(what).or_default();
        *count += 1;
        // An outage fails thousands of requests: one warning is enough.
        match *count {
            1 => tracing::warn!(what, %error, "failed, and is tried again"),
            count => tracing::debug!(what, %error, count, "failed, and is tried again"),
        }
        *last = error.to_string();
        // It names the cause: the later ones may be of a server that starts again.
        if first.is_empty() {
            first.clone_from(last);
        }
    }

    /// A line for each kind of error that [`Self::failed`] counted.
    pub fn failures(&self) -> Vec<String> {
        let retried = self.retried.lock().unwrap_or_else(PoisonError::into_inner);
        let line = |(what, Retried { count, first, last }): (&&str, &Retried)| {
            let last =
                if first == last { String::new() } else { format!("; the last one: {last}") };
            format!(
                "{what} failed {count} times and was tried again; the first error: {first}{last}"
            )
        };
        retried.iter().map(line).collect()
    }

    /// Sends a fact of an investigation with the current time.
    pub fn fact(&self, id: InvestigationId, fact: Fact) {
        self.send(Observation::Fact(Event::of(self.now(), id, fact)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_harness_that_does_not_keep_up_makes_the_run_invalid_once() {
        let (reporter, mut inbox) = Reporter::new(Clock::default());
        let count = |inbox: &mut Inbox| {
            let messages = std::iter::from_fn(|| inbox.try_recv());
            messages.filter(|message| matches!(message, Observation::Invalid(_))).count()
        };
        (0..DEPTH_MAX).for_each(|_| reporter.send(Observation::Wake));
        assert_eq!(count(&mut inbox), 0);
        (0..DEPTH_MAX + 2).for_each(|_| reporter.send(Observation::Wake));
        assert_eq!(count(&mut inbox), 1);
    }

    #[test]
    fn errors_that_are_retried_are_counted_by_what_failed() {
        let (reporter, _inbox) = Reporter::new(Clock::default());
        for error in ["410 Gone", "connection reset"] {
            reporter.clone().failed("the watch of pods", &error);
        }
        reporter.failed("the watch of Jobs", &"410 Gone");
        let failures = reporter.failures();
        assert_eq!(failures.len(), 2);
        assert!(failures[1].starts_with("the watch of pods failed 2 times"), "{failures:?}");
        assert!(failures[1].contains("the first error: 410 Gone; the last one: connection reset"));
    }
}
