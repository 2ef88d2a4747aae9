//! API Priority and Fairness: levels with seats, queues dealt by shuffle sharding, and borrowing.
//! Facts from k8s.io/apiserver v0.36.3: pkg/util/flowcontrol/apf_controller.go (borrowing),
//! fairqueuing/queueset (dispatching).

use std::collections::VecDeque;

use alertstorm_model::time::{Span, Time};

use super::flow::Level;
use crate::streams;

/// The longest wait for a seat: a quarter of kube-apiserver's request timeout of 60 s.
const WAIT_MAX: Span = Span::secs(15);
/// `seatDemandSmoothingCoefficient`.
const SMOOTHING: f64 = 0.977;

/// `queueLengthLimit` of every suggested level.
const QUEUE_LENGTH_LIMIT: usize = 50;

/// The outcome of a request's arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    Runs,
    Waits,
    Rejected,
}

/// The outcome of a request's wait in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Runs(u32),
    TimedOut(u32),
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<(Time, u32)>,
    /// The number of requests dispatched from here; the queue with the lowest is next.
    virtual_time: u64,
}

#[derive(Debug)]
struct State {
    nominal: f64,
    min: f64,
    max: f64,
    seats: u32,
    queues: Vec<Queue>,
    hand: usize,
    executing: u32,
    waiting: u32,
    virtual_now: u64,
    demand: Demand,
}

/// The demand for seats since the last adjustment.
#[derive(Debug, Default)]
struct Demand {
    since: Time,
    last: Time,
    high: f64,
    sum: f64,
    sum_of_squares: f64,
    smoothed: f64,
}

impl Demand {
    fn record(&mut self, now: Time, wanted: u32) {
        let (span, wanted) = (now.since(self.last).as_secs_f64(), f64::from(wanted));
        self.sum += wanted * span;
        self.sum_of_squares += wanted * wanted * span;
        self.last = now;
    }

    /// Ends the period. Returns average plus deviation, smoothed as upstream does, and the maximum.
    fn take(&mut self, now: Time, wanted: u32) -> (f64, f64) {
        self.record(now, wanted);
        let span = now.since(self.since).as_secs_f64().max(1e-9);
        let mean = self.sum / span;
        let variance = (self.sum_of_squares / span - mean * mean).max(0.0);
        let envelope = mean + variance.sqrt();
        let smoothed = SMOOTHING * self.smoothed + (1.0 - SMOOTHING) * envelope;
        self.smoothed = envelope.max(smoothed);
        let high = self.high;
        *self = Self {
            since: now,
            last: now,
            high: f64::from(wanted),
            smoothed: self.smoothed,
            ..Self::default()
        };
        (self.smoothed, high)
    }
}

#[derive(Debug)]
pub(crate) struct PriorityAndFairness {
    total: f64,
    levels: Vec<State>,
    seed: u64,
}

impl PriorityAndFairness {
    pub fn new(seats: u32, seed: u64) -> Self {
        let shares: u32 = Level::ALL.iter().map(|level| level.suggested().shares).sum();
        let state = |level: &Level| {
            let suggested = level.suggested();
            let nominal =
                (f64::from(seats) * f64::from(suggested.shares) / f64::from(shares)).ceil();
            let min = nominal - (nominal * suggested.lendable).round();
            State {
                nominal,
                min,
                max: f64::from(seats),
                seats: nominal as u32,
                queues: (0..suggested.queues.max(1)).map(|_| Queue::default()).collect(),
                hand: suggested.hand_size,
                executing: 0,
                waiting: 0,
                virtual_now: 0,
                demand: Demand::default(),
            }
        };
        let levels: Vec<State> = Level::ALL.iter().map(state).collect();
        let total = levels.iter().map(|level| level.nominal).sum();
        Self { total, levels, seed }
    }

    pub fn arrive(&mut self, now: Time, level: Level, flow: u64, id: u32) -> Arrival {
        let seed = self.seed;
        let state = &mut self.levels[level.index()];
        let wanted = state.executing + state.waiting;
        state.demand.record(now, wanted);
        state.demand.high = state.demand.high.max(f64::from(wanted + 1));
        if level == Level::Exempt || (state.waiting == 0 && state.executing < state.seats) {
            state.executing += 1;
            return Arrival::Runs;
        }
        if state.hand == 0 {
            return Arrival::Rejected;
        }
        let queue = shortest_of_hand(seed, flow, state);
        let queue = &mut state.queues[queue];
        if queue.waiting.len() >= QUEUE_LENGTH_LIMIT {
            return Arrival::Rejected;
        }
        if queue.waiting.is_empty() {
            queue.virtual_time = queue.virtual_time.max(state.virtual_now);
        }
        queue.waiting.push_back((now, id));
        state.waiting += 1;
        Arrival::Waits
    }

    /// A request gives back its seat.
    pub fn finish(&mut self, now: Time, level: Level) {
        let state = &mut self.levels[level.index()];
        state.demand.record(now, state.executing + state.waiting);
        state.executing = state.executing.saturating_sub(1);
    }

