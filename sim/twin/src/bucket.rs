//! The token bucket of a client, after client-go's flowcontrol: a call that finds no token reserves
//! the next one and waits for it.

use alertstorm_model::event::Bucket as Counters;
use alertstorm_model::time::{Span, Time};

/// Tokens are granted in the order of the calls, so the state is one instant: when the bucket is
/// full again (the "virtual scheduling" form of the leaky bucket, ITU-T I.371).
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    interval: Span,
    burst: u64,
    full_at: Time,
    calls: u64,
    wait: u64,
    wait_max: u64,
    empty: u64,
    empty_until: Time,
}

impl Bucket {
    pub fn new(qps: f64, burst: u32) -> Self {
        Self {
            interval: Span::from_secs_f64(1.0 / qps),
            burst: u64::from(burst),
            full_at: Time::ZERO,
            calls: 0,
            wait: 0,
            wait_max: 0,
            empty: 0,
            empty_until: Time::ZERO,
        }
    }

    /// Reserves a token; returns when it can be used.
    pub fn take(&mut self, now: Time) -> Time {
        self.full_at = self.full_at.max(now) + self.interval;
        let granted = Time(self.full_at.0.saturating_sub(self.interval.0 * self.burst)).max(now);
        let wait = granted.since(now).0;
        self.calls += 1;
        self.wait += wait;
        self.wait_max = self.wait_max.max(wait);
        self.empty += granted.since(now.max(self.empty_until)).0;
        self.empty_until = self.empty_until.max(granted);
        granted
    }

    /// Adds to the counters of a client, which may have many buckets.
    pub fn add_to(&self, counters: &mut Counters) {
        counters.calls += self.calls;
        counters.wait_ns += self.wait;
        counters.wait_max_ns = counters.wait_max_ns.max(self.wait_max);
        counters.empty_ns += self.empty;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_at_once_and_the_rest_at_the_configured_rate() {
        let mut bucket = Bucket::new(20.0, 30);
        let granted: Vec<f64> = (0..50).map(|_| bucket.take(Time::ZERO).as_secs_f64()).collect();
        assert_eq!(granted[29], 0.0);
        assert!((granted[30] - 0.05).abs() < 1e-9);
        assert!((granted[49] - 1.0).abs() < 1e-9);
        let later = Time::ZERO + Span::secs(10);
        assert_eq!(bucket.take(later), later, "the bucket fills up again");
    }
}
