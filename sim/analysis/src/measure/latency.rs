//! Latencies between stages. Each histogram has counts of attempted, failed and censored
//! investigations beside it, because the histogram holds only those that reached the stage. A quantile
//! is over all that were attempted: what never arrived is infinite.

use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::open::{Open, Uncollected};
use super::reading::Reading;
use alertstorm_model::investigation::{Outcome, Stage};
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

/// The latency from one instant to one stage, over all investigations that reached the first. From
/// [`Stage::Alert`] these are all alerts that were not duplicates, shed ones included.
#[derive(Clone, Debug)]
pub struct Latency {
    /// Start of the latency.
    pub from: From,
    /// End of the latency.
    pub to: Stage,
    /// Durations of the investigations that reached `to`. [`Self::at`] is over all.
    pub arrived: Curve,
    /// Investigations that ended without reaching `to`, and alerts that were shed.
    pub failed: u64,
    /// Investigations that could still reach `to` when the run ended.
    pub censored: u64,
    /// Failed and censored investigations of which the log does not show whether they needed Vault.
    undecided: (u64, u64),
}

impl Latency {
    /// Investigations that reached `from`. Agents that need no credentials are not counted for
    /// Vault's stages.
    pub fn attempted(&self) -> u64 {
        self.arrived.count() + self.failed + self.censored
    }

    /// Investigations that did not reach `to`.
    pub const fn missing(&self) -> u64 {
        self.failed + self.censored
    }

    /// The q-quantile (q from 0 to 1) over all that were attempted; 1 is the maximum. `None` if
    /// nothing was attempted.
    pub fn at(&self, q: f64) -> Option<Reading> {
        let (all, arrived) = (self.attempted(), self.arrived.count());
        let rank = ((q * all as f64).ceil() as u64).clamp(1, all.max(1));
        if rank > arrived {
            return (all > 0).then_some(Reading::Never);
        }
        // Half a rank less, so that no rounding gives the next one.
        self.arrived.quantile((rank as f64 - 0.5) / arrived as f64).map(Reading::from)
    }
}

/// One latency in a report. Quantiles and maximum are over the `attempted` investigations, and empty
/// without any.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LatencyRow {
    /// Stage that the latency counts from, or `job_sent`.
    pub from: String,
    /// Stage that the latency counts to.
    pub to: String,
    /// Investigations that reached `to`.
    pub count: u64,
    /// Investigations that reached `from`: `count` + `failed` + `censored`. From `alert`: all alerts
    /// that were not duplicates, without agents that need no credentials for Vault's stages.
    pub attempted: u64,
    /// Investigations that ended without reaching `to`, and alerts that were shed.
    pub failed: u64,
    /// Investigations that could still reach `to` when the run ended.
    pub censored: u64,
    /// Mean in seconds of the `count` that reached `to`. Unlike quantiles, means of consecutive stages
    /// add up.
    pub mean_arrived_s: Option<f64>,
    /// The last of the `count` that reached `to`, in seconds.
    pub last_arrived_s: Option<f64>,
    /// Median.
    pub p50_s: Option<Reading>,
    /// 95th percentile.
    pub p95_s: Option<Reading>,
    /// 99th percentile.
    pub p99_s: Option<Reading>,
    /// Maximum.
    pub max_s: Option<Reading>,
}

impl LatencyRow {
    /// Share of the attempted investigations that did not reach `to`; 0 to 1, and 0 without any.
    pub fn never(&self) -> f64 {
        (self.failed + self.censored) as f64 / self.attempted.max(1) as f64
    }
}

impl Latency {
    /// Converts to seconds, for reports.
    pub fn row(&self) -> LatencyRow {
        let arrived = &self.arrived;
        LatencyRow {
            from: self.from.word().to_owned(),
            to: self.to.word().to_owned(),
            count: arrived.count(),
            attempted: self.attempted(),
            failed: self.failed,
            censored: self.censored,
            mean_arrived_s: (arrived.count() > 0).then(|| arrived.mean() / 1e9),
            last_arrived_s: arrived.max().map(Span::as_secs_f64),
            p50_s: self.at(0.5),
            p95_s: self.at(0.95),
            p99_s: self.at(0.99),
            max_s: self.at(1.0),
        }
    }
}

/// Whether an investigation needed credentials from Vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Yes,
    No,
    /// It ended before its agent would have logged in.
    Unknown,
}

impl Need {
    /// An agent that needs Vault does nothing before its login, and gives up if Vault does not answer.
    fn of(open: &Open) -> Self {
        if open.reached(Stage::VaultLogin).is_some()
            || open.outcome == Some(Outcome::VaultUnavailable)
        {
            Self::Yes
        } else if open.reached(Stage::AgentDone).is_some()
            || open.outcome.is_some_and(Outcome::concluded)
        {
            Self::No
        } else {
            Self::Unknown
        }
    }
}

