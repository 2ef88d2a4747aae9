//! How long the resources of the platform were occupied, by the servers' own counters. Only live
//! runs record it: in the twin each wait is booked on its cause.

use serde::{Deserialize, Serialize};

words! {
    /// A resource of the platform, or the work of a server, whose occupation is measured.
    pub enum Resource {
        /// Cores of the machine that all servers share; all of its processes count, and stolen time
        /// too. Its capacity is the number of cores. Only if the platform is on this machine.
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
    /// How many occupations are possible at once; 0 if there is no limit or it is not known.
    pub capacity: u32,
}
