//! A client's token bucket, like client-go's `flowcontrol.NewTokenBucketRateLimiter`.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

/// A token bucket: one token per request.
#[derive(Debug)]
pub struct Throttle {
    interval: Duration,
    burst: u32,
    /// When the bucket is full again if no more tokens are taken.
    full_at: Mutex<Instant>,
}

impl Throttle {
    /// A full bucket of `burst` tokens, refilled at `calls_per_s`.
    pub fn new(calls_per_s: f64, burst: u32) -> Self {
        let interval = Duration::from_secs_f64(1.0 / calls_per_s.max(1e-6));
        Self { interval, burst, full_at: Mutex::new(Instant::now()) }
    }

    /// Takes a token, and waits for it if the bucket is empty. Callers are served in order.
    pub async fn take(&self) {
        let mut full_at = self.full_at.lock().await;
        let now = Instant::now();
        let next = (*full_at).max(now) + self.interval;
        *full_at = next;
        let room = self.interval * self.burst;
        if let Some(wait) = next.checked_duration_since(now + room) {
            tokio::time::sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_at_once_and_the_rest_at_the_rate() {
        let bucket = Throttle::new(10.0, 3);
        let began = Instant::now();
        for _ in 0..8 {
            bucket.take().await;
        }
        assert_eq!(began.elapsed().as_millis().div_ceil(10), 50);
    }
}
