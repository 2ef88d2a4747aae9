//! A ladder queue: a priority queue for a simulation's clock, which never goes back.
//!
//! Events in the far future are kept unsorted in `top`. When their time comes near they are spread
//! over the buckets of a rung; a bucket with too many events gets a finer rung of its own; only the
//! few events of the next bucket are sorted, into `bottom`. Each event is moved a few times,
//! sequentially in memory, however many are pending; a binary heap of a million entries misses the
//! cache at every level. After Tang, Goh and Thng, "Ladder queue" (ACM TOMACS 15, 2005).

/// A bucket with at most this many events is sorted without a further rung.
const SORT_AT_ONCE: usize = 48;
/// The mean number of events in a bucket of a new rung.
const EVENTS_PER_BUCKET: usize = 12;
/// A longer `bottom` is spread into a rung again.
const BOTTOM_MAX: usize = 256;
/// The most buckets of a rung: more would not fit into the cache while they are filled.
const BUCKETS_MAX: usize = 1 << 15;

#[derive(Clone, Copy, Debug)]
struct Entry<T> {
    time: u64,
    seq: u64,
    item: T,
}

impl<T> Entry<T> {
    const fn key(&self) -> (u64, u64) {
        (self.time, self.seq)
    }
}

#[derive(Debug)]
struct Rung<T> {
    /// The time at which bucket 0 begins, in nanoseconds.
    start: u64,
    /// Buckets are 2^shift nanoseconds wide.
    shift: u32,
    /// Buckets before this one have been taken.
    next: usize,
    /// The number of buckets in use; the others are kept for reuse of their memory.
    used: usize,
    buckets: Vec<Vec<Entry<T>>>,
}

impl<T> Rung<T> {
    const fn next_start(&self) -> u64 {
        self.start.saturating_add((self.next as u64) << self.shift)
    }
}

/// Pops the earliest event first; events of the same instant in the order of pushing.
#[derive(Debug)]
pub struct LadderQueue<T> {
    /// The next events, sorted, the earliest last.
    bottom: Vec<Entry<T>>,
    /// From the coarsest to the finest rung.
    rungs: Vec<Rung<T>>,
    spare: Vec<Rung<T>>,
    /// Events at or after `top_start`, unsorted.
    top: Vec<Entry<T>>,
    top_start: u64,
    top_range: (u64, u64),
    seq: u64,
    len: usize,
}

impl<T> Default for LadderQueue<T> {
    fn default() -> Self {
        Self {
            bottom: Vec::new(),
            rungs: Vec::new(),
            spare: Vec::new(),
            top: Vec::new(),
            top_start: 0,
            top_range: (u64::MAX, 0),
            seq: 0,
            len: 0,
        }
    }
}

impl<T: Copy> LadderQueue<T> {
    /// The number of pending events.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether no event is pending.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an event. Its time must not be earlier than that of the last event popped.
    pub fn push(&mut self, time: u64, item: T) {
        let entry = Entry { time, seq: self.seq, item };
        self.seq += 1;
        self.len += 1;
        if time >= self.top_start {
            self.top_range = (self.top_range.0.min(time), self.top_range.1.max(time));
            self.top.push(entry);
            return;
        }
        for rung in &mut self.rungs {
            if time >= rung.next_start() {
                let bucket = ((time - rung.start) >> rung.shift) as usize;
                rung.buckets[bucket].push(entry);
                return;
            }
        }
        // Most events that belong into `bottom` are later than those in it.
        let place = self.bottom.partition_point(|other| other.time > time);
        self.bottom.insert(place, entry);
        if self.bottom.len() > BOTTOM_MAX {
            self.spread_bottom();
        }
    }

    /// Takes the earliest event, with its time.
    pub fn pop(&mut self) -> Option<(u64, T)> {
        if self.bottom.is_empty() && !self.refill() {
            return None;
        }
        let entry = self.bottom.pop()?;
        self.len -= 1;
        Some((entry.time, entry.item))
    }

