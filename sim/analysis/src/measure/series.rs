//! Time series of a run: one point for each sample of the platform's counters.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::accounting::Accounting;
use crate::ledger::LeaseCounts;
use alertstorm_model::event::{ApiCalls, CpuUse, Sample};
use alertstorm_model::scenario::FaultKind;
use alertstorm_model::time::Time;

/// State of the run at one instant. Counts are since the run's start unless stated otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Point {
    /// Seconds since the run's start.
    pub t_s: f64,
    /// Alerts received.
    pub alerts: u64,
    /// Investigations with an outcome.
    pub finished: u64,
    /// Leases active at this instant.
    pub leases_active: u64,
    /// Leases issued.
    pub leases_issued: u64,
    /// Leases revoked, expired or irrevocable.
    pub leases_ended: u64,
    /// Requests to the API server.
    pub api_calls: u64,
    /// Queue depths and other levels at this instant, in the order of [`Series::depths`].
    pub depths: Vec<u64>,
    /// Mean number of busy cores since the previous point (for the first point, since the run's
    /// start), in the order of [`Series::hosts`]; empty
    /// for the first point.
    pub cores_busy: Vec<f64>,
}

/// Begin or end of a fault, for the charts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Mark {
    /// Seconds since the run's start.
    pub t_s: f64,
    /// Kind of the fault.
    pub fault: FaultKind,
    /// True where the fault begins, false where it ends.
    pub began: bool,
}

/// All points, with the names of their columns.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Series {
    /// Names of the queues and levels in [`Point::depths`], from the first sample.
    pub depths: Vec<String>,
    /// Hosts in [`Point::cores_busy`], each with its number of cores.
    pub hosts: Vec<(String, u32)>,
    /// Points in ascending order of time.
    pub points: Vec<Point>,
    /// Begins and ends of faults, in ascending order of time.
    pub marks: Vec<Mark>,
    /// Latest counter of each process.
    #[serde(skip)]
    busy: Vec<Busy>,
    /// CPU time of each host since the last point.
    #[serde(skip)]
    added_ns: Vec<u64>,
}

/// CPU time counter of a process; `host` is an index into [`Series::hosts`].
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
    /// CPU time counts towards the next interval.
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
        let replaced = self.points.pop_if(|last| last.t_s >= t_s);
        let interval = t_s - self.points.last().map_or(0.0, |last| last.t_s);
        let cores_busy = match replaced {
            Some(replaced) => replaced.cores_busy,
            // A sample at the run's start has no interval.
            None if interval <= 0.0 => Vec::new(),
            None => {
                let added = std::mem::replace(&mut self.added_ns, vec![0; self.hosts.len()]);
                added.into_iter().map(|ns| ns as f64 / 1e9 / interval).collect()
            }
        };
        self.points.push(Point {
            t_s,
            alerts: accounting.alerts,
            finished: accounting.finished,
            leases_active: leases.active,
            leases_issued: leases.issued,
            leases_ended: leases.revoked + leases.expired + leases.irrevocable,
            api_calls: ApiCalls::total(&sample.api_calls),
            depths: sample.depths.iter().map(|depth| depth.depth).collect(),
            cores_busy,
        });
    }

    /// Adds the CPU time of each process since its last sample. Counters start at 0 with the run, and
    /// processes that used nothing are left out of a sample, so a process that appears later counts
    /// from 0. So does a counter that decreased: its process was restarted.
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
                    self.added_ns[host] += now;
                }
            }
        }
    }

    /// Leases issued plus leases ended per second, in the busiest interval between two points; 0
    /// with fewer than two points.
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
    fn a_point_at_the_start_of_the_run_has_no_busy_cores() {
        let mut series = Series::default();
        push(&mut series, 0, &[("etcd", 2)]);
        push(&mut series, 1_000, &[("etcd", 500)]);
        assert_eq!(busy(&series), [&[] as &[f64], &[0.5]]);
    }

    #[test]
    fn the_first_interval_begins_with_the_run() {
        let mut series = Series::default();
        push(&mut series, 10_000, &[("etcd", 5_000)]);
        assert_eq!(busy(&series), [[0.5]]);
    }

    #[test]
    fn a_restarted_process_counts_from_zero() {
        let mut series = Series::default();
        push(&mut series, 1_000, &[("etcd", 700), ("vault", 100)]);
        push(&mut series, 2_000, &[("etcd", 200), ("vault", 400)]);
        assert_eq!(busy(&series)[1], [0.5]);
    }

    #[test]
    fn a_process_that_was_idle_before_counts_from_zero() {
        let mut series = Series::default();
        push(&mut series, 0, &[("etcd", 0)]);
        push(&mut series, 1_000, &[("etcd", 250), ("kube-scheduler", 250)]);
        assert_eq!(busy(&series)[1], [0.5]);
    }

    #[test]
    fn two_samples_of_one_instant_make_one_point() {
        let mut series = Series::default();
        push(&mut series, 0, &[("etcd", 0)]);
        push(&mut series, 1_000, &[("etcd", 500)]);
        push(&mut series, 1_000, &[("etcd", 600)]);
        push(&mut series, 2_000, &[("etcd", 1_000)]);
        assert_eq!(busy(&series), [&[] as &[f64], &[0.5], &[0.5]]);
        assert_eq!(series.churn_peak_per_s(), 0.0);
    }
}
