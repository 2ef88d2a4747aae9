//! The engine: a virtual clock and the events to come.

mod ladder;

pub use ladder::LadderQueue;

use alertstorm_model::time::{Span, Time};

/// Events in the order of their instants; those of one instant in the order of scheduling.
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
    /// The instant of the event that is being handled.
    pub const fn now(&self) -> Time {
        self.now
    }

    /// Events handled so far.
    pub const fn done(&self) -> u64 {
        self.done
    }

    /// Schedules an event; an instant that has passed means now.
    pub fn at(&mut self, at: Time, event: T) {
        self.queue.push(at.max(self.now).0, event);
    }

    /// Schedules an event so long from now.
    pub fn after(&mut self, span: Span, event: T) {
        self.queue.push((self.now + span).0, event);
    }

    /// Takes the next event and sets the clock to it.
    pub fn pop(&mut self) -> Option<T> {
        let (at, event) = self.queue.pop()?;
        self.now = Time(at);
        self.done += 1;
        Some(event)
    }
}
