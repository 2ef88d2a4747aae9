//! The engine: a virtual clock and the queue of future events.

mod ladder;

pub use ladder::LadderQueue;

use alertstorm_model::time::{Span, Time};

/// Events ordered by time; those of the same instant in the order of scheduling.
#[derive(Debug)]
pub struct Engine<T> {
    now: Time,
    queue: LadderQueue<T>,
    done: u64,
}

impl<T: Copy> Default for Engine<T> {
    fn default() -> Self {
        Self { now: Time::ZERO, queue: LadderQueue::default(), done: 0 }
    }
}

impl<T: Copy> Engine<T> {
    /// The time of the current event.
    pub const fn now(&self) -> Time {
        self.now
    }

    /// The number of events handled so far.
    pub const fn done(&self) -> u64 {
        self.done
    }

    /// Schedules an event; a time in the past is clamped to now.
    pub fn at(&mut self, at: Time, event: T) {
        self.queue.push(at.max(self.now).0, event);
    }

    /// Schedules an event `span` from now.
    pub fn after(&mut self, span: Span, event: T) {
        self.queue.push((self.now + span).0, event);
    }

    /// Takes the next event and advances the clock to its time.
    pub fn pop(&mut self) -> Option<T> {
        let (at, event) = self.queue.pop()?;
        self.now = Time(at);
        self.done += 1;
        Some(event)
    }
}
