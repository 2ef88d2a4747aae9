//! Latencies between stages: histograms, with attempted, succeeded, failed and censored beside
//! them, so that what never arrived is not left out of sight.

use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Open, Uncollected};
use alertstorm_model::investigation::Stage;
use alertstorm_model::time::{Span, Time};

/// A histogram of lengths of time (µs) or plain numbers, to three digits, with the exact maximum.
#[derive(Clone, Debug)]
pub struct Curve {
    histogram: Histogram<u64>,
    max: u64,
    sum: u128,
}

/// 37 days in microseconds; what is longer counts as that in quantiles, and is exact as the maximum.
const RECORDED_MAX: u64 = 3_200_000_000_000;

impl Default for Curve {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, RECORDED_MAX, 3);
        let histogram = histogram.unwrap_or_else(|_| unreachable!("the bounds are allowed"));
        Self { histogram, max: 0, sum: 0 }
    }
}

impl Curve {
    /// Records a length of time.
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

    /// Values as they were recorded, to three digits, and how many had them.
    pub fn counts(&self) -> impl Iterator<Item = (u64, u64)> {
        let recorded = self.histogram.iter_recorded();
        recorded.map(|at| (at.value_iterated_to(), at.count_at_value()))
    }

    /// How many were recorded.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// A quantile (0 to 1) of lengths of time.
    pub fn quantile(&self, q: f64) -> Option<Span> {
        let exact = |micros: u64| Span((micros * 1_000).min(self.max));
        (self.count() > 0).then(|| exact(self.histogram.value_at_quantile(q)))
    }

    /// A quantile (0 to 1) of plain numbers.
    pub fn quantile_raw(&self, q: f64) -> Option<u64> {
        (self.count() > 0).then(|| self.histogram.value_at_quantile(q).min(self.max))
    }

    /// The largest, exactly.
    pub fn max(&self) -> Option<Span> {
        (self.count() > 0).then_some(Span(self.max))
    }

    /// The mean, exactly: of lengths of time in ns.
    pub fn mean(&self) -> f64 {
        self.sum as f64 / self.count().max(1) as f64
    }
}

/// Where a latency counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// A stage.
    Stage(Stage),
    /// The instant the client sent the creation of the Job: what other load tests count from.
    JobSent,
}

impl From {
    /// Its word in reports.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Stage(stage) => stage.word(),
            Self::JobSent => "job_sent",
        }
    }
}

/// One latency: what was tried, and how long it took where it succeeded.
#[derive(Clone, Debug)]
pub struct Latency {
    /// Counted from.
    pub from: From,
    /// Counted to.
    pub to: Stage,
    /// How long it took.
    pub curve: Curve,
    /// Investigations that ended before they came to `to`.
    pub failed: u64,
    /// Investigations under way to `to` when the run ended.
    pub censored: u64,
}

impl Latency {
    /// Investigations that reached `from`.
    pub fn attempted(&self) -> u64 {
        self.curve.count() + self.failed + self.censored
    }
}

/// A latency as reports write it: seconds, and nothing where nobody arrived.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LatencyRow {
    /// Counted from.
    pub from: String,
    /// Counted to.
    pub to: String,
    /// Investigations that arrived.
    pub count: u64,
    /// Investigations that set out.
    pub attempted: u64,
    /// Investigations that ended before they arrived.
    pub failed: u64,
    /// Investigations under way when the run ended.
    pub censored: u64,
    /// Mean in seconds; means add up from stage to stage, where quantiles do not.
    pub mean_s: Option<f64>,
    /// Median in seconds.
    pub p50_s: Option<f64>,
    /// 95th percentile in seconds.
    pub p95_s: Option<f64>,
    /// 99th percentile in seconds.
    pub p99_s: Option<f64>,
    /// The longest in seconds.
    pub max_s: Option<f64>,
}

impl Latency {
    /// As reports write it.
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

/// Every latency that is measured: from the alert to each stage, from each stage to the next, and
/// from the sending of the Job.
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
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Latency> {
        self.0.iter()
    }

    /// The latency between two instants, where it is one of those measured.
    pub fn between(&self, from: From, to: Stage) -> Option<&Latency> {
        self.0.iter().find(|latency| latency.from == from && latency.to == to)
    }

    /// The latency from the alert to a stage.
    ///
    /// # Panics
    /// For [`Stage::Alert`] itself.
    pub fn to(&self, stage: Stage) -> &Latency {
        &self.0[stage.index() - 1]
    }

    /// Records the last stage of a finished Job; nothing where the run ended before it.
    pub(crate) fn record_collected(&mut self, job: Uncollected, at: Option<Time>) {
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

    /// Records an investigation, but for its Job's collection; `under_way` where it was not over when the run ended.
    pub(crate) fn record(&mut self, open: &Open, under_way: bool) {
        // An investigation under way has its alert behind it, and its collection before it.
        if under_way {
            let all = self.0.iter_mut();
            let collected = |latency: &&mut Latency| {
                latency.from == From::Stage(Stage::Alert) && latency.to == Stage::JobCollected
            };
            all.filter(collected).for_each(|latency| latency.censored += 1);
        }
        // Agents that need no Vault pass its stages by.
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
                None if is_vaults(latency.to) && !needed_vault => {}
                None if under_way
                    && (open.outcome.is_none() || latency.to == Stage::JobFinished) =>
                {
                    latency.censored += 1;
                }
                None => latency.failed += 1,
            }
        }
    }
}

const fn is_vaults(stage: Stage) -> bool {
    matches!(stage, Stage::VaultLogin | Stage::CredentialsReady | Stage::LeasesReleased)
}
