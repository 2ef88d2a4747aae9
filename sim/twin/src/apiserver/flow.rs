//! Flow schemas and priority levels of kube-apiserver's suggested configuration. Facts from
//! k8s.io/apiserver v0.36.3: pkg/apis/flowcontrol/bootstrap/default.go.

use crate::call::Client;

/// A priority level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Exempt,
    System,
    NodeHigh,
    LeaderElection,
    WorkloadHigh,
    WorkloadLow,
    GlobalDefault,
    CatchAll,
}

/// What the suggested configuration gives a level.
#[derive(Clone, Copy, Debug)]
pub(super) struct Suggested {
    pub name: &'static str,
    pub shares: u32,
    /// Lendable share of the nominal seats, 0 to 1.
    pub lendable: f64,
    /// No queue: a request without a seat is rejected.
    pub queues: usize,
    pub hand_size: usize,
}

impl Level {
    pub const ALL: &'static [Self] = &[
        Self::Exempt,
        Self::System,
        Self::NodeHigh,
        Self::LeaderElection,
        Self::WorkloadHigh,
        Self::WorkloadLow,
        Self::GlobalDefault,
        Self::CatchAll,
    ];
    pub const COUNT: usize = Self::ALL.len();

    pub(super) const fn suggested(self) -> Suggested {
        let (name, shares, lendable, queues, hand_size) = match self {
            Self::Exempt => ("exempt", 0, 0.0, 0, 0),
            Self::System => ("system", 30, 0.33, 64, 6),
            Self::NodeHigh => ("node-high", 40, 0.25, 64, 6),
            Self::LeaderElection => ("leader-election", 10, 0.0, 16, 4),
            Self::WorkloadHigh => ("workload-high", 40, 0.5, 128, 6),
            Self::WorkloadLow => ("workload-low", 100, 0.9, 128, 6),
            Self::GlobalDefault => ("global-default", 20, 0.5, 128, 6),
            Self::CatchAll => ("catch-all", 5, 0.0, 0, 0),
        };
        Suggested { name, shares, lendable, queues, hand_size }
    }

    pub const fn index(self) -> usize {
        self as usize
    }
}

/// The level that a client's flow schema assigns it to.
pub(super) const fn level(client: Client) -> Level {
    match client {
        Client::JobController
        | Client::TtlController
        | Client::GarbageCollector
        | Client::NodeLifecycle
        | Client::Scheduler
        | Client::SchedulerEvents => Level::WorkloadHigh,
        Client::Kubelet(_) | Client::KubeletEvents(_) => Level::System,
        Client::Backend | Client::Vault | Client::Agent(_) => Level::WorkloadLow,
        // KWOK runs as an administrator.
        Client::Kwok => Level::Exempt,
    }
}

/// The client's flow within its level: flows are distinguished by user.
pub(super) fn flow(client: Client) -> u64 {
    match client {
        Client::Kubelet(node) | Client::KubeletEvents(node) => 1_000 + u64::from(node),
        Client::Agent(who) => 1 << 32 | u64::from(who.slot()),
        Client::Backend => 1,
        Client::JobController => 2,
        Client::TtlController => 3,
        Client::GarbageCollector => 4,
        Client::NodeLifecycle => 5,
        Client::Scheduler | Client::SchedulerEvents => 6,
        Client::Kwok => 7,
        Client::Vault => 8,
    }
}
