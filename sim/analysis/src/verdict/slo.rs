//! Judges objectives: the measured value, the limit and the margin between them.

use alertstorm_model::scenario::{Comparison, Counter, Metric, Slo};
use alertstorm_model::time::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::measure::Measures;

/// What an objective came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SloResult {
    /// The objective as it was written.
    pub slo: String,
    /// Whether it held.
    pub held: bool,
    /// What was measured, in the unit of `unit`; nothing where there was nothing to measure.
    pub value: Option<f64>,
    /// What it was held against.
    pub limit: f64,
    /// How far it is on the right side; negative on the wrong one.
    pub margin: Option<f64>,
    /// `s`, `usd`, `share` or `count`.
    pub unit: String,
    /// Investigations left out of the value, because they never arrived or were under way.
    pub not_arrived: u64,
}

/// Judges a run. A quantile counts those who never arrived as later than any that did.
pub fn judge(slo: &Slo, measures: &Measures) -> SloResult {
    let (value, not_arrived, unit) = measure(slo.metric, measures);
    let limit = slo.limit;
    let held = value.is_some_and(|value| match slo.comparison {
        Comparison::AtMost => value <= limit,
        Comparison::AtLeast => value >= limit,
        Comparison::Exactly => (value - limit).abs() < 1e-9,
        Comparison::Below => value < limit,
        Comparison::Above => value > limit,
    });
    let margin = value.map(|value| match slo.comparison {
        Comparison::AtMost | Comparison::Below => limit - value,
        Comparison::AtLeast | Comparison::Above => value - limit,
        Comparison::Exactly => -(value - limit).abs(),
    });
    let slo = slo.to_string();
    SloResult { slo, held, value, limit, margin, unit: unit.to_owned(), not_arrived }
}

fn measure(metric: Metric, m: &Measures) -> (Option<f64>, u64, &'static str) {
    match metric {
        Metric::Latency(stage, q) => {
            let latency = m.latencies.to(stage);
            let missing = latency.failed + latency.censored;
            let rank = q * latency.attempted() as f64;
            // The quantile lies among those who arrived only if enough of them did.
            let among = q * latency.attempted() as f64 / latency.curve.count().max(1) as f64;
            let arrived = rank <= latency.curve.count() as f64;
            let value = arrived.then(|| latency.curve.quantile(among.min(1.0))).flatten();
            (value.map(Span::as_secs_f64), missing, "s")
        }
        Metric::ExposureMax => (Some(m.exposure().1.as_secs_f64()), 0, "s"),
        Metric::Share(outcome) => {
            let finished = m.accounting.finished;
            let share = m.outcome(outcome) as f64 / finished.max(1) as f64;
            ((finished > 0).then_some(share), 0, "share")
        }
        Metric::Cost(None) => (Some(m.cost_usd()), 0, "usd"),
        Metric::Cost(Some(q)) => {
            (m.cost_micro_usd.quantile_raw(q).map(|micro| micro as f64 / 1e6), 0, "usd")
        }
        Metric::Count(counter) => (Some(count(counter, m) as f64), 0, "count"),
    }
}

fn count(counter: Counter, m: &Measures) -> u64 {
    match counter {
        Counter::Orphaned => m.leases().orphaned,
        Counter::Irrevocable => m.leases().irrevocable,
        Counter::ActivePeak => m.leases().active_peak,
        Counter::Issued => m.leases().issued,
        Counter::Expired => m.leases().expired,
        Counter::Shed => m.accounting.shed,
        Counter::Unfinished => m.accounting.unfinished,
        Counter::Deduplicated => m.accounting.deduplicated,
        Counter::Finished => m.accounting.finished,
        Counter::Writes => m.actions.writes,
        Counter::DeniedWrites => m.actions.denied_writes,
        Counter::DeniedReads => m.actions.denied_reads,
        Counter::ApiCalls => {
            let calls = m.last_sample.as_ref().map(|sample| sample.api_calls.iter());
            calls.into_iter().flatten().map(|calls| calls.count).sum()
        }
    }
}
