//! Why there is no platform in a kind cluster.

use std::io;
use std::path::PathBuf;

use alertstorm_agent::postgres::PostgresError;
use alertstorm_agent::vault::VaultError;
use kube::config::KubeconfigError;
use testcontainers::TestcontainersError;
use testcontainers::bollard;

use super::image::ImageError;
use crate::provider::causes::with_causes;
use crate::provider::command::CommandError;

/// Why there is no platform in a kind cluster.
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
        "the agent's image {image} is not in the Docker engine; `alertstorm setup kind` makes it"
    )]
    NoAgentImage {
        /// Its name.
        image: String,
        /// What Docker printed.
        source: CommandError,
    },
    /// `kind` or `docker` failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// An image could not be made.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The cluster's own folder cannot be used.
    #[error("could not read or write the folder of the kind cluster, below {}", crate::provider::state::base().display())]
    Folder(#[from] io::Error),
    /// The cluster's record cannot be used.
    #[error("could not read or write the record of the kind cluster")]
    Record(#[from] serde_json::Error),
    /// The user's own kind configuration cannot be used.
    #[error("could not read the kind configuration {}: {why}", path.display())]
    Config {
        /// Its file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// Another run uses the cluster.
    #[error(
        "the kind cluster {name} is in use by process {pid}; wait for its end, or name another"
    )]
    InUse {
        /// Its name.
        name: String,
        /// The other run.
        pid: i32,
    },
    /// A fault of a node, in a cluster without workers.
    #[error("the kind cluster {0} has no worker that could be switched off")]
    NoWorker(String),
    /// The kubeconfig of the cluster cannot be used.
    #[error("could not read the kubeconfig of the kind cluster")]
    Kubeconfig(#[from] KubeconfigError),
    /// The kubeconfig has no usable certificate of the API server's authority.
    #[error("the kubeconfig of the kind cluster has no certificate authority: {0}")]
    Authority(String),
    /// There is no client for the API server.
    #[error("could not make a client for the kind cluster's API server")]
    Client(#[from] kube::Error),
    /// The Docker engine refused or did not answer.
    #[error("the Docker engine failed")]
    Docker(#[from] bollard::errors::Error),
    /// A container did not start.
    #[error(
        "could not start a container beside the kind cluster; its image has to be in the Docker engine or in a registry"
    )]
    Container(#[from] TestcontainersError),
    /// A container is not on the cluster's network.
    #[error("the container {container} has no address on the network {network}")]
    NoAddress {
        /// Its id.
        container: String,
        /// The network's name.
        network: String,
    },
    /// A server beside the cluster did not get ready in time.
    #[error("{server} beside the kind cluster did not get ready: {why}")]
    NotReady {
        /// Which.
        server: &'static str,
        /// Its last error.
        why: String,
    },
    /// A server's log lacks a request that was made.
    #[error("{} lacks a request that was sent to the server", .0.display())]
    Trail(PathBuf),
    /// Vault's client cannot be made.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// PostgreSQL could not be set up.
    #[error("could not set up PostgreSQL beside the kind cluster")]
    Postgres(#[from] PostgresError),
    /// There is no TLS configuration.
    #[error("could not make a TLS configuration")]
    Tls(#[from] rustls::Error),
}
