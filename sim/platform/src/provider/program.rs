//! The servers of a platform, and their use of processor and memory.

use std::time::Duration;

/// A server of a platform, or a program with which the local provider sets one up.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub enum Program {
    /// etcd.
    Etcd,
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager.
    ControllerManager,
    /// kube-scheduler.
    Scheduler,
    /// Vault.
    Vault,
    /// PostgreSQL's server.
    Postgres,
    /// PostgreSQL's `initdb`.
    Initdb,
}

impl Program {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Etcd,
        Self::ApiServer,
        Self::ControllerManager,
        Self::Scheduler,
        Self::Vault,
        Self::Postgres,
        Self::Initdb,
    ];

    /// The name of its file.
    pub const fn file(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Vault => "vault",
            Self::Postgres => "postgres",
            Self::Initdb => "initdb",
        }
    }

    /// How to install it.
    pub const fn got_by(self) -> &'static str {
        match self {
            Self::Postgres | Self::Initdb => {
                "install PostgreSQL's server from your distribution, like `apt-get install postgresql`"
            }
            _ => "alertstorm setup local",
        }
    }
}

/// Processor time and memory of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time since its first start, over all restarts.
    pub cpu: Duration,
    /// Resident memory in bytes, now.
    pub resident: u64,
}
