//! Distributions of waits, kept in the twin and told in the last sample of a run.

use alertstorm_model::event::WaitSummary;
use alertstorm_model::time::Span;
use hdrhistogram::Histogram;

#[derive(Debug)]
pub(crate) struct Meter {
    /// Most waits are none; they are counted apart, as that is faster.
    none: u64,
    some: Histogram<u64>,
    max: u64,
}

/// 37 days in microseconds.
const RECORDED_MAX: u64 = 3_200_000_000_000;

impl Default for Meter {
    fn default() -> Self {
        let some = Histogram::new_with_bounds(1, RECORDED_MAX, 2);
        let some = some.unwrap_or_else(|_| unreachable!("the bounds are allowed"));
        Self { none: 0, some, max: 0 }
    }
}

impl Meter {
    pub fn record(&mut self, wait: Span) {
        if wait.0 == 0 {
            self.none += 1;
        } else {
            self.some.saturating_record(wait.0 / 1_000);
            self.max = self.max.max(wait.0);
        }
    }

    pub fn summary(&self, what: &str) -> WaitSummary {
        let count = self.none + self.some.len();
        let at = |q: f64| {
            let rank = q * count as f64;
            let among = (rank - self.none as f64) / self.some.len().max(1) as f64;
            if among <= 0.0 {
                0
            } else {
                (self.some.value_at_quantile(among) * 1_000).min(self.max)
            }
        };
        WaitSummary {
            what: what.to_owned(),
            count,
            p50_ns: at(0.5),
            p99_ns: at(0.99),
            max_ns: self.max,
        }
    }
}