    /// Sorts the next bucket into `bottom`; false if no event is left.
    fn refill(&mut self) -> bool {
        loop {
            let Some(rung) = self.rungs.last_mut() else {
                if self.top.is_empty() {
                    return false;
                }
                self.spread_top();
                continue;
            };
            let pending = rung.buckets[rung.next..rung.used].iter();
            match pending.clone().position(|bucket| !bucket.is_empty()) {
                None => {
                    if let Some(rung) = self.rungs.pop() {
                        self.spare.push(rung);
                    }
                }
                Some(skipped) => {
                    let index = rung.next + skipped;
                    let (start, shift) = (rung.start + ((index as u64) << rung.shift), rung.shift);
                    rung.next = index + 1;
                    let bucket = &mut rung.buckets[index];
                    if bucket.len() <= SORT_AT_ONCE || shift == 0 {
                        std::mem::swap(&mut self.bottom, bucket);
                        self.bottom.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.key()));
                        return true;
                    }
                    let mut events = std::mem::take(bucket);
                    self.spread(&mut events, start, 1_u64 << shift);
                    let back = self.rungs.len() - 2;
                    self.rungs[back].buckets[index] = events;
                }
            }
        }
    }

    /// Spreads `top` into the first rung.
    fn spread_top(&mut self) {
        let (low, high) = self.top_range;
        let mut events = std::mem::take(&mut self.top);
        let end = self.spread(&mut events, low, (high - low).saturating_add(1));
        self.top = events;
        self.top_start = end;
        self.top_range = (u64::MAX, 0);
    }

    /// Spreads a `bottom` that grew too long into the finest rung.
    fn spread_bottom(&mut self) {
        let (Some(last), Some(first)) = (self.bottom.first(), self.bottom.last()) else {
            return;
        };
        if first.time == last.time {
            return;
        }
        let start = first.time;
        let end = self.rungs.last().map_or(self.top_start, Rung::next_start);
        let mut events = std::mem::take(&mut self.bottom);
        self.spread(&mut events, start, end - start);
        self.bottom = events;
    }

    /// Moves events within [start, start + width) to a new finest rung; returns where the rung ends.
    fn spread(&mut self, events: &mut Vec<Entry<T>>, start: u64, width: u64) -> u64 {
        let wanted = (events.len() / EVENTS_PER_BUCKET).clamp(2, BUCKETS_MAX) as u64;
        let bucket_width = (width / wanted).max(1).next_power_of_two();
        let shift = bucket_width.trailing_zeros();
        let used = ((width - 1) >> shift) as usize + 1;
        let spare = self.spare.pop();
        let mut buckets = spare.map_or_else(Vec::new, |rung| rung.buckets);
        if buckets.len() < used {
            buckets.resize_with(used, Vec::new);
        }
        for entry in events.drain(..) {
            buckets[((entry.time - start) >> shift) as usize].push(entry);
        }
        self.rungs.push(Rung { start, shift, next: 0, used, buckets });
        start.saturating_add((used as u64) << shift)
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use alertstorm_model::seed::{Purpose, Stream};

    use super::*;

    /// Delays of every kind that occurs in a simulation: none, short, long, and many equal ones.
    fn delay(stream: &mut Stream) -> u64 {
        match stream.below(5) {
            0 => 0,
            1 => stream.below(1_000),
            2 => 1_000_000,
            3 => (stream.exponential() * 1e9) as u64,
            _ => stream.below(3_600_000_000_000),
        }
    }

    #[test]
    fn the_ladder_pops_events_in_the_same_order_as_a_binary_heap() {
        let mut stream = Stream::new(3, Purpose::Backoff, 0);
        let mut ladder = LadderQueue::default();
        let mut heap = BinaryHeap::new();
        let mut now = 0;
        for n in 0_u64..200_000 {
            let grow = n < 100_000;
            if grow || heap.is_empty() || stream.chance(0.3) {
                let at = now + delay(&mut stream);
                ladder.push(at, n);
                heap.push(Reverse((at, n)));
            }
            if !grow || stream.chance(0.4) {
                let expected = heap.pop().map(|Reverse((at, n))| (at, n));
                assert_eq!(ladder.pop(), expected);
                now = expected.map_or(now, |(at, _)| at);
            }
            assert_eq!(ladder.len(), heap.len());
        }
        while let Some(Reverse((at, n))) = heap.pop() {
            assert_eq!(ladder.pop(), Some((at, n)));
        }
        assert!(ladder.pop().is_none() && ladder.is_empty());
    }

    #[test]
    fn events_of_the_same_instant_pop_in_the_order_of_pushing() {
        let mut ladder = LadderQueue::default();
        for n in 0..10_000 {
            ladder.push(5, n);
        }
        assert!((0..10_000).all(|n| ladder.pop() == Some((5, n))));
    }
}
