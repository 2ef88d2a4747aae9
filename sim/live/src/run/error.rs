//! Why a run could not be made.

use alertstorm_agent::vault::VaultError;
use alertstorm_model::scenario::FaultKind;
use alertstorm_platform::connection::ConnectionError;
use alertstorm_platform::provider::Failure;

use crate::forensics;
use crate::shard::FleetError;

/// Why a run could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The platform is not there.
    #[error(transparent)]
    Provider(#[from] Failure),
    /// The authority of the API server cannot be read.
    #[error("the certificate of the API server's authority cannot be read")]
    Authority(#[from] rustls::Error),
    /// The API server cannot be reached.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// Vault could not be configured.
    #[error("vault could not be configured")]
    Vault(#[from] VaultError),
    /// Something could not be set up in the cluster.
    #[error("the cluster could not be set up")]
    Cluster(#[from] kube::Error),
    /// The metrics cannot be read.
    #[error("the metrics cannot be read")]
    Metrics(#[from] reqwest::Error),
    /// A trail cannot be read.
    #[error(transparent)]
    Trail(#[from] forensics::TrailError),
    /// Nodes did not get ready.
    #[error("{0} of the nodes did not get ready")]
    NodesNotReady(usize),
    /// The shards could not be deployed.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// There is no cluster to put shards into.
    #[error("shards are pods of a cluster, and this provider has hollow nodes")]
    NoPods,
    /// The scenario has a fault that this provider cannot make.
    #[error("this provider cannot make the fault `{0}`")]
    Fault(FaultKind),
}
