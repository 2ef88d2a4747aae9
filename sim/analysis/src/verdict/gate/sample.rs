//! What a baseline keeps of one run: a histogram for each stage, and for the twin a trail by which the
//! first event that differs is found.

use std::fmt;

use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::measure::Measures;
use alertstorm_model::digest::Digest;
use alertstorm_model::event::{Event, Sink};
use alertstorm_model::investigation::Stage;

/// Latencies from the alert to a stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StageCounts {
    /// The stage.
    pub to: Stage,
    /// Milliseconds, to two digits, and how many had them.
    pub counts: Vec<(u64, u64)>,
    /// Investigations that ended before they came to it.
    pub failed: u64,
    /// Investigations under way to it when the run ended.
    pub censored: u64,
}

/// One run, as a baseline keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sample {
    /// The seed.
    pub seed: u64,
    /// The digest of its event log.
    pub digest: String,
    /// Its latencies.
    pub stages: Vec<StageCounts>,
}

/// A figure of a sample.
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

/// Two digits: a percent, which is finer than any noise.
fn histogram() -> Histogram<u64> {
    Histogram::new(2).unwrap_or_else(|_| unreachable!("two digits are allowed"))
}

impl Metric {
    /// Its value in seconds; nothing where too few arrived, since those who never did are later than
    /// any that did.
    pub fn of(self, sample: &Sample) -> Option<f64> {
        let stage = sample.stages.iter().find(|stage| stage.to == self.to)?;
        let arrived: u64 = stage.counts.iter().map(|(_, count)| count).sum();
        let all = arrived + stage.failed + stage.censored;
        let rank = ((self.q * all as f64).ceil() as u64).max(1);
        let mut seen = 0;
        let value = stage.counts.iter().find_map(|(ms, count)| {
            seen += count;
            (seen >= rank).then_some(*ms)
        });
        value.map(|ms| (ms as f64).max(0.5) / 1e3)
    }
}

impl Sample {
    /// What a run's measures come to.
    pub fn of(seed: u64, measures: &Measures) -> Self {
        let stage = |to: Stage| {
            let latency = measures.latencies.to(to);
            let counts = latency.curve.counts_ms();
            let (failed, censored) = (latency.failed, latency.censored);
            (!counts.is_empty()).then_some(StageCounts { to, counts, failed, censored })
        };
        let stages = Self::STAGES.iter().filter_map(|to| stage(*to)).collect();
        Self { seed, digest: measures.digest(), stages }
    }

    /// Stages that are kept: those whose latency is the platform's, and not the agent's own work.
    const STAGES: [Stage; 5] = [
        Stage::JobCreated,
        Stage::PodCreated,
        Stage::PodScheduled,
        Stage::PodRunning,
        Stage::CredentialsReady,
    ];

    /// Stages that are judged. A Job's creation takes milliseconds, which differ between runs by more
    /// than half on real servers (benches/gate-noise), and a pod is scheduled as soon as it is
    /// created: both would only make the others' intervals wider.
    const JUDGED: [Stage; 3] = [Stage::PodCreated, Stage::PodRunning, Stage::CredentialsReady];

    /// Every figure that is judged.
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
    /// Milliseconds to two digits, and how many had them.
    pub fn counts_ms(&self) -> Vec<(u64, u64)> {
        let mut coarse = histogram();
        for (micros, count) in self.counts() {
            // It grows as it must.
            let _ = coarse.record_n(micros / 1_000, count);
        }
        let counts = coarse.iter_recorded();
        counts.map(|at| (at.value_iterated_to(), at.count_at_value())).collect()
    }
}

/// Two bytes of a digest of each event, in their order, up to a bound: enough to find the first event
/// that differs, in a file that is small enough to be committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trail(Vec<u16>);

/// Events beyond these are only counted in the digest of all.
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
    /// As a baseline keeps it: four hex digits an event.
    pub fn hex(&self) -> String {
        self.0.iter().map(|of| format!("{of:04x}")).collect()
    }

    /// The number of the first event, from 0, that is not the same as in a kept trail; nothing where
    /// all that both know is the same.
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
    fn the_first_event_that_differs_is_found() {
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
    fn quantiles_count_those_who_never_arrived_as_later_than_all() {
        let mut sample = Sample::of_latencies("pod_running", &[1.0, 2.0, 3.0, 4.0]);
        let p50 = Sample::metrics().find(|metric| metric.to_string() == "pod_running.p50").unwrap();
        let p95 = Sample::metrics().find(|metric| metric.to_string() == "pod_running.p95").unwrap();
        assert!((p50.of(&sample).unwrap() - 2.0).abs() < 0.03);
        sample.stages[0].failed = 4;
        assert!((p50.of(&sample).unwrap() - 4.0).abs() < 0.06);
        assert_eq!(p95.of(&sample), None);
    }
}
