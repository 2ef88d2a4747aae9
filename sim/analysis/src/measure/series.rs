//! What a run looked like over time: a point for each sample.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Accounting;
use crate::ledger::LeaseCounts;
use alertstorm_model::event::Sample;
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
    /// Cores busy since the last point, in the order of [`Series::hosts`].
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
    #[serde(skip)]
    busy_ns: Vec<u64>,
}

impl Series {
    pub(super) fn mark(&mut self, at: Time, fault: FaultKind, began: bool) {
        self.marks.push(Mark { t_s: at.as_secs_f64(), fault, began });
    }

    pub(super) fn push(
        &mut self,
        at: Time,
        sample: &Sample,
        accounting: &Accounting,
        leases: &LeaseCounts,
    ) {
        if self.points.is_empty() {
            self.depths = sample.depths.iter().map(|depth| depth.of.clone()).collect();
            for cpu in &sample.cpu {
                if !self.hosts.iter().any(|(host, _)| *host == cpu.host) {
                    self.hosts.push((cpu.host.clone(), cpu.cores));
                }
            }
            self.busy_ns = vec![0; self.hosts.len()];
        }
        let last = self.points.last().map_or(0.0, |point| point.t_s);
        let t_s = at.as_secs_f64();
        let of_host = |host: &str| {
            let own = sample.cpu.iter().filter(|cpu| cpu.host == host);
            own.map(|cpu| cpu.busy_ns).sum::<u64>()
        };
        let busy: Vec<u64> = self.hosts.iter().map(|(host, _)| of_host(host)).collect();
        let span = (t_s - last).max(1e-9);
        let cores = busy.iter().zip(&self.busy_ns);
        let cores_busy = cores.map(|(now, was)| (now - was) as f64 / 1e9 / span).collect();
        self.busy_ns = busy;
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

    /// The most leases issued and ended in a second, between two points.
    pub fn churn_peak_per_s(&self) -> f64 {
        let moved = |point: &Point| point.leases_issued + point.leases_ended;
        let rates = self.points.windows(2).map(|two| {
            (moved(&two[1]) - moved(&two[0])) as f64 / (two[1].t_s - two[0].t_s).max(1e-9)
        });
        rates.fold(0.0, f64::max)
    }
}
