//! Delays that the harness itself caused, and from when on they make a run invalid.

use std::sync::{Arc, Mutex, PoisonError};

use alertstorm_model::event::WaitSummary;
use alertstorm_model::time::Span;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// A delay of the harness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lag {
    /// From an alert's intended instant to its delivery.
    Send,
    /// From the response to a Job's creation to the watch event that shows the Job. The API
    /// server's delay is part of it.
    Watch,
    /// From the response to an update of the probe to its watch event (see [`crate::probe`]).
    Probe,
    /// From the arrival of a watch event in the harness to its handling.
    Reading,
    /// From the instant at which a hollow node's Lease is to be renewed to the request.
    Heartbeat,
    /// From a timer's instant to the run of its task.
    Runtime,
}

impl Lag {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Send, Self::Watch, Self::Probe, Self::Reading, Self::Heartbeat, Self::Runtime];

    const fn name(self) -> &'static str {
        match self {
            Self::Send => "harness: send lag",
            Self::Watch => "harness: watch lag",
            Self::Probe => "API server: lag of a probe's watch",
            Self::Reading => "harness: its own part of the watch lag",
            Self::Heartbeat => "harness: heartbeat lag",
            Self::Runtime => "harness: timer lag",
        }
    }

    /// Why the run is invalid, if this delay is too long.
    fn doubt(self, of: &Histogram<u64>) -> Option<String> {
        let p99 = Span(of.value_at_quantile(0.99));
        let max = Span(of.max());
        match self {
            Self::Send if p99 > Span::millis(250) => Some(format!(
                "the harness was the bottleneck: alerts reached the controller {p99} late (p99)"
            )),
            Self::Reading if p99 > Span::secs(1) => Some(format!(
                "the harness was the bottleneck: it read its watches {p99} late (p99), so every \
                 stage that a watch reports is late by as much"
            )),
            Self::Runtime if p99 > Span::secs(1) => Some(format!(
                "the harness was the bottleneck: its timers ran {p99} late (p99), so every \
                 latency is too long by as much"
            )),
            // A quarter of nodeLeaseDurationSeconds: one renewal was left out.
            Self::Heartbeat if max > Span::secs(10) => Some(format!(
                "the harness was the bottleneck: it renewed a node's Lease {max} late, and the \
                 control plane may have taken the node for lost"
            )),
            // The API server's delay is part of the watch lag, and all of the probe's.
            _ => None,
        }
    }
}

/// The counts of a histogram by value.
pub fn counts(of: &Histogram<u64>) -> Vec<(u64, u64)> {
    of.iter_recorded().map(|at| (at.value_iterated_to(), at.count_at_value())).collect()
}

/// The delays of a run in nanoseconds; clones share the histograms.
#[derive(Clone, Debug)]
pub struct Lags(Arc<Mutex<[Histogram<u64>; Lag::ALL.len()]>>);

impl Default for Lags {
    fn default() -> Self {
        let histogram = |_| Histogram::new(3).expect("three digits are allowed");
        Self(Arc::new(Mutex::new(Lag::ALL.map(histogram))))
    }
}

impl Lags {
    fn with<T>(&self, lag: Lag, of: impl FnOnce(&mut Histogram<u64>) -> T) -> T {
        of(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner)[lag as usize])
    }

    /// Records a delay.
    pub fn record(&self, lag: Lag, late: Span) {
        // The histogram resizes itself, so any value can be recorded.
        let _ = self.with(lag, |of| of.record(late.0));
    }

    /// Adds all delays of another histogram.
    pub fn add(&self, lag: Lag, other: &Histogram<u64>) {
        let _ = self.with(lag, |of| of.add(other));
    }

    /// The counts by value, from which [`Self::add_counts`] makes the same histogram again.
    pub fn counts(&self, lag: Lag) -> Vec<(u64, u64)> {
        self.with(lag, |of| counts(of))
    }

    /// Adds counts by value.
    pub fn add_counts(&self, lag: Lag, counts: &[(u64, u64)]) {
        self.with(lag, |of| {
            for (value, count) in counts {
                let _ = of.record_n(*value, *count);
            }
        });
    }

    /// A summary for the report.
    pub fn summary(&self, lag: Lag) -> WaitSummary {
        self.with(lag, |of| WaitSummary {
            what: lag.name().to_owned(),
            count: of.len(),
            p50_ns: of.value_at_quantile(0.5),
            p99_ns: of.value_at_quantile(0.99),
            max_ns: of.max(),
        })
    }

    /// Why the run is invalid: a line for each delay that is too long.
    pub fn doubts(&self) -> Vec<String> {
        Lag::ALL.iter().filter_map(|&lag| self.with(lag, |of| lag.doubt(of))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_delay_of_the_harness_beyond_its_bound_invalidates_the_run_by_name() {
        let bounds = [
            (Lag::Send, Span::millis(250), "alerts"),
            (Lag::Reading, Span::secs(1), "watches"),
            (Lag::Runtime, Span::secs(1), "timers"),
            (Lag::Heartbeat, Span::secs(10), "Lease"),
        ];
        for (lag, bound, word) in bounds {
            let lags = Lags::default();
            lags.record(lag, bound * 9 / 10);
            assert!(lags.doubts().is_empty(), "{lag:?}");
            lags.record(lag, bound * 2);
            let doubts = lags.doubts();
            assert_eq!(doubts.len(), 1, "{lag:?}");
            assert!(doubts[0].contains(word), "{doubts:?}");
        }
        let lags = Lags::default();
        // The server's share of it is unknown.
        lags.record(Lag::Watch, Span::secs(60));
        assert!(lags.doubts().is_empty());
    }

    #[test]
    fn histograms_merge_without_loss() {
        let (whole, merged) = (Lags::default(), Lags::default());
        let parts = [Lags::default(), Lags::default()];
        for n in 0..5_000_u64 {
            let value = Span(n * n * 37 + 1);
            whole.record(Lag::Send, value);
            parts[(n % 2) as usize].record(Lag::Send, value);
        }
        for part in &parts {
            merged.add_counts(Lag::Send, &part.counts(Lag::Send));
        }
        let (whole, merged) = (whole.summary(Lag::Send), merged.summary(Lag::Send));
        assert_eq!(
            (whole.count, whole.p50_ns, whole.p99_ns),
            (merged.count, merged.p50_ns, merged.p99_ns)
        );
    }
}
