//! What a baseline keeps of one run: a histogram for each stage, and for the twin a trail of event
//! digests that locates the first event that differs.

use std::fmt;

use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::measure::{Measures, Reading};
use alertstorm_model::digest::Digest;
use alertstorm_model::event::{Event, Sink};
use alertstorm_model::investigation::Stage;

/// Latencies from the alert to one stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StageCounts {
    /// Stage that the latency counts to.
    pub to: Stage,
    /// Latency in milliseconds to two significant digits, and the number of investigations with it,
    /// in ascending order.
    pub counts: Vec<(u64, u64)>,
    /// Investigations that ended without reaching the stage.
    pub failed: u64,
    /// Investigations that could still reach the stage when the run ended.
    pub censored: u64,
}

/// One run in a baseline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sample {
    /// Seed of the run.
    pub seed: u64,
    /// Hex digest of the run's event log.
    pub digest: String,
    /// Latencies by stage; a stage that no investigation needed is left out.
    pub stages: Vec<StageCounts>,
}

/// A figure of a sample: a quantile of the latency from the alert to a stage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metric {
    to: Stage,
    name: &'static str,
    q: f64,
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.to, self.name)
    }
}

/// Two significant digits, an error of at most 1 %: less than the noise between runs.
fn histogram() -> Histogram<u64> {
    Histogram::new(2).unwrap_or_else(|_| unreachable!("two digits are valid"))
}

impl Metric {
    /// Value in seconds. Failed and censored investigations count as infinite. `None` if the sample does
    /// not have the stage.
    pub fn of(self, sample: &Sample) -> Option<Reading> {
        let stage = sample.stages.iter().find(|stage| stage.to == self.to)?;
        let arrived: u64 = stage.counts.iter().map(|(_, count)| count).sum();
        let all = arrived + stage.failed + stage.censored;
        let rank = ((self.q * all as f64).ceil() as u64).max(1);
        let mut seen = 0;
        let value = stage.counts.iter().find_map(|(ms, count)| {
            seen += count;
            (seen >= rank).then_some(*ms)
        });
        let seconds = value.map(|ms| Reading::At((ms as f64).max(0.5) / 1e3));
        Some(seconds.unwrap_or(Reading::Never))
    }
}

impl Sample {
    /// The sample of a run, from its closed measures.
    pub fn of(seed: u64, measures: &Measures) -> Self {
        let stage = |to: Stage| {
            let latency = measures.latencies.to(to);
            let counts = latency.arrived.counts_ms();
            let (failed, censored) = (latency.failed, latency.censored);
            (latency.attempted() > 0).then_some(StageCounts { to, counts, failed, censored })
        };
        let stages = Self::STAGES.iter().filter_map(|to| stage(*to)).collect();
        Self { seed, digest: measures.digest(), stages }
    }

    /// Stages that are kept: those whose latency depends on the platform and not on the agent's
    /// work.
    const STAGES: [Stage; 5] = [
        Stage::JobCreated,
        Stage::PodCreated,
        Stage::PodScheduled,
        Stage::PodRunning,
        Stage::CredentialsReady,
    ];

    /// Stages that are judged. Two are left out, since each figure widens the intervals of all: a
    /// Job's creation takes milliseconds, which vary by more than half between real runs
    /// (benches/gate-noise), and a pod is scheduled as soon as it is created.
    const JUDGED: [Stage; 3] = [Stage::PodCreated, Stage::PodRunning, Stage::CredentialsReady];

    /// All figures that are judged: p50 and p95 of each judged stage.
    pub fn metrics() -> impl Iterator<Item = Metric> {
        let quantiles = [("p50", 0.5), ("p95", 0.95)];
        let of = move |to: &Stage| quantiles.map(|(name, q)| Metric { to: *to, name, q });
        Self::JUDGED.iter().flat_map(of)
    }

