//! How long the resources of the platform were occupied, by the servers' own counters. Only live
//! runs record it: in the twin each wait is booked on its cause.

use serde::{Deserialize, Serialize};

words! {
    /// A resource of the platform, or the work of a server, whose occupation is measured.
    pub enum Resource {
        /// Cores of the machine that all servers share; all of its processes count, and stolen time
        /// too. Its capacity is the number of cores. Where a quota of a control group limits the servers,
        /// it is the group's cores, and its processes alone count. Only if the platform is on this machine.
        Cores = "cores of the machine",
        /// Work of the Job controller's sync workers (`workqueue_work_duration_seconds`). Its
        /// capacity is `concurrent_job_syncs`.
        JobSyncs = "syncs of the job controller",
        /// Waits of kube-controller-manager's clients for a token, for creations, updates and patches
        /// (`rest_client_rate_limiter_duration_seconds`). The metric does not separate its controllers.
        ControllerManagerBucket = "client bucket of kube-controller-manager",
        /// Scheduling attempts, including the binding
        /// (`scheduler_scheduling_attempt_duration_seconds`).
        SchedulerAttempts = "attempts of the scheduler",
        /// The scheduler's choice of a node (`scheduler_scheduling_algorithm_duration_seconds`), one
        /// pod at a time: its capacity is 1.
        SchedulerAlgorithm = "choices of a node by the scheduler",
        /// Waits of kube-scheduler's client for a token
        /// (`rest_client_rate_limiter_duration_seconds`).
        SchedulerBucket = "client bucket of kube-scheduler",
        /// Waits of requests in the queues of API Priority and Fairness
        /// (`apiserver_flowcontrol_request_wait_duration_seconds`).
        FlowControlQueues = "queues of priority and fairness",
        /// Requests on a seat of API Priority and Fairness
        /// (`apiserver_flowcontrol_request_execution_seconds`).
        FlowControlSeats = "seats of priority and fairness",
        /// Syncs of etcd's write-ahead log (`etcd_disk_wal_fsync_duration_seconds`), one at a time:
        /// its capacity is 1.
        EtcdFsync = "syncs of etcd's write-ahead log",
        /// Commits of etcd's database (`etcd_disk_backend_commit_duration_seconds`), one at a time:
        /// its capacity is 1.
        EtcdCommit = "commits of etcd's database",
        /// Requests of Vault's database engine that create, renew or drop a user, their waits for the
        /// lock of the configuration included. Its capacity is the number of configurations.
        VaultDatabaseUsers = "users of vault's database engine",
    }
}

/// How long a resource was occupied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Occupation {
    /// The resource.
    pub of: Resource,
    /// Sum over its occupations so far, in ns; cumulative since the start of the run. For a server that
    /// was restarted, the counter may start again from 0.
    pub busy_ns: u64,
    /// How many occupations are possible at once.
    pub capacity: Capacity,
}

/// How many occupations of a resource are possible at once. A container's limit may be a fraction of a
/// core, so it is a number with three decimals.
///
/// ```
/// use alertstorm_model::event::Capacity;
///
/// assert_eq!(Capacity::of(1.5).to_string(), "1.5");
/// assert_eq!(Capacity::whole(0).get(), None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capacity {
    thousandths: u32,
}

impl Capacity {
    /// A whole number; 0 if there is no limit, or it is not known.
    pub const fn whole(number: u32) -> Self {
        Self { thousandths: number.saturating_mul(1_000) }
    }

    /// A number, rounded to thousandths.
    pub fn of(number: f64) -> Self {
        Self { thousandths: (number * 1_000.0 + 0.5) as u32 }
    }

    /// The number; `None` if there is no limit, or it is not known.
    pub fn get(self) -> Option<f64> {
        (self.thousandths > 0).then(|| f64::from(self.thousandths) / 1_000.0)
    }
}

impl std::fmt::Display for Capacity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", f64::from(self.thousandths) / 1_000.0)
    }
}

impl Serialize for Capacity {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.thousandths % 1_000 {
            0 => serializer.serialize_u32(self.thousandths / 1_000),
            _ => serializer.serialize_f64(f64::from(self.thousandths) / 1_000.0),
        }
    }
}

impl<'de> Deserialize<'de> for Capacity {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        f64::deserialize(deserializer).map(Self::of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capacity_is_written_as_a_number_and_read_again() {
        for (capacity, text) in
            [(Capacity::whole(20), "20"), (Capacity::of(0.5), "0.5"), (Capacity::default(), "0")]
        {
            assert_eq!(serde_json::to_string(&capacity).unwrap(), text);
            assert_eq!(serde_json::from_str::<Capacity>(text).unwrap(), capacity);
        }
    }
}
