//! What a run looked like over time: a point for each sample.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Accounting;
use crate::ledger::LeaseCounts;
use alertstorm_model::event::{CpuUse, Sample};
use alertstorm_model::scenario::FaultKind;
use alertstorm_model::time::Time;

/// The run at an instant. Counts are cumulative unless a name says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Point {
    /// Seconds since the run's start.
    pub t_s: f64,
    /// Alerts so far.
    pub alerts: u64,
    /// Investigations ended so far.
    pub finished: u64,
    /// Leases alive now.
    pub leases_active: u64,
    /// Leases issued so far.
    pub leases_issued: u64,
    /// Leases ended so far.
    pub leases_ended: u64,
    /// Calls to the API server so far.
    pub api_calls: u64,
    /// Depths now, in the order of [`Series::depths`].
    pub depths: Vec<u64>,
    /// Mean of the cores busy since the point before, in the order of [`Series::hosts`]; empty for
    /// the first point, which has none before it.
    pub cores_busy: Vec<f64>,
}

/// A fault, as the charts mark it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Mark {
    /// Seconds since the run's start.
    pub t_s: f64,
    /// What broke.
    pub fault: FaultKind,
    /// Whether it began.
    pub began: bool,
}

/// Points, with the names of what they hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Series {
    /// Names of the depths.
    pub depths: Vec<String>,
    /// Hosts, each with its cores.
    pub hosts: Vec<(String, u32)>,
    /// The points.
    pub points: Vec<Point>,
    /// Faults.
    pub marks: Vec<Mark>,
    /// Processor time of each process when it was last sampled.
    #[serde(skip)]
    busy: Vec<Busy>,
    /// Processor time of each host since the last point.
    #[serde(skip)]
    added_ns: Vec<u64>,
}

/// The counter of a process, and its host's place in [`Series::hosts`].
#[derive(Clone, Debug, PartialEq)]
struct Busy {
    host: usize,
    process: String,
    busy_ns: u64,
}

impl Series {
    pub(super) fn mark(&mut self, at: Time, fault: FaultKind, began: bool) {
        self.marks.push(Mark { t_s: at.as_secs_f64(), fault, began });
    }

    /// Adds a point. A second sample of the same instant replaces the first one's point, and its
    /// processor time counts towards the next interval.
    pub(super) fn push(
        &mut self,
        at: Time,
        sample: &Sample,
        accounting: &Accounting,
        leases: &LeaseCounts,
    ) {
        if self.points.is_empty() {
            self.depths = sample.depths.iter().map(|depth| depth.of.clone()).collect();
        }
        self.add_busy(&sample.cpu);
        let t_s = at.as_secs_f64();
        let mut cores_busy = Vec::new();
        match self.points.pop_if(|last| last.t_s >= t_s) {
            Some(same) => cores_busy = same.cores_busy,
            None => {
                let added = std::mem::replace(&mut self.added_ns, vec![0; self.hosts.len()]);
                if let Some(last) = self.points.last() {
                    let per_s = |ns: u64| ns as f64 / 1e9 / (t_s - last.t_s);
                    cores_busy = added.into_iter().map(per_s).collect();
                }
            }
        }
        self.points.push(Point {
            t_s,
            alerts: accounting.alerts,
            finished: accounting.finished,
            leases_active: leases.active,
            leases_issued: leases.issued,
            leases_ended: leases.revoked + leases.expired + leases.irrevocable,
            api_calls: sample.api_calls.iter().map(|calls| calls.count).sum(),
            depths: sample.depths.iter().map(|depth| depth.depth).collect(),
            cores_busy,
        });
    }

    /// Adds what each process used since its last sample. Its first sample is only a baseline: when
    /// that time was used is not known. A counter that went back is a restarted process's, and
    /// counts from 0.
    fn add_busy(&mut self, cpu: &[CpuUse]) {
        for used in cpu {
            let known = self.hosts.iter().position(|(host, _)| *host == used.host);
            let host = known.unwrap_or_else(|| {
                self.hosts.push((used.host.clone(), used.cores));
                self.added_ns.push(0);
                self.hosts.len() - 1
            });
            let same = |busy: &&mut Busy| busy.host == host && busy.process == used.process;
            let now = used.busy_ns;
            match self.busy.iter_mut().find(same) {
                Some(busy) => {
                    let before = std::mem::replace(&mut busy.busy_ns, now);
                    self.added_ns[host] += now.checked_sub(before).unwrap_or(now);
                }
                None => {
                    let process = used.process.clone();
                    self.busy.push(Busy { host, process, busy_ns: now });
                }
            }
        }
    }

    /// Leases issued and ended per second, in the interval between two points where it is highest.
    pub fn churn_peak_per_s(&self) -> f64 {
        let moved = |point: &Point| point.leases_issued + point.leases_ended;
        let rates = self
            .points
            .windows(2)
            .map(|two| (moved(&two[1]) - moved(&two[0])) as f64 / (two[1].t_s - two[0].t_s));
        rates.fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(series: &mut Series, at_ms: u64, used: &[(&str, u64)]) {
        let cpu = |(process, busy_ms): &(&str, u64)| CpuUse {
            host: "node".to_owned(),
            cores: 2,
            process: (*process).to_owned(),
            busy_ns: busy_ms * 1_000_000,
            resident_bytes: None,
        };
        let sample = Sample { cpu: used.iter().map(cpu).collect(), ..Sample::default() };
        let at = Time(at_ms * 1_000_000);
        series.push(at, &sample, &Accounting::default(), &LeaseCounts::default());
    }

    fn busy(series: &Series) -> Vec<&[f64]> {
        series.points.iter().map(|point| point.cores_busy.as_slice()).collect()
    }

    #[test]
    fn the_first_sample_has_no_interval_and_no_busy_cores() {
        let mut series = Series::default();
        push(&mut series, 0, &[("etcd", 2)]);
        push(&mut series, 1_000, &[("etcd", 502)]);
        assert_eq!(busy(&series), [&[] as &[f64], &[0.5]]);
    }

    #[test]
    fn a_restarted_process_counts_from_zero() {
        let mut series = Series::default();
        push(&mut series, 0, &[("etcd", 700), ("vault", 100)]);
        push(&mut series, 1_000, &[("etcd", 200), ("vault", 400)]);
        assert_eq!(busy(&series)[1], [0.5]);
    }

    #[test]
    fn a_process_first_seen_late_adds_no_peak() {
        let mut series = Series::default();
        push(&mut series, 0, &[("etcd", 0)]);
        push(&mut series, 1_000, &[("etcd", 500), ("alertstorm", 90_000)]);
        assert_eq!(busy(&series)[1], [0.5]);
    }

    #[test]
    fn two_samples_of_one_instant_are_one_point() {
        let mut series = Series::default();
        push(&mut series, 0, &[("etcd", 0)]);
        push(&mut series, 1_000, &[("etcd", 500)]);
        push(&mut series, 1_000, &[("etcd", 600)]);
        push(&mut series, 2_000, &[("etcd", 1_000)]);
        assert_eq!(busy(&series), [&[] as &[f64], &[0.5], &[0.5]]);
        assert_eq!(series.churn_peak_per_s(), 0.0);
    }
}
