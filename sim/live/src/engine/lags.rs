//! How late the harness itself was.

use alertstorm_model::time::Span;
use hdrhistogram::Histogram;

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

pub(super) fn record(lags: &mut Histogram<u64>, lag: Span) {
    // It grows as it must: up to 584 years there is room.
    let _ = lags.record(lag.0);
}
