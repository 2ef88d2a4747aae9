//! Errors of a run and of its teardown.

use alertstorm_agent::vault::VaultError;
use alertstorm_model::scenario::FaultKind;
use alertstorm_platform::bootstrap::BootstrapError;
use alertstorm_platform::connection::ConnectionError;
use alertstorm_platform::provider::{Program, ProviderError};

use crate::forensics;
use crate::shard::FleetError;

/// An error of a run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The platform is not available.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// The API server's certificate authority is invalid.
    #[error("the certificate authority of the API server is invalid")]
    Authority(#[from] rustls::Error),
    /// No client of the API server could be built.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// A request to Vault failed.
    #[error("a request to Vault failed")]
    Vault(#[from] VaultError),
    /// A login role of Vault issues batch tokens.
    #[error(
        "the Vault role {0} issues batch tokens, which have no accessor, so that nobody can look them up \
         or revoke them; set `token_type` of the role to `service`, and of its auth mount to \
         `default-service`"
    )]
    BatchTokens(String),
    /// An object of the run could not be created.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// A request to the API server failed while the cluster was set up.
    #[error("failed to set up the cluster")]
    Cluster(#[from] kube::Error),
    /// The client that reads the metrics could not be built.
    #[error("failed to build the HTTP client for metrics")]
    Metrics(#[from] reqwest::Error),
    /// An audit log cannot be read.
    #[error(transparent)]
    Trail(#[from] forensics::TrailError),
    /// This many nodes were not ready in time.
    #[error("{0} of the nodes did not become ready")]
    NodesNotReady(usize),
    /// The shards could not be deployed.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// Shards need nodes that run containers.
    #[error("shards run in pods, but the hollow nodes of this provider run no containers")]
    NoPods,
    /// The provider does not support a fault of the scenario.
    #[error("this provider does not support the fault `{0}`")]
    Fault(FaultKind),
    /// The run itself panicked; the panic's message is on standard error.
    #[error("the harness panicked; the run is invalid")]
    Panicked,
    /// The run failed after servers had died.
    #[error("{}; these servers died and were started again: {servers}", with_causes(.first))]
    AfterDeaths {
        /// The error of the run. Its text is part of this error's own, so it is no source.
        first: Box<Self>,
        /// Their names.
        servers: String,
    },
    /// The run failed, and then its teardown.
    #[error("{}\nthe teardown failed, too: {}", with_causes(.first), lines(.left))]
    AndTeardown {
        /// The error of the run. Its text is part of this error's own, so it is no source.
        first: Box<Self>,
        /// The errors of the teardown.
        left: Vec<TeardownError>,
    },
    /// The run succeeded, and the teardown failed.
    #[error("{}", lines(.0))]
    Teardown(Vec<TeardownError>),
}

impl RunError {
    /// The result of a run, from those of its phases and its teardown.
    pub(super) fn of(done: Result<(), Self>, left: Vec<TeardownError>) -> Result<(), Self> {
        match (done, left.is_empty()) {
            (done, true) => done,
            (Ok(()), false) => Err(Self::Teardown(left)),
            (Err(first), false) => Err(Self::AndTeardown { first: Box::new(first), left }),
        }
    }

    /// The same error, with the servers that had died.
    pub(super) fn after(self, deaths: &[Program]) -> Self {
        if deaths.is_empty() {
            return self;
        }
        let servers: Vec<&str> = deaths.iter().map(|program| program.file()).collect();
        Self::AfterDeaths { first: Box::new(self), servers: servers.join(", ") }
    }

    /// The error of the run itself, without those of its teardown.
    pub fn first(&self) -> &Self {
        match self {
            Self::AndTeardown { first, .. } | Self::AfterDeaths { first, .. } => first.first(),
            other => other,
        }
    }
}

fn lines(left: &[TeardownError]) -> String {
    left.iter().map(|error| with_causes(error)).collect::<Vec<_>>().join("\n")
}

/// An error and its chain of sources, on one line.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |source| source.source());
    sources.fold(error.to_string(), |text, source| format!("{text}: {source}"))
}

/// Objects of a run that could not be deleted.
#[derive(Debug, thiserror::Error)]
pub enum TeardownError {
    /// The shards' Job or a ConfigMap of it.
    #[error("failed to delete the shards; `alertstorm clean` deletes them")]
    Shards(#[source] kube::Error),
    /// A hollow node.
    #[error("failed to delete the node {name}; the next run on this platform reuses it")]
    Node {
        /// The Node's name.
        name: String,
        /// The cause.
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
    fn a_failed_teardown_does_not_replace_the_error_of_the_run() {
        let error = RunError::of(Err(RunError::NodesNotReady(2)), vec![node()]).unwrap_err();
        assert!(matches!(error.first(), RunError::NodesNotReady(2)));
        let text = error.to_string();
        assert!(text.starts_with("2 of the nodes") && text.contains("node-0003"), "{text}");
    }

    #[test]
    fn the_error_of_a_run_names_the_servers_that_died() {
        let error = RunError::NodesNotReady(2).after(&[Program::Etcd, Program::Vault]);
        assert!(matches!(error.first(), RunError::NodesNotReady(2)));
        assert!(error.to_string().ends_with("started again: etcd, vault"), "{error}");
        assert!(matches!(RunError::NodesNotReady(2).after(&[]), RunError::NodesNotReady(2)));
    }

    #[test]
    fn a_failed_teardown_alone_fails_the_run() {
        assert!(matches!(RunError::of(Ok(()), vec![node()]), Err(RunError::Teardown(_))));
        assert!(RunError::of(Ok(()), Vec::new()).is_ok());
    }
}
