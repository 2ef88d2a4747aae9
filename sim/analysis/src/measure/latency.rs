//! Latencies between stages. Each histogram has counts of attempted, failed and censored
//! investigations beside it, because the histogram holds only those that reached the stage.

use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::open::{Open, Uncollected};
use alertstorm_model::investigation::Stage;
use alertstorm_model::time::{Span, Time};

/// A histogram of durations (recorded in µs) or of plain numbers, to three significant digits. Sum
/// and maximum are exact.
#[derive(Clone, Debug)]
pub struct Curve {
    histogram: Histogram<u64>,
    max: u64,
    sum: u128,
}

/// 37 days in microseconds. A longer duration counts as 37 days in quantiles; the maximum stays
/// exact.
const RECORDED_MAX: u64 = 3_200_000_000_000;

impl Default for Curve {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, RECORDED_MAX, 3);
        let histogram = histogram.unwrap_or_else(|_| unreachable!("the bounds are valid"));
        Self { histogram, max: 0, sum: 0 }
    }
}

impl Curve {
    /// Records a duration.
    pub fn record(&mut self, span: Span) {
        self.max = self.max.max(span.0);
        self.sum += u128::from(span.0);
        self.histogram.saturating_record(span.0 / 1_000);
    }

    /// Records a plain number.
    pub fn record_raw(&mut self, n: u64) {
        self.max = self.max.max(n);
        self.sum += u128::from(n);
        self.histogram.saturating_record(n);
    }

    /// Recorded values in ascending order (µs, or plain numbers), to three digits, each with its
    /// count.
    pub fn counts(&self) -> impl Iterator<Item = (u64, u64)> {
        let recorded = self.histogram.iter_recorded();
        recorded.map(|at| (at.value_iterated_to(), at.count_at_value()))
    }

    /// Number of values recorded.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The q-quantile (q from 0 to 1) of recorded durations; `None` without values. It leaves
    /// out investigations that did not reach the stage.
    pub fn quantile(&self, q: f64) -> Option<Span> {
        let exact = |micros: u64| Span((micros * 1_000).min(self.max));
        (self.count() > 0).then(|| exact(self.histogram.value_at_quantile(q)))
    }

    /// The q-quantile (q from 0 to 1) of recorded plain numbers; `None` without values.
    pub fn quantile_raw(&self, q: f64) -> Option<u64> {
        (self.count() > 0).then(|| self.histogram.value_at_quantile(q).min(self.max))
    }

    /// The largest duration, exactly; `None` without values.
    pub fn max(&self) -> Option<Span> {
        (self.count() > 0).then_some(Span(self.max))
    }

    /// The exact mean: of durations in ns, of plain numbers as they are. 0 without values.
    pub fn mean(&self) -> f64 {
        self.sum as f64 / self.count().max(1) as f64
    }
}

/// The instant that a latency counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The instant at which a stage was reached; for [`Stage::Alert`] the alert's intended instant.
    Stage(Stage),
    /// The instant at which the client sent the request that creates the Job. Other load tests
    /// count from it.
    JobSent,
}

impl From {
    /// The name in reports.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Stage(stage) => stage.word(),
            Self::JobSent => "job_sent",
        }
    }
}

/// The latency from one instant to one stage, over all investigations that reached the first.
#[derive(Clone, Debug)]
pub struct Latency {
    /// Start of the latency.
    pub from: From,
    /// End of the latency.
    pub to: Stage,
    /// Durations of the investigations that reached `to`.
    pub curve: Curve,
    /// Investigations that ended without reaching `to`.
    pub failed: u64,
    /// Investigations that could still reach `to` when the run ended.
    pub censored: u64,
}

impl Latency {
    /// Investigations that reached `from`. Agents that need no credentials are not counted for
    /// Vault's stages.
    pub fn attempted(&self) -> u64 {
        self.curve.count() + self.failed + self.censored
    }
}

/// One latency in a report. Mean, quantiles and maximum are over the `count` investigations that
/// reached `to`, and empty without any.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LatencyRow {
    /// Stage that the latency counts from, or `job_sent`.
    pub from: String,
    /// Stage that the latency counts to.
    pub to: String,
    /// Investigations that reached `to`.
    pub count: u64,
    /// Investigations that reached `from`: `count` + `failed` + `censored`.
    pub attempted: u64,
    /// Investigations that ended without reaching `to`.
    pub failed: u64,
    /// Investigations that could still reach `to` when the run ended.
    pub censored: u64,
    /// Mean in seconds. Unlike quantiles, means of consecutive stages add up.
    pub mean_s: Option<f64>,
    /// Median in seconds, of the investigations that reached `to`.
    pub p50_s: Option<f64>,
    /// 95th percentile in seconds.
    pub p95_s: Option<f64>,
    /// 99th percentile in seconds.
    pub p99_s: Option<f64>,
    /// Maximum in seconds.
    pub max_s: Option<f64>,
}

