//! Distributions of waits, reported in the last sample of a run.

use alertstorm_model::event::WaitSummary;
use alertstorm_model::time::Span;
use hdrhistogram::Histogram;

#[derive(Debug)]
pub(crate) struct Meter {
    /// Waits of zero, by far the most frequent, are only counted.
    zero: u64,
    /// In microseconds.
    nonzero: Histogram<u64>,
    max_ns: u64,
}

/// 37 days, in microseconds.
const RECORDED_MAX: u64 = 3_200_000_000_000;

impl Default for Meter {
    fn default() -> Self {
        let nonzero = Histogram::new_with_bounds(1, RECORDED_MAX, 2);
        let nonzero = nonzero.unwrap_or_else(|_| unreachable!("the bounds are valid"));
        Self { zero: 0, nonzero, max_ns: 0 }
    }
}

impl Meter {
    pub fn record(&mut self, wait: Span) {
        if wait.0 == 0 {
            self.zero += 1;
        } else {
            self.nonzero.saturating_record(wait.0 / 1_000);
            self.max_ns = self.max_ns.max(wait.0);
        }
    }

    pub fn summary(&self, what: &str) -> WaitSummary {
        let count = self.zero + self.nonzero.len();
        let at = |q: f64| {
            let rank = q * count as f64;
            let nonzero = (rank - self.zero as f64) / self.nonzero.len().max(1) as f64;
            if nonzero <= 0.0 {
                0
            } else {
                (self.nonzero.value_at_quantile(nonzero) * 1_000).min(self.max_ns)
            }
        };
        WaitSummary {
            what: what.to_owned(),
            count,
            p50_ns: at(0.5),
            p99_ns: at(0.99),
            max_ns: self.max_ns,
        }
    }
}
