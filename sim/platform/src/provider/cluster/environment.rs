//! What the user chooses on the command line, and what the environment names: Vault, PostgreSQL and
//! their credentials.

use std::net::SocketAddr;

use alertstorm_agent::postgres::{Login, PostgresError};
use alertstorm_agent::trust;
use alertstorm_agent::vault::{Address, VaultError};

use crate::bootstrap::BootstrapError;
use crate::manifests::OURS;
use crate::platform::NAMESPACE;

/// What a person may choose.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The kubeconfig's context; its current one where it is left out.
    pub context: Option<String>,
    /// Whether a person said yes to everything before.
    pub yes: bool,
    /// The agent's image, as the cluster's nodes can pull it.
    pub agent_image: Option<String>,
    /// Vault's address as pods reach it, where that is another than ours.
    pub vault_for_pods: Option<String>,
    /// The API server's address as Vault reaches it, where that is another than ours.
    pub api_server_for_vault: Option<String>,
    /// The image of shards, where the load is made in the cluster.
    pub shard_image: Option<String>,
    /// The priority level that the run's requests get by a FlowSchema of their own.
    pub priority_level: Option<String>,
}

/// Why a cluster is not used.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The environment lacks something.
    #[error("{0} is not set: {1}")]
    Unset(&'static str, &'static str),
    /// Nobody said that production is meant.
    #[error("the context `{0}` looks like production; if it is meant, name it: --context {0}")]
    Production(String),
    /// Rights are missing.
    #[error("the context's user lacks these rights:\n  {}", .0.join("\n  "))]
    Rights(Vec<String>),
    /// A namespace of our name is somebody else's.
    #[error("the namespace {NAMESPACE} is there and is not ours: it lacks the label {OURS}")]
    Foreign,
    /// A person said no.
    #[error("nothing was written")]
    Refused,
    /// `ALERTSTORM_POSTGRES` has another form.
    #[error("ALERTSTORM_POSTGRES is not like USER@HOST:PORT")]
    Postgresql,
    /// The name of PostgreSQL's host has no address.
    #[error("{host} of ALERTSTORM_POSTGRES has no address")]
    NoAddress {
        /// Host and port.
        host: String,
        /// Why not, if the look-up failed.
        source: Option<std::io::Error>,
    },
    /// The authority of Vault's certificate cannot be read.
    #[error("could not read {path}, which VAULT_CACERT names")]
    VaultAuthority {
        /// Its file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// There is no TLS configuration for Vault.
    #[error("could not make a TLS configuration for Vault from VAULT_CACERT")]
    Tls(#[from] rustls::Error),
    /// The kubeconfig cannot be used.
    #[error("could not use the kubeconfig; KUBECONFIG names its file")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// The kubeconfig has no such context.
    #[error("the kubeconfig has no context `{name}`, but: {known}")]
    NoContext {
        /// The name that was asked for.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// The FlowSchema could not be created.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// A call to the API server failed for good.
    #[error("a call to the cluster's API server failed")]
    Api(#[from] kube::Error),
    /// A request could not be made.
    #[error("could not make a request to the cluster's API server")]
    Request(#[from] http::Error),
    /// A body could not be written.
    #[error("could not write the body of a request to the cluster's API server")]
    Body(#[from] serde_json::Error),
    /// A request to Vault failed.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// PostgreSQL refused or did not answer.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// The namespace's finalizers take longer than we wait.
    #[error(
        "the namespace {NAMESPACE} is still being deleted; `kubectl get namespace {NAMESPACE} -o yaml` shows what holds it"
    )]
    StillDeleting,
    /// A fault of a server that belongs to somebody else.
    #[error("the provider `cluster` does not break {0}: it is not this run's")]
    NotOurs(&'static str),
    /// What the provider does not do.
    #[error("{0}")]
    Unsupported(&'static str),
}

/// PostgreSQL's administrator.
#[derive(Clone)]
pub(super) struct Postgres {
    pub at: SocketAddr,
    pub user: String,
    pub password: String,
}

fn variable(name: &'static str, what: &'static str) -> Result<String, ClusterError> {
    std::env::var(name).map_err(|_| ClusterError::Unset(name, what))
}

impl Postgres {
    /// `ALERTSTORM_POSTGRES` is like `admin@db.example:5432`; its password is in `PGPASSWORD`.
    pub async fn from_environment() -> Result<Self, ClusterError> {
        let place = variable("ALERTSTORM_POSTGRES", "PostgreSQL's administrator, USER@HOST:PORT")?;
        let password = variable("PGPASSWORD", "the password of PostgreSQL's administrator")?;
        let (user, host) = place.rsplit_once('@').ok_or(ClusterError::Postgresql)?;
        let none = |source| ClusterError::NoAddress { host: host.to_owned(), source };
        let found = tokio::net::lookup_host(host).await;
        let at = found.map_err(|error| none(Some(error)))?.next().ok_or_else(|| none(None))?;
        Ok(Self { at, user: user.to_owned(), password })
    }

    pub fn login<'a>(&'a self, database: &'a str) -> Login<'a> {
        let (user, password) = (&self.user, Some(self.password.as_str()));
        Login { to: self.at, from: None, user, password, database }
    }
}

/// The authority of Vault's certificate, as PEM text; empty where the environment names none.
pub(super) fn authority_of_vault() -> Result<String, ClusterError> {
    let Ok(path) = std::env::var("VAULT_CACERT") else { return Ok(String::new()) };
    std::fs::read_to_string(&path).map_err(|source| ClusterError::VaultAuthority { path, source })
}

/// Vault and the token for it.
pub(super) fn vault_from_environment() -> Result<(Address, String), ClusterError> {
    let url = variable("VAULT_ADDR", "Vault's address, like https://vault.example:8200")?;
    let token = variable("VAULT_TOKEN", "a token that may mount engines and write policies")?;
    let url = url.trim_end_matches('/').to_owned();
    if url.starts_with("https://") {
        variable("VAULT_CACERT", "the file of the authority of Vault's certificate")?;
    }
    Ok((Address { url, tls: trust::only(&authority_of_vault()?)? }, token))
}