impl Latency {
    /// Converts to seconds, for reports.
    pub fn row(&self) -> LatencyRow {
        let at = |q: f64| self.curve.quantile(q).map(Span::as_secs_f64);
        LatencyRow {
            from: self.from.word().to_owned(),
            to: self.to.word().to_owned(),
            count: self.curve.count(),
            attempted: self.attempted(),
            failed: self.failed,
            censored: self.censored,
            mean_s: (self.curve.count() > 0).then(|| self.curve.mean() / 1e9),
            p50_s: at(0.5),
            p95_s: at(0.95),
            p99_s: at(0.99),
            max_s: self.curve.max().map(Span::as_secs_f64),
        }
    }
}

/// All measured latencies: from the alert to each stage, from each stage to the next, and from the
/// request that creates the Job to four later stages.
pub struct Latencies(Vec<Latency>);

impl Default for Latencies {
    fn default() -> Self {
        let later = || Stage::ALL.iter().skip(1).copied();
        let from_alert = later().map(|to| (From::Stage(Stage::Alert), to));
        let steps = Stage::ALL.windows(2).skip(1).map(|two| (From::Stage(two[0]), two[1]));
        let sent = [Stage::JobCreated, Stage::PodCreated, Stage::PodRunning, Stage::JobFinished];
        let from_sent = sent.into_iter().map(|to| (From::JobSent, to));
        let latency =
            |(from, to)| Latency { from, to, curve: Curve::default(), failed: 0, censored: 0 };
        Self(from_alert.chain(steps).chain(from_sent).map(latency).collect())
    }
}

impl Latencies {
    /// All latencies, those from the alert first.
    pub fn iter(&self) -> impl Iterator<Item = &Latency> {
        self.0.iter()
    }

    /// The latency between two instants; `None` if it is not measured.
    pub fn between(&self, from: From, to: Stage) -> Option<&Latency> {
        self.0.iter().find(|latency| latency.from == from && latency.to == to)
    }

    /// The latency from the alert to a stage.
    ///
    /// # Panics
    /// For [`Stage::Alert`].
    pub fn to(&self, stage: Stage) -> &Latency {
        &self.0[stage.index() - 1]
    }

    /// Records the collection of a finished Job; censored if `at` is `None`.
    pub(super) fn record_collected(&mut self, job: Uncollected, at: Option<Time>) {
        for latency in self.0.iter_mut().filter(|latency| latency.to == Stage::JobCollected) {
            let from = match latency.from {
                From::Stage(Stage::Alert) => job.alert,
                _ => job.finished,
            };
            match at {
                Some(at) => latency.curve.record(at.since(from)),
                None => latency.censored += 1,
            }
        }
    }

    /// Records all stages but the Job's collection. `at_run_end` means that the Job had not
    /// finished when the run ended, so stages not reached are censored.
    pub(super) fn record(&mut self, open: &Open, at_run_end: bool) {
        // Without a finished Job, only the latency from the alert to its collection was attempted.
        if at_run_end {
            let all = self.0.iter_mut();
            let collected = |latency: &&mut Latency| {
                latency.from == From::Stage(Stage::Alert) && latency.to == Stage::JobCollected
            };
            all.filter(collected).for_each(|latency| latency.censored += 1);
        }
        // Agents that need no credentials skip Vault's stages.
        let needed_vault =
            open.reached(Stage::VaultLogin).is_some() || open.reached(Stage::AgentDone).is_none();
        for latency in self.0.iter_mut().filter(|latency| latency.to != Stage::JobCollected) {
            let from = match latency.from {
                From::Stage(stage) => open.reached(stage),
                From::JobSent => Some(open.sent).filter(|at| *at != Time::NEVER),
            };
            let Some(from) = from else { continue };
            match open.reached(latency.to) {
                Some(to) => latency.curve.record(to.since(from)),
                None if is_vault_stage(latency.to) && !needed_vault => {}
                None if at_run_end
                    && (open.outcome.is_none() || latency.to == Stage::JobFinished) =>
                {
                    latency.censored += 1;
                }
                None => latency.failed += 1,
            }
        }
    }
}

const fn is_vault_stage(stage: Stage) -> bool {
    matches!(stage, Stage::VaultLogin | Stage::CredentialsReady | Stage::LeasesReleased)
}
