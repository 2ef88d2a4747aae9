//! The rules by which a gap is divided: which resources can hold up what ends it, in which order, and
//! from which load on.

use alertstorm_model::event::{Component, Resource};
use alertstorm_model::scenario::FaultKind;

use super::interval::Interval;

/// A machine's cores hold up what runs on them from the first share of busy cores on, in part, and
/// from the second on entirely. Below, a request finds an idle core.
const CORES: (f64, f64) = (0.75, 0.9);
/// The same for a resource that one request at a time occupies, such as the disk of etcd's log.
const SERIAL: (f64, f64) = (0.6, 0.85);
/// Workers hold up their queue from this share of busy workers on.
const WORKERS: f64 = 0.8;
/// A client's bucket holds up its workers from this share of their time on. Waits and work are counted
/// when they end, so in one interval the two counters differ by what is under way at its ends: with
/// syncs of half a second and samples every few seconds, by up to a tenth.
const BUCKET: f64 = 0.1;
/// Seats of API Priority and Fairness hold up requests from this share of their time in queues on. A
/// request that finds a free seat passes its queue, too; on busy cores that takes some per cent of a
/// request's time, which no seat would save.
const SEATS: f64 = 0.1;
/// Vault's lock holds up requests from this share of them on that wait: two at each lock on average.
/// With random arrivals and equal service times (M/D/1) a lock is then busy 76 % of the time, about as
/// much as cores at the lower of their bounds. Below, most of a request's time is its own service.
const LOCK: f64 = 0.5;

/// A part of a gap.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cause {
    pub component: Component,
    /// Share of the gap, 0 to 1.
    pub share: f64,
    /// Whether counters show the cause; otherwise it is the component that ends the gap.
    pub shown: bool,
}

/// How far a resource is exhausted, 0 to 1: 0 up to the first bound, 1 from the second on.
fn exhausted(load: f64, (from, to): (f64, f64)) -> f64 {
    ((load - from) / (to - from)).clamp(0.0, 1.0)
}

/// A share, if it is large enough to hold something up.
fn from(least: f64, share: f64) -> f64 {
    if share >= least { share } else { 0.0 }
}

/// The parts of a gap; each takes a share of what is left.
struct Parts {
    left: f64,
    parts: Vec<Cause>,
}

impl Parts {
    fn take(&mut self, component: Component, share: f64) {
        let share = self.left * share.clamp(0.0, 1.0);
        if share > 0.0 {
            self.left -= share;
            self.parts.push(Cause { component, share, shown: true });
        }
    }

    /// The rest goes to the component that ends the gap; `shown` if a counter shows it as the cause.
    fn rest(mut self, component: Component, shown: bool) -> Vec<Cause> {
        if self.left > 1e-9 {
            self.parts.push(Cause { component, share: self.left, shown });
        }
        self.parts
    }
}

/// The causes of a gap in an interval; the gap is named by the component that ends it. `excess` is the
/// share by which pods start later than the quickest did.
pub fn causes(interval: &Interval, gap: Component, excess: f64) -> Vec<Cause> {
    let mut parts = Parts { left: 1.0, parts: Vec::new() };
    if let Some(down) = interval.faults.iter().find_map(|fault| outage(*fault, gap)) {
        parts.take(down, 1.0);
    }
    let cores = cores_exhausted(interval);
    match gap {
        Component::JobControllerWorkers => {
            let limited = interval.controller_manager_limited();
            parts.take(Component::JobControllerBucket, from(BUCKET, limited));
            api_server(interval, &mut parts);
            let busy = interval.utilisation(Resource::JobSyncs).unwrap_or(0.0);
            parts.rest(gap, busy >= WORKERS)
        }
        Component::ControlPlaneCpu => {
            api_server(interval, &mut parts);
            parts.rest(gap, false)
        }
        Component::SchedulerCycle => {
            parts.take(Component::NodeCapacity, interval.unschedulable);
            parts.take(Component::SchedulerBucket, from(BUCKET, interval.scheduler_limited()));
            api_server(interval, &mut parts);
            let busy = interval.utilisation(Resource::SchedulerAlgorithm).unwrap_or(0.0);
            parts.rest(gap, busy >= WORKERS)
        }
        Component::PodStart => {
            parts.take(Component::ControlPlaneCpu, cores * excess);
            // The kubelet's own time, unless nothing is known of the cores.
            parts.rest(gap, interval.utilisation(Resource::Cores).is_some())
        }
        Component::VaultCpu => {
            parts.take(gap, cores);
            parts.rest(gap, false)
        }
        Component::VaultDatabaseLock => {
            parts.take(gap, from(LOCK, interval.waiting_at_the_lock()));
            parts.take(Component::VaultCpu, cores);
            parts.rest(gap, false)
        }
        // The controller measures its own queue and connections.
        other => parts.rest(other, true),
    }
}

/// What holds up requests to the API server: seats, cores, and etcd's disk.
fn api_server(interval: &Interval, parts: &mut Parts) {
    parts.take(Component::ApiSeats, from(SEATS, interval.queued_for_seats()));
    parts.take(Component::ControlPlaneCpu, cores_exhausted(interval));
    parts.take(Component::Etcd, exhausted(interval.etcd_disk(), SERIAL));
}

fn cores_exhausted(interval: &Interval) -> f64 {
    interval.utilisation(Resource::Cores).map_or(0.0, |load| exhausted(load, CORES))
}