/// All measured latencies: from the alert to each stage, from each stage to the next, and from the
/// request that creates the Job to four later stages.
pub struct Latencies {
    all: Vec<Latency>,
    /// Whether an investigation needed Vault, and whether one did not.
    needs: (bool, bool),
}

impl Default for Latencies {
    fn default() -> Self {
        let later = || Stage::ALL.iter().skip(1).copied();
        let from_alert = later().map(|to| (From::Stage(Stage::Alert), to));
        let steps = Stage::ALL.windows(2).skip(1).map(|two| (From::Stage(two[0]), two[1]));
        let sent = [Stage::JobCreated, Stage::PodCreated, Stage::PodRunning, Stage::JobFinished];
        let from_sent = sent.into_iter().map(|to| (From::JobSent, to));
        let latency = |(from, to)| Latency {
            from,
            to,
            arrived: Curve::default(),
            failed: 0,
            censored: 0,
            undecided: (0, 0),
        };
        let all = from_alert.chain(steps).chain(from_sent).map(latency).collect();
        Self { all, needs: (false, false) }
    }
}

impl Latencies {
    /// All latencies, those from the alert first.
    pub fn iter(&self) -> impl Iterator<Item = &Latency> {
        self.all.iter()
    }

    /// The latency between two instants; `None` if it is not measured.
    pub fn between(&self, from: From, to: Stage) -> Option<&Latency> {
        self.all.iter().find(|latency| latency.from == from && latency.to == to)
    }

    /// The latency from the alert to a stage.
    ///
    /// # Panics
    /// For [`Stage::Alert`].
    pub fn to(&self, stage: Stage) -> &Latency {
        &self.all[stage.index() - 1]
    }

    /// Records the collection of a finished Job; censored if `at` is `None`.
    pub(super) fn record_collected(&mut self, job: Uncollected, at: Option<Time>) {
        for latency in self.all.iter_mut().filter(|latency| latency.to == Stage::JobCollected) {
            let from = match latency.from {
                From::Stage(Stage::Alert) => job.alert,
                _ => job.finished,
            };
            match at {
                Some(at) => latency.arrived.record(at.since(from)),
                None => latency.censored += 1,
            }
        }
    }

    /// Records all stages but the Job's collection. `at_run_end` means that the Job had not
    /// finished when the run ended, so stages not reached are censored.
    pub(super) fn record(&mut self, open: &Open, at_run_end: bool) {
        // Without a finished Job, only the latency from the alert to its collection was attempted.
        if at_run_end {
            let all = self.all.iter_mut();
            let collected = |latency: &&mut Latency| {
                latency.from == From::Stage(Stage::Alert) && latency.to == Stage::JobCollected
            };
            all.filter(collected).for_each(|latency| latency.censored += 1);
        }
        // Agents that need no credentials skip Vault's stages.
        let need = Need::of(open);
        self.needs.0 |= need == Need::Yes;
        self.needs.1 |= need == Need::No;
        for latency in self.all.iter_mut().filter(|latency| latency.to != Stage::JobCollected) {
            let from = match latency.from {
                From::Stage(stage) => open.reached(stage),
                From::JobSent => Some(open.sent).filter(|at| *at != Time::NEVER),
            };
            let Some(from) = from else { continue };
            if let Some(to) = open.reached(latency.to) {
                latency.arrived.record(to.since(from));
                continue;
            }
            let censored =
                at_run_end && (open.outcome.is_none() || latency.to == Stage::JobFinished);
            latency.miss(censored, need);
        }
    }

    /// Records an alert that was shed: it reaches no stage.
    pub(super) fn record_shed(&mut self) {
        let all = self.all.iter_mut();
        for latency in all.filter(|latency| latency.from == From::Stage(Stage::Alert)) {
            latency.miss(false, Need::Unknown);
        }
    }

    /// Counts those of which the log does not show whether they needed Vault: they did, unless some
    /// agents needed none, and no agent needed it.
    pub(super) fn close(&mut self) {
        let needed = self.needs.0 || !self.needs.1;
        for latency in &mut self.all {
            let (failed, censored) = std::mem::take(&mut latency.undecided);
            if needed {
                latency.failed += failed;
                latency.censored += censored;
            }
        }
    }
}

impl Latency {
    fn miss(&mut self, censored: bool, need: Need) {
        let of_vault = is_vault_stage(self.to);
        match (of_vault.then_some(need), censored) {
            (Some(Need::No), _) => {}
            (Some(Need::Unknown), false) => self.undecided.0 += 1,
            (Some(Need::Unknown), true) => self.undecided.1 += 1,
            (_, false) => self.failed += 1,
            (_, true) => self.censored += 1,
        }
    }
}

const fn is_vault_stage(stage: Stage) -> bool {
    matches!(stage, Stage::VaultLogin | Stage::CredentialsReady | Stage::LeasesReleased)
}
