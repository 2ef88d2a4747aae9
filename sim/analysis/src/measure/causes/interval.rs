//! One interval between two samples: how far each resource was occupied in it.

use alertstorm_model::event::{Capacity, Resource};
use alertstorm_model::scenario::FaultKind;
use alertstorm_model::time::Time;

/// What is known of the time between two samples, or between a sample and a fault.
#[derive(Clone, Debug, Default)]
pub struct Interval {
    pub until: Time,
    /// By [`Resource`]: seconds of occupation per second; `None` if no server reports it.
    pub load: [Option<f64>; Resource::COUNT],
    pub capacity: [Capacity; Resource::COUNT],
    /// Share of the pending pods for which no node has room.
    pub unschedulable: f64,
    /// Busy cores by process.
    pub processes: Vec<(String, f64)>,
    /// Faults in force.
    pub faults: Vec<FaultKind>,
}

impl Interval {
    /// Mean number of occupations at once.
    pub fn of(&self, resource: Resource) -> Option<f64> {
        self.load[resource.index()]
    }

    /// Load of a resource over its capacity; `None` if either is not known.
    pub fn utilisation(&self, resource: Resource) -> Option<f64> {
        let capacity = self.capacity[resource.index()].get()?;
        self.of(resource).map(|load| load / capacity)
    }

    fn ratio(&self, of: Resource, to: Resource) -> f64 {
        match (self.of(of), self.of(to)) {
            (Some(of), Some(to)) if to > 1e-9 => of / to,
            _ => 0.0,
        }
    }

    /// Share of the work of the Job controller's workers in which they waited for a token.
    pub fn controller_manager_limited(&self) -> f64 {
        self.ratio(Resource::ControllerManagerBucket, Resource::JobSyncs).min(1.0)
    }

    /// Share of the time for scheduling attempts in which the scheduler waited for a token.
    pub fn scheduler_limited(&self) -> f64 {
        self.ratio(Resource::SchedulerBucket, Resource::SchedulerAttempts).min(1.0)
    }

    /// Share of the API server's time for requests that they spent in queues.
    pub fn queued_for_seats(&self) -> f64 {
        let of = |resource| self.of(resource).unwrap_or(0.0);
        let (queues, seats) = (of(Resource::FlowControlQueues), of(Resource::FlowControlSeats));
        queues / (queues + seats).max(1e-9)
    }

    /// Utilisation of etcd's disk, by its log or its database.
    pub fn etcd_disk(&self) -> f64 {
        let of = |resource| self.utilisation(resource).unwrap_or(0.0);
        of(Resource::EtcdFsync).max(of(Resource::EtcdCommit))
    }

    /// Share of the requests at the lock of Vault's database engine that wait for it: all but those
    /// that are served (Little's law).
    pub fn waiting_at_the_lock(&self) -> f64 {
        let requests = self.utilisation(Resource::VaultDatabaseUsers).unwrap_or(0.0);
        if requests > 1.0 { 1.0 - 1.0 / requests } else { 0.0 }
    }
}