/// Whether a fault is the outage that a component stands for, on any gap.
pub fn outage_is(fault: FaultKind, component: Component) -> bool {
    Component::ALL.iter().any(|gap| outage(fault, *gap) == Some(component))
}

/// The outage that a fault is, for a gap that it can prolong.
fn outage(fault: FaultKind, gap: Component) -> Option<Component> {
    let vault = matches!(gap, Component::VaultCpu | Component::VaultDatabaseLock);
    let queued = matches!(gap, Component::Concurrency | Component::CostBudget);
    match fault {
        FaultKind::ApiServerDown if !queued => Some(Component::ApiServerDown),
        FaultKind::EtcdLeaderLoss | FaultKind::SlowFsync if !queued && !vault => {
            Some(Component::Etcd)
        }
        FaultKind::ControllerManagerDown if gap == Component::JobControllerWorkers => {
            Some(Component::ControllerManagerDown)
        }
        FaultKind::SchedulerDown if gap == Component::SchedulerCycle => {
            Some(Component::SchedulerDown)
        }
        FaultKind::VaultSealed | FaultKind::VaultRestart if vault => Some(Component::VaultDown),
        FaultKind::PostgresDown if gap == Component::VaultDatabaseLock => Some(Component::Postgres),
        FaultKind::ControllerCrash if queued => Some(Component::ControllerDown),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use alertstorm_model::event::Capacity;

    use super::*;

    /// A resource with its load and its capacity.
    type Counter = (Resource, f64, u32);

    fn of(counters: &[Counter], gap: Component) -> Vec<(Component, f64, bool)> {
        let mut interval = Interval::default();
        for (resource, load, capacity) in counters {
            interval.load[resource.index()] = Some(*load);
            interval.capacity[resource.index()] = Capacity::whole(*capacity);
        }
        let causes = causes(&interval, gap, 0.0);
        causes.iter().map(|c| (c.component, (c.share * 100.0).round(), c.shown)).collect()
    }

    #[test]
    fn full_cores_hold_up_sync_workers_that_are_busy() {
        let counters = [
            (Resource::Cores, 1.95, 2),
            (Resource::JobSyncs, 20.0, 20),
            (Resource::ControllerManagerBucket, 0.0, 0),
        ];
        let found = of(&counters, Component::JobControllerWorkers);
        assert_eq!(found, [(Component::ControlPlaneCpu, 100.0, true)]);
    }

    #[test]
    fn a_client_s_bucket_holds_up_sync_workers_on_idle_cores() {
        let counters = [
            (Resource::Cores, 0.4, 2),
            (Resource::JobSyncs, 5.0, 5),
            (Resource::ControllerManagerBucket, 4.5, 0),
        ];
        let found = of(&counters, Component::JobControllerWorkers);
        let expected = [
            (Component::JobControllerBucket, 90.0, true),
            (Component::JobControllerWorkers, 10.0, true),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_gap_whose_cause_no_counter_shows_is_not_shown() {
        let idle = [(Resource::Cores, 0.4, 2), (Resource::JobSyncs, 0.1, 5)];
        let found = of(&idle, Component::JobControllerWorkers);
        assert_eq!(found, [(Component::JobControllerWorkers, 100.0, false)]);
        let found = of(&[], Component::SchedulerCycle);
        assert_eq!(found, [(Component::SchedulerCycle, 100.0, false)]);
    }

    #[test]
    fn requests_at_the_lock_wait_but_for_those_that_are_served() {
        let counters = [(Resource::Cores, 0.4, 2), (Resource::VaultDatabaseUsers, 10.0, 1)];
        let found = of(&counters, Component::VaultDatabaseLock);
        let expected = [
            (Component::VaultDatabaseLock, 90.0, true),
            (Component::VaultDatabaseLock, 10.0, false),
        ];
        assert_eq!(found, expected);
    }

    /// Each has the counters just below and at its bound.
    #[test]
    fn a_bucket_seats_and_a_lock_hold_nothing_up_below_their_bounds() {
        type Case = (Component, Component, fn(f64) -> [Counter; 2], f64);
        let cases: [Case; 4] = [
            (
                Component::JobControllerWorkers,
                Component::JobControllerBucket,
                |s| {
                    [(Resource::JobSyncs, 5.0, 10), (Resource::ControllerManagerBucket, 5.0 * s, 0)]
                },
                BUCKET,
            ),
            (
                Component::SchedulerCycle,
                Component::SchedulerBucket,
                |s| {
                    [(Resource::SchedulerAttempts, 2.0, 0), (Resource::SchedulerBucket, 2.0 * s, 0)]
                },
                BUCKET,
            ),
            (
                Component::ControlPlaneCpu,
                Component::ApiSeats,
                |s| [(Resource::FlowControlQueues, s, 0), (Resource::FlowControlSeats, 1.0 - s, 0)],
                SEATS,
            ),
            (
                Component::VaultDatabaseLock,
                Component::VaultDatabaseLock,
                |s| [(Resource::Cores, 0.4, 2), (Resource::VaultDatabaseUsers, 3.0 / (1.0 - s), 3)],
                LOCK,
            ),
        ];
        for (gap, cause, counters, bound) in cases {
            let below = of(&counters(bound - 0.01), gap);
            assert_eq!(below, [(gap, 100.0, false)], "{cause:?}");
            let at = of(&counters(bound + 0.01), gap);
            let share = ((bound + 0.01) * 100.0).round();
            assert_eq!(at[0], (cause, share, true), "{cause:?}");
        }
    }
}