    /// Takes the next waiting request of a level if the level has an idle seat.
    pub fn next(&mut self, now: Time, level: Level) -> Option<Next> {
        let state = &mut self.levels[level.index()];
        if state.waiting == 0 || state.executing >= state.seats {
            return None;
        }
        state.demand.record(now, state.executing + state.waiting);
        let busy = state.queues.iter_mut().filter(|queue| !queue.waiting.is_empty());
        let queue = busy.min_by_key(|queue| queue.virtual_time)?;
        let (since, id) = queue.waiting.pop_front()?;
        state.waiting -= 1;
        if now.since(since) > WAIT_MAX {
            return Some(Next::TimedOut(id));
        }
        queue.virtual_time += 1;
        state.virtual_now = queue.virtual_time;
        state.executing += 1;
        Some(Next::Runs(id))
    }

    /// The server crashed; returns the requests that waited.
    pub fn reset(&mut self) -> Vec<u32> {
        let mut lost = Vec::new();
        for state in &mut self.levels {
            lost.extend(
                state.queues.iter_mut().flat_map(|l| l.waiting.drain(..)).map(|(_, id)| id),
            );
            (state.executing, state.waiting) = (0, 0);
        }
        lost
    }

    /// Moves seats to the levels with demand: each level gets its target times one common fraction,
    /// within its bounds.
    pub fn adjust(&mut self, now: Time) {
        let mut left = self.total;
        let mut bounds = Vec::with_capacity(self.levels.len());
        for (state, level) in self.levels.iter_mut().zip(Level::ALL) {
            let (smoothed, high) = state.demand.take(now, state.executing + state.waiting);
            if *level == Level::Exempt {
                left -= high.max(state.min);
                bounds.push((0.0, 0.0, 0.0));
                continue;
            }
            let low = state.min.max(state.nominal.min(high));
            bounds.push((low, smoothed.max(low).max(0.001), state.max));
        }
        let given = |fraction: f64| {
            let of = |(low, target, high): &(f64, f64, f64)| (target * fraction).clamp(*low, *high);
            bounds.iter().filter(|bound| bound.2 > 0.0).map(of).sum::<f64>()
        };
        let (mut low, mut high) = (0.0, 1e6);
        for _ in 0..64 {
            let middle = f64::midpoint(low, high);
            if given(middle) > left { high = middle } else { low = middle }
        }
        for (state, bound) in self.levels.iter_mut().zip(&bounds) {
            if bound.2 > 0.0 {
                state.seats = (bound.1 * low).clamp(bound.0, bound.2).round().max(1.0) as u32;
            }
        }
    }

    #[cfg(test)]
    pub fn seats(&self, level: Level) -> u32 {
        self.levels[level.index()].seats
    }
}

/// The shortest of the queues that shuffle sharding deals the flow.
fn shortest_of_hand(seed: u64, flow: u64, state: &State) -> usize {
    let mut stream = streams::hand(seed, flow);
    let queues = state.queues.len();
    let dealt = (0..state.hand).map(|_| stream.below(queues as u64) as usize);
    dealt.min_by_key(|queue| state.queues[*queue].waiting.len()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nominal_seats_follow_the_suggested_shares() {
        let apf = PriorityAndFairness::new(600, 1);
        assert_eq!(apf.seats(Level::WorkloadLow), 245);
        assert_eq!(apf.seats(Level::WorkloadHigh), 98);
        assert_eq!(apf.seats(Level::CatchAll), 13);
    }

    #[test]
    fn a_busy_level_borrows_seats_from_idle_levels() {
        let mut apf = PriorityAndFairness::new(600, 1);
        for id in 0..400 {
            apf.arrive(Time::ZERO, Level::WorkloadHigh, u64::from(id % 7), id);
        }
        apf.adjust(Time::ZERO + Span::secs(10));
        assert!(apf.seats(Level::WorkloadHigh) > 150, "{}", apf.seats(Level::WorkloadHigh));
        assert!(apf.seats(Level::LeaderElection) >= 25, "its seats are not lendable");
    }

    #[test]
    fn one_flow_cannot_starve_another_of_its_level() {
        let mut apf = PriorityAndFairness::new(60, 1);
        let mut id = 0;
        while apf.arrive(Time::ZERO, Level::WorkloadLow, 1, id) != Arrival::Rejected {
            id += 1;
        }
        assert_eq!(apf.arrive(Time::ZERO, Level::WorkloadLow, 2, 9_999), Arrival::Waits);
        let mut place = 0;
        loop {
            apf.finish(Time::ZERO, Level::WorkloadLow);
            place += 1;
            if apf.next(Time::ZERO, Level::WorkloadLow) == Some(Next::Runs(9_999)) {
                break;
            }
        }
        assert!(
            place <= 8,
            "the lone request was dispatched {place}th, behind a hand of full queues"
        );
    }
}
