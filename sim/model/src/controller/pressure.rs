//! Back pressure with hysteresis: it begins when the queue is full and ends at the low-water mark,
//! so that a queue at its limit does not flap between the two.

use super::message::Command;
use super::queue::Queue;
use crate::alert::Alert;
use crate::scenario::knobs::Queue as Knobs;
use crate::time::{Span, Time};

/// Shortest and longest time that a sender is told to stay away.
const RETRY_AFTER: (Span, Span) = (Span::secs(1), Span::secs(600));
/// How much of the estimate of a new interval goes into the mean of intervals.
const SMOOTHING: f64 = 0.1;

#[derive(Debug)]
pub(super) struct Pressure {
    limit: usize,
    low_water: usize,
    shedding: bool,
    last_admission: Option<Time>,
    /// Mean time between admissions, in seconds.
    interval: f64,
}

impl Pressure {
    pub fn new(knobs: &Knobs) -> Self {
        let limit = knobs.limit.get() as usize;
        let low_water = (limit as f64 * knobs.low_water.0) as usize;
        let low_water = low_water.min(limit - 1);
        Self { limit, low_water, shedding: false, last_admission: None, interval: 1.0 }
    }

    /// The queue's depth changed, or an alert found it full.
    pub fn depth(&mut self, depth: usize, full: bool, commands: &mut Vec<Command>) {
        let shedding = full || depth >= self.limit || (self.shedding && depth > self.low_water);
        if shedding != self.shedding {
            self.shedding = shedding;
            commands.push(Command::Pressure(shedding));
        }
    }

    pub fn admitted(&mut self, now: Time) {
        if let Some(last) = self.last_admission {
            let interval = now.since(last).as_secs_f64();
            self.interval += SMOOTHING * (interval - self.interval);
        }
        self.last_admission = Some(now);
    }

    /// While it sheds, an alert is let in only before something less urgent that waits.
    pub fn refuses(&self, alert: &Alert, queue: &Queue) -> bool {
        self.shedding && !queue.holds_below(alert.severity)
    }

    /// When the queue will be down to the low-water mark at the present pace.
    pub fn retry_after(&self, depth: usize) -> Span {
        let excess = depth.saturating_sub(self.low_water).max(1) as f64;
        Span::from_secs_f64(excess * self.interval).clamp(RETRY_AFTER.0, RETRY_AFTER.1)
    }
}
