//! How late the harness itself was.

use alertstorm_model::time::Span;
use hdrhistogram::Histogram;

/// Where the controller hears of an alert later than this, the harness was the bottleneck.
const SEND_LAG_MAX: Span = Span::millis(250);

/// How late the harness was.
#[derive(Debug)]
pub struct Lags {
    /// From an alert's intended instant to its delivery.
    pub send: Histogram<u64>,
    /// From the answer to a creation to the watch event that shows it.
    pub watch: Histogram<u64>,
}

impl Default for Lags {
    fn default() -> Self {
        let histogram = || Histogram::new(3).expect("three digits are allowed");
        Self { send: histogram(), watch: histogram() }
    }
}

impl Lags {
    /// Why the run's figures cannot be trusted, where they cannot.
    pub fn doubts(&self) -> Option<String> {
        let lag = Span(self.send.value_at_quantile(0.99));
        (lag > SEND_LAG_MAX).then(|| {
            format!(
                "the harness was the bottleneck: alerts reached the controller {lag} late (p99)"
            )
        })
    }
}

pub(super) fn record(lags: &mut Histogram<u64>, lag: Span) {
    // It grows as it must: up to 584 years there is room.
    let _ = lags.record(lag.0);
}
