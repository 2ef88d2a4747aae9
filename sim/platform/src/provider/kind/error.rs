//! The error type of the kind provider.

use std::io;
use std::path::PathBuf;

use alertstorm_agent::postgres::PostgresError;
use alertstorm_agent::vault::VaultError;
use kube::config::KubeconfigError;
use testcontainers::TestcontainersError;
use testcontainers::bollard;

use super::image::ImageError;
use crate::bootstrap::BootstrapError;
use crate::provider::causes::with_causes;
use crate::provider::command::CommandError;
use crate::provider::state::base;
use crate::sweep::SweepError;

/// Why a platform with a kind cluster could not be started, used or removed.
#[derive(Debug, thiserror::Error)]
pub enum KindError {
    /// A start failed, and what it had created could not be removed.
    #[error(
        "{}; and then what it had created could not be removed: {}; `alertstorm clean` removes it",
        with_causes(.first),
        with_causes(.cleanup)
    )]
    AndCleanup {
        /// Why the start failed.
        first: Box<Self>,
        /// Why the removal failed.
        cleanup: Box<Self>,
    },
    /// The agent's image is not in the Docker engine.
    #[error(
        "the agent's image {image} is not in the Docker engine; `alertstorm setup kind` builds it"
    )]
    NoAgentImage {
        /// The image's name.
        image: String,
        /// The error of `docker image inspect`.
        source: CommandError,
    },
    /// `kind` or `docker` failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The image of the agent or of the shards could not be built.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A file of the cluster's folder could not be read, written or removed.
    #[error("could not read or write the folder of the kind cluster, below {}", base().display())]
    Folder(#[from] io::Error),
    /// The JSON of the cluster's record or configuration is not valid.
    #[error(
        "could not read or write the record of the kind cluster; `alertstorm clean` removes \
         what killed runs left"
    )]
    Record(#[from] serde_json::Error),
    /// The file of `--kind-config` cannot be read, or is not YAML.
    #[error("could not read the kind configuration {}: {why}", path.display())]
    Config {
        /// The file's path.
        path: PathBuf,
        /// The error of the operating system or of the parser.
        why: String,
    },
    /// Another run uses the cluster.
    #[error(
        "the kind cluster {name} is in use by process {pid}; wait for its end, or \
         choose another name with --kind-name"
    )]
    InUse {
        /// The cluster's name.
        name: String,
        /// PID of the other run.
        pid: i32,
    },
    /// A fault needs a worker node, and the cluster has none.
    #[error("the kind cluster {0} has no worker node to power off")]
    NoWorker(String),
    /// The output of `kind get kubeconfig` is not valid.
    #[error("could not read the kubeconfig of the kind cluster")]
    Kubeconfig(#[from] KubeconfigError),
    /// The CA certificate in the kubeconfig is missing or not valid: why.
    #[error("could not read the CA certificate in the kubeconfig of the kind cluster: {0}")]
    Authority(String),
    /// The client of the API server could not be built.
    #[error("could not build a client of the kind cluster's API server")]
    Client(#[from] kube::Error),
    /// The addresses of the API server cannot be read.
    #[error("could not read the addresses of the kind cluster's API server")]
    ApiServer(#[source] kube::Error),
    /// The Docker engine rejected a request, or did not answer.
    #[error("a request to the Docker engine failed")]
    Docker(#[from] bollard::errors::Error),
    /// A container did not start.
    #[error(
        "could not start the container of Vault or PostgreSQL; its image has to be in the \
         Docker engine or in a registry"
    )]
    Container(#[from] TestcontainersError),
    /// A container has no address on the cluster's network.
    #[error(
        "the container {container} has no address on the Docker network {network}; \
         KIND_EXPERIMENTAL_DOCKER_NETWORK names the network of kind"
    )]
    NoAddress {
        /// The container's id.
        container: String,
        /// The network's name.
        network: String,
    },
    /// Vault or PostgreSQL was not ready within 90 s.
    #[error("{server} of the kind cluster did not become ready: {why}")]
    NotReady {
        /// The server's name.
        server: &'static str,
        /// The result of the last readiness check.
        why: String,
    },
    /// A server's log does not contain a test request within 10 s.
    #[error("the audit trail {} lacks a request that was sent to its server", .0.display())]
    Trail(PathBuf),
    /// The client of Vault could not be built.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A login or a statement of the set-up failed.
    #[error("could not set up PostgreSQL of the kind cluster")]
    Postgres(#[from] PostgresError),
    /// The TLS configuration could not be built.
    #[error("could not build a TLS configuration")]
    Tls(#[from] rustls::Error),
    /// The namespace of the run, or its Lease, could not be created.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// What the run created in a cluster that is kept could not be deleted.
    #[error(transparent)]
    Sweep(#[from] SweepError),
}