    #[cfg(test)]
    pub(super) fn of_latencies(to: &str, seconds: &[f64]) -> Self {
        let mut all = histogram();
        for s in seconds {
            all.record((s * 1e3) as u64).unwrap();
        }
        let counts = all.iter_recorded().map(|at| (at.value_iterated_to(), at.count_at_value()));
        let (counts, to) = (counts.collect(), to.parse().unwrap());
        let stages = vec![StageCounts { to, counts, failed: 0, censored: 0 }];
        Self { seed: 0, digest: String::new(), stages }
    }
}

impl crate::measure::Curve {
    /// Milliseconds to two significant digits, each with its count, in ascending order.
    pub fn counts_ms(&self) -> Vec<(u64, u64)> {
        let mut coarse = histogram();
        for (micros, count) in self.counts() {
            // The histogram resizes itself, so recording does not fail.
            let _ = coarse.record_n(micros / 1_000, count);
        }
        let counts = coarse.iter_recorded();
        counts.map(|at| (at.value_iterated_to(), at.count_at_value())).collect()
    }
}

/// Two bytes of the digest of each of the first 30,000 events, in order. It locates the first event
/// that differs, and is small enough to commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trail(Vec<u16>);

/// Bound on the size of a committed baseline. Later events are covered by the run's digest only.
const TRAIL_MAX: usize = 30_000;

impl Sink for Trail {
    fn take(&mut self, event: &Event) {
        if self.0.len() < TRAIL_MAX {
            let mut digest = Digest::default();
            digest.fold(event);
            let hex = digest.hex();
            self.0.push(u16::from_str_radix(&hex[..4], 16).unwrap_or(0));
        }
    }
}

impl Trail {
    /// Format of a baseline: four hex digits per event.
    pub fn hex(&self) -> String {
        self.0.iter().map(|of| format!("{of:04x}")).collect()
    }

    /// Index (from 0) of the first event that differs from a baseline's trail; `None` if the trails
    /// are equal.
    pub fn first_difference(&self, kept: &str) -> Option<usize> {
        let kept = kept.as_bytes().chunks(4).map(|four| str::from_utf8(four).unwrap_or_default());
        let mut own = self.0.iter();
        for (n, kept) in kept.enumerate() {
            match own.next() {
                Some(own) if format!("{own:04x}") == kept => {}
                _ => return Some(n),
            }
        }
        own.next().map(|_| self.0.len() - own.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alertstorm_model::event::Fact;
    use alertstorm_model::time::Time;

    #[test]
    fn a_trail_locates_the_first_event_that_differs() {
        let trail = |times: &[u64]| {
            let mut trail = Trail::default();
            for at in times {
                trail.take(&Event::platform(Time(*at), Fact::JobSent));
            }
            trail
        };
        let kept = trail(&[1, 2, 3]).hex();
        assert_eq!(trail(&[1, 2, 3]).first_difference(&kept), None);
        assert_eq!(trail(&[1, 5, 3]).first_difference(&kept), Some(1));
        assert_eq!(trail(&[1, 2]).first_difference(&kept), Some(2));
        assert_eq!(trail(&[1, 2, 3, 4]).first_difference(&kept), Some(3));
    }

    #[test]
    fn failed_investigations_count_as_infinite_in_quantiles() {
        let mut sample = Sample::of_latencies("pod_running", &[1.0, 2.0, 3.0, 4.0]);
        let p50 = Sample::metrics().find(|metric| metric.to_string() == "pod_running.p50").unwrap();
        let p95 = Sample::metrics().find(|metric| metric.to_string() == "pod_running.p95").unwrap();
        assert!((p50.of(&sample).unwrap().or_infinite() - 2.0).abs() < 0.03);
        sample.stages[0].failed = 4;
        assert!((p50.of(&sample).unwrap().or_infinite() - 4.0).abs() < 0.06);
        assert_eq!(p95.of(&sample), Some(Reading::Never));
    }
}
