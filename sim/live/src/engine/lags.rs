//! Delays that the harness itself caused.

use alertstorm_model::time::Span;
use hdrhistogram::Histogram;

/// The run is invalid if alerts reach the controller later than this (p99).
const SEND_LAG_MAX: Span = Span::millis(250);

/// Delays that the harness itself caused, in nanoseconds.
#[derive(Debug)]
pub struct Lags {
    /// From an alert's intended instant to its delivery.
    pub send: Histogram<u64>,
    /// From the response to a Job's creation to the watch event that shows the Job.
    pub watch: Histogram<u64>,
}

impl Default for Lags {
    fn default() -> Self {
        let histogram = || Histogram::new(3).expect("three digits are allowed");
        Self { send: histogram(), watch: histogram() }
    }
}

impl Lags {
    /// Why the run is invalid, if the delays are too long.
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
    // The histogram resizes itself, so any value can be recorded.
    let _ = lags.record(lag.0);
}
