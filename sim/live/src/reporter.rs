//! What tasks tell the engine: facts with the instant at which they were seen, and observations
//! that the controller must hear of. Everyone shares one monotonic clock.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use alertstorm_model::alert::Alert;
use alertstorm_model::event::{Event, Fact};
use alertstorm_model::investigation::InvestigationId;
use alertstorm_model::time::{Span, Time};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Duration, Instant};

/// The run's clock: its zero is the run's start, which is set when all is ready.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    zero: Arc<OnceLock<(Instant, i128)>>,
}

/// Nanoseconds since 1970, by this machine's clock.
fn wall() -> i128 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    i128::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(i128::MAX)
}

impl Clock {
    /// The run starts, or has started, at an instant; the first word counts.
    pub fn start(&self, zero: Instant) {
        let now = Instant::now();
        let ahead = zero.saturating_duration_since(now).as_nanos() as i128;
        let past = now.saturating_duration_since(zero).as_nanos() as i128;
        self.zero.get_or_init(|| (zero, wall() + ahead - past));
    }

    /// The run's start in nanoseconds since 1970.
    pub fn wall_zero(&self) -> u64 {
        u64::try_from(self.zero.get().map_or_else(wall, |(_, wall)| *wall)).unwrap_or(0)
    }

    fn zero(&self) -> Instant {
        self.zero.get().map_or_else(Instant::now, |(zero, _)| *zero)
    }

    /// The time of an instant that is told in nanoseconds since 1970; zero before the start.
    pub fn of_wall(&self, nanos: i128) -> Time {
        let zero = self.zero.get().map_or_else(wall, |(_, wall)| *wall);
        Time(u64::try_from((nanos - zero).max(0)).unwrap_or(u64::MAX))
    }

    /// Now; zero before the start.
    pub fn now(&self) -> Time {
        let since = Instant::now().saturating_duration_since(self.zero());
        Time(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    /// The instant of a time of the run.
    pub fn instant(&self, at: Time) -> Instant {
        self.zero() + Duration::from_nanos(at.0)
    }
}

/// A span as the runtime's duration.
pub const fn duration(span: Span) -> Duration {
    Duration::from_nanos(span.0)
}

/// What a watch showed.
#[derive(Clone, Debug)]
pub enum Seen {
    /// A Job, as it is.
    Job {
        /// Whose.
        id: InvestigationId,
        /// Whether it is finished, and why where it failed.
        finished: Option<Finished>,
    },
    /// A Job is gone.
    JobGone(InvestigationId),
    /// A pod, as it is.
    Pod {
        /// Whose.
        id: InvestigationId,
        /// Whether it has a node.
        scheduled: bool,
        /// Whether its container has run.
        has_run: bool,
    },
}

/// How a Job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// Complete.
    Complete,
    /// Failed at its deadline.
    DeadlineExceeded,
    /// Failed otherwise.
    Failed,
}

/// A message to the engine.
#[derive(Debug)]
pub enum Note {
    /// A fact for the log.
    Fact(Event),
    /// An alert is due.
    Due(Alert),
    /// Every alert has come.
    AllCame,
    /// The API server has the Job, or does not.
    JobAnswered {
        /// Whose.
        id: InvestigationId,
        /// When.
        at: Time,
        /// Whether it is there.
        created: bool,
    },
    /// A watch showed something.
    Seen {
        /// What.
        what: Seen,
        /// When.
        at: Time,
    },
    /// A pod has told all that it will.
    ToldAll(InvestigationId),
    /// A pod has not told all in time.
    Untold(InvestigationId),
    /// A server died and was started again, or was found changed.
    Remark(String),
    /// A task failed in a way that makes the run's figures doubtful.
    Invalid(String),
    /// An alert that was turned away comes again.
    Redeliver(InvestigationId),
    /// The controller asked to be woken.
    Wake,
    /// The controller's process dies, and with it all that it knew.
    ControllerCrashes,
    /// It starts again; these Jobs are there, finished or not.
    ControllerStarts(Vec<(InvestigationId, bool)>),
    /// A fault's beginning (true) or end.
    Fault(usize, bool),
}

/// Tells the engine.
#[derive(Clone, Debug)]
pub struct Reporter {
    clock: Clock,
    notes: UnboundedSender<Note>,
    /// Errors that were followed by another attempt, by what failed: their number, and the last one.
    retried: Arc<Mutex<BTreeMap<&'static str, (u64, String)>>>,
}

impl Reporter {
    /// A reporter, and the engine's end.
    pub fn new(clock: Clock) -> (Self, UnboundedReceiver<Note>) {
        let (notes, inbox) = unbounded_channel();
        (Self { clock, notes, retried: Arc::default() }, inbox)
    }

    /// The run's clock.
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Now, on the run's clock.
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// Sends a note. Nobody listens any more once the run is over.
    pub fn note(&self, note: Note) {
        let _ = self.notes.send(note);
    }

    /// Logs and counts an error of something that is tried again.
    pub fn failed(&self, what: &'static str, error: &dyn std::fmt::Display) {
        tracing::warn!(what, %error, "failed, and is tried again");
        let mut retried = self.retried.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, last) = retried.entry(what).or_default();
        *count += 1;
        *last = error.to_string();
    }

    /// A line for each kind of error that [`Self::failed`] counted.
    pub fn failures(&self) -> Vec<String> {
        let retried = self.retried.lock().unwrap_or_else(PoisonError::into_inner);
        let line = |(what, (count, last)): (&&str, &(u64, String))| {
            format!("{what} failed {count} times and was tried again; the last error: {last}")
        };
        retried.iter().map(line).collect()
    }

    /// A fact of an investigation, now.
    pub fn fact(&self, id: InvestigationId, fact: Fact) {
        self.note(Note::Fact(Event::of(self.now(), id, fact)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(failures[1].ends_with("connection reset"), "{failures:?}");
    }
}
