//! Judges objectives (SLOs): the measured value, the limit and the margin between them.
//!
//! ```
//! use alertstorm_analysis::measure::Measures;
//! use alertstorm_analysis::verdict::slo;
//! use alertstorm_model::scenario::Slo;
//!
//! # fn main() -> Result<(), String> {
//! let measures = Measures::default();
//! let result = slo::judge(&Slo::parse("leases.orphaned == 0")?, &measures);
//! assert!(result.held);
//! assert_eq!(result.value, Some(0.0));
//!
//! // A quantile without any latency has no value, and the objective is not met.
//! let result = slo::judge(&Slo::parse("job_startup.p99 <= 30s")?, &measures);
//! assert!(!result.held && result.value.is_none());
//! # Ok(())
//! # }
//! ```

use alertstorm_model::event::ApiCalls;
use alertstorm_model::scenario::{Comparison, Counter, Metric, Slo};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::measure::{Measures, Reading};

/// Result of one objective.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SloResult {
    /// The objective as written in the scenario.
    pub slo: String,
    /// Whether the objective is met; false without a value.
    pub held: bool,
    /// Measured value, in `unit`; empty if nothing was measured, or if the quantile falls on an
    /// investigation that never reached the stage.
    pub value: Option<f64>,
    /// Limit of the objective, in `unit`.
    pub limit: f64,
    /// Distance between value and limit, in `unit`; negative if the objective is not met.
    pub margin: Option<f64>,
    /// Unit of `value`, `limit` and `margin`: `s`, `usd`, `share`, `count` or `per_s`.
    pub unit: String,
    /// Latencies only: investigations that never reached the stage or had not reached it when the
    /// run ended. They count as infinite in `value`.
    pub not_arrived: u64,
}

/// The objective of a scenario without any: at most 1 % of the alerts were not investigated.
pub fn without_any() -> Slo {
    let slo = Slo::parse("accounting.not_investigated <= 1%");
    slo.unwrap_or_else(|expected| unreachable!("{expected}"))
}

/// Judges one objective. Quantiles of latencies are over all attempted investigations: those that
/// never reached the stage count as infinite.
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
            let value = latency.at(q).and_then(Reading::finite);
            (value, latency.missing(), "s")
        }
        Metric::ExposureMax => {
            (Some(m.exposure().1.max(m.token_exposure().1).as_secs_f64()), 0, "s")
        }
        Metric::Share(outcome) => (m.accounting.share(m.outcome(outcome)), 0, "share"),
        Metric::ShareOf(counter) => (m.accounting.share(count(counter, m)), 0, "share"),
        Metric::Goodput => (m.goodput(), 0, "per_s"),
        Metric::Cost(None) => (Some(m.cost_usd()), 0, "usd"),
        Metric::Cost(Some(q)) => {
            (m.cost_micro_usd.quantile_raw(q).map(|micro| micro as f64 / 1e6), 0, "usd")
        }
        Metric::Count(counter) => (Some(count(counter, m) as f64), 0, "count"),
    }
}

fn count(counter: Counter, m: &Measures) -> u64 {
    match counter {
        Counter::Orphaned => m.orphaned(),
        Counter::OrphanedTokens => m.tokens().orphaned,
        Counter::Irrevocable => m.leases().irrevocable,
        Counter::ActivePeak => m.leases().active_peak,
        Counter::Issued => m.leases().issued,
        Counter::Expired => m.leases().expired,
        Counter::Shed => m.accounting.shed,
        Counter::Unfinished => m.accounting.unfinished,
        Counter::NotInvestigated => m.not_investigated().total(),
        Counter::Deduplicated => m.accounting.deduplicated,
        Counter::Finished => m.accounting.finished,
        Counter::Writes => m.actions.writes,
        Counter::DeniedWrites => m.actions.denied_writes,
        Counter::DeniedReads => m.actions.denied_reads,
        Counter::ApiCalls => {
            m.last_sample.as_ref().map_or(0, |sample| ApiCalls::total(&sample.api_calls))
        }
    }
}
