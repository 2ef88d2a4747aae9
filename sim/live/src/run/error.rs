//! Why a run could not be made, and why what it made could not be taken back.

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
    /// The run failed, and after it the teardown.
    #[error("{first}\nand after it: {}", lines(.left))]
    AndTeardown {
        /// Why the run failed.
        #[source]
        first: Box<Self>,
        /// What could not be taken back.
        left: Vec<TeardownError>,
    },
    /// The run succeeded, and the teardown failed.
    #[error("{}", lines(.0))]
    Teardown(Vec<TeardownError>),
}

impl RunError {
    /// What a run came to, from its phases and its teardown: the first error stays the first.
    pub(super) fn of(done: Result<(), Self>, left: Vec<TeardownError>) -> Result<(), Self> {
        match (done, left.is_empty()) {
            (done, true) => done,
            (Ok(()), false) => Err(Self::Teardown(left)),
            (Err(first), false) => Err(Self::AndTeardown { first: Box::new(first), left }),
        }
    }

    /// Why the run itself failed.
    pub fn first(&self) -> &Self {
        match self {
            Self::AndTeardown { first, .. } => first,
            other => other,
        }
    }
}

fn lines(left: &[TeardownError]) -> String {
    let with_cause = |error: &TeardownError| match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    };
    left.iter().map(with_cause).collect::<Vec<_>>().join("\n")
}

/// What a run made and could not take back.
#[derive(Debug, thiserror::Error)]
pub enum TeardownError {
    /// The Job of the shards, or what belongs to it.
    #[error("could not delete the shards; `alertstorm clean` does")]
    Shards(#[source] kube::Error),
    /// The run's Jobs and identities.
    #[error("could not delete the run's Jobs; the next run on this platform does")]
    Jobs(#[source] kube::Error),
    /// Leases that are still alive.
    #[error("could not revoke the run's leases; they end at their own time")]
    Leases(#[source] VaultError),
    /// A hollow node.
    #[error("could not delete the node {name}; the next run on this platform takes it over")]
    Node {
        /// Its name.
        name: String,
        /// Why not.
        source: kube::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> TeardownError {
        let source = kube::Error::TlsRequired;
        TeardownError::Node { name: "node-0003".to_owned(), source }
    }

    #[test]
    fn a_failed_teardown_is_reported_beside_the_first_error() {
        let error = RunError::of(Err(RunError::NodesNotReady(2)), vec![node()]).unwrap_err();
        assert!(matches!(error.first(), RunError::NodesNotReady(2)));
        let text = error.to_string();
        assert!(text.starts_with("2 of the nodes") && text.contains("node-0003"), "{text}");
    }

    #[test]
    fn a_failed_teardown_alone_fails_the_run() {
        assert!(matches!(RunError::of(Ok(()), vec![node()]), Err(RunError::Teardown(_))));
        assert!(RunError::of(Ok(()), Vec::new()).is_ok());
    }
}
