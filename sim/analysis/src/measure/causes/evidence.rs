//! What the servers' counters show of a cause, in words.

use alertstorm_model::event::{Capacity, Component, Resource};
use alertstorm_model::scenario::FaultKind;

use super::interval::Interval;
use super::rules::outage_is;

/// How many processes are named that use the cores.
const PROCESSES: usize = 5;
/// Processes that are neither servers of the platform nor the harness.
const FOREIGN: &str = "other processes";

/// Intervals with gaps, and how long these were in each.
pub type Weighted<'a> = &'a [(&'a Interval, f64)];

/// Counters in words, for a cause of gaps in some intervals. `None` if no counter shows this cause.
pub fn evidence(component: Component, intervals: Weighted<'_>) -> Option<String> {
    let all: f64 = intervals.iter().map(|(_, weight)| weight).sum();
    let mean = |of: &dyn Fn(&Interval) -> f64| {
        let weighted = intervals.iter().map(|(interval, weight)| of(interval) * weight);
        weighted.sum::<f64>() / all.max(1e-9)
    };
    let load = |of: Resource| mean(&|interval| interval.of(of).unwrap_or(0.0));
    let capacity = |of: Resource| -> Capacity {
        let capacities = intervals.iter().map(|(interval, _)| interval.capacity[of.index()]);
        capacities.max().unwrap_or_default()
    };
    let percent = |of: &dyn Fn(&Interval) -> f64| mean(of) * 100.0;
    let busy = |of: Resource| format!("{:.1} of {}", load(of), capacity(of));
    let in_fault = mean(&|interval| {
        let of = |fault: &FaultKind| outage_is(*fault, component);
        if interval.faults.iter().any(of) { 1.0 } else { 0.0 }
    });
    if in_fault > 0.5 {
        return Some("a fault of the scenario".to_owned());
    }
    Some(match component {
        Component::ControlPlaneCpu | Component::VaultCpu => {
            format!("{} cores busy: {}", busy(Resource::Cores), busiest(intervals))
        }
        Component::JobControllerBucket => format!(
            "its sync workers waited for a token {:.0} % of their time",
            percent(&Interval::controller_manager_limited)
        ),
        Component::JobControllerWorkers => {
            format!("{} sync workers busy", busy(Resource::JobSyncs))
        }
        Component::SchedulerBucket => format!(
            "the scheduler waited for a token {:.0} % of its time",
            percent(&Interval::scheduler_limited)
        ),
        Component::SchedulerCycle => format!(
            "it chose nodes for {:.0} % of the time",
            load(Resource::SchedulerAlgorithm) * 100.0
        ),
        Component::NodeCapacity => format!(
            "no node had room for {:.0} % of the pending pods",
            percent(&|interval| interval.unschedulable)
        ),
        Component::ApiSeats => format!(
            "requests spent {:.0} % of their time in the API server in its queues",
            percent(&Interval::queued_for_seats)
        ),
        Component::Etcd => {
            format!("its disk was busy {:.0} % of the time", percent(&Interval::etcd_disk))
        }
        Component::VaultDatabaseLock => format!(
            "{:.1} requests were at the lock of {} connection config(s)",
            load(Resource::VaultDatabaseUsers),
            capacity(Resource::VaultDatabaseUsers)
        ),
        Component::Concurrency | Component::CostBudget | Component::BackendClient => {
            "measured by the controller itself".to_owned()
        }
        Component::PodStart => {
            "from the pod's binding to its start, less what full cores explain".to_owned()
        }
        _ => return None,
    })
}

/// The processes that used most of the cores, with the mean number of cores of each.
fn busiest(intervals: Weighted<'_>) -> String {
    let all: f64 = intervals.iter().map(|(_, weight)| weight).sum();
    let mut sums: Vec<(&str, f64)> = Vec::new();
    for (interval, weight) in intervals {
        for (process, busy) in &interval.processes {
            match sums.iter_mut().find(|(of, _)| of == process) {
                Some((_, sum)) => *sum += busy * weight,
                None => sums.push((process, busy * weight)),
            }
        }
    }
    // Those that are not part of the platform, too: a build on the same machine is a cause.
    let busy = |(interval, weight): &(&Interval, f64)| {
        interval.of(Resource::Cores).unwrap_or(0.0) * weight
    };
    let known: f64 = sums.iter().map(|(_, sum)| sum).sum();
    sums.push((FOREIGN, intervals.iter().map(busy).sum::<f64>() - known));
    sums.retain(|(_, sum)| *sum > 0.0);
    sums.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let word = |(process, sum): &(&str, f64)| format!("{process} {:.2}", sum / all.max(1e-9));
    sums.iter().take(PROCESSES).map(word).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_cores_are_described_with_the_processes_that_use_them() {
        let mut interval = Interval::default();
        interval.load[Resource::Cores.index()] = Some(1.45);
        interval.capacity[Resource::Cores.index()] = Capacity::of(1.5);
        interval.processes = vec![("etcd".to_owned(), 0.2), ("vault".to_owned(), 1.0)];
        let text = evidence(Component::ControlPlaneCpu, &[(&interval, 3.0)]);
        let expected = "1.4 of 1.5 cores busy: vault 1.00, other processes 0.25, etcd 0.20";
        assert_eq!(text.as_deref(), Some(expected));
        assert_eq!(evidence(Component::ControllerDown, &[(&interval, 3.0)]), None);
    }
}
