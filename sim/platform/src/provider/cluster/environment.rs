//! Settings of the cluster provider, from the command line and from environment variables, and its
//! error type.

use std::net::SocketAddr;

use alertstorm_agent::names::RunId;
use alertstorm_agent::postgres::{Login, PostgresError};
use alertstorm_agent::trust;
use alertstorm_agent::vault::{Address, VaultError};

use crate::bootstrap::BootstrapError;
use crate::provider::causes::with_causes;
use crate::sweep::SweepError;

/// Options of the command line.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The kubeconfig's context; `None` for the current one.
    pub context: Option<String>,
    /// Whether to skip the confirmation (`--yes`).
    pub yes: bool,
    /// The agent's image, which the cluster's nodes have to be able to pull.
    pub agent_image: Option<String>,
    /// Vault's URL from inside a pod; `None` if it is the same as from here.
    pub vault_for_pods: Option<String>,
    /// The API server's URL from Vault; `None` if it is the same as from here.
    pub api_server_for_vault: Option<String>,
    /// The image of the shards; `None` without shards.
    pub shard_image: Option<String>,
    /// The priority level of the agents' requests; `None` for no FlowSchema.
    pub priority_level: Option<String>,
    /// The run's id, which the names of its objects contain; `None` for a random one.
    pub run_id: Option<RunId>,
}

/// Why a run on an existing cluster could not start, or not end.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// An environment variable is missing: its name and its meaning.
    #[error("the environment variable {0} is not set: it has to be {1}")]
    Unset(&'static str, &'static str),
    /// The current context looks like production, and `--context` does not name it.
    #[error("the context `{0}` looks like production; to use it, name it: --context {0}")]
    Production(String),
    /// RBAC does not allow all that a run needs: the missing verbs and resources.
    #[error(
        "the context's user lacks these rights, which an administrator has to grant:\n  {}",
        .0.join("\n  ")
    )]
    Rights(Vec<String>),
    /// Objects with the run's names exist: each, and whose it is.
    #[error(
        "these objects exist, so the run does not begin, and nothing was written:\n  {}",
        .0.join("\n  ")
    )]
    Exists(Vec<String>),
    /// The run that was named is alive.
    #[error("{0}; it is not removed while it is alive")]
    Alive(String),
    /// The run could not begin, and what it had created could not be deleted.
    #[error(
        "{}; and then what it had created could not be deleted: {}; \
         `alertstorm clean --on cluster` deletes it",
        with_causes(.first),
        with_causes(.cleanup)
    )]
    AndCleanup {
        /// Why the run could not begin.
        first: Box<Self>,
        /// Why the deletion failed.
        cleanup: Box<Self>,
    },
    /// The confirmation was declined.
    #[error("the confirmation was declined; nothing was written")]
    Refused,
    /// `ALERTSTORM_POSTGRES` has no `@`.
    #[error("the environment variable ALERTSTORM_POSTGRES is not of the form USER@HOST:PORT")]
    PostgresAddress,
    /// The name of PostgreSQL's host cannot be resolved.
    #[error("could not resolve {host}, the host of ALERTSTORM_POSTGRES")]
    NoAddress {
        /// Host and port.
        host: String,
        /// The error of the resolver; `None` if it returned no address.
        source: Option<std::io::Error>,
    },
    /// The CA certificate of Vault cannot be read.
    #[error("could not read {path}, the file that VAULT_CACERT names")]
    VaultAuthority {
        /// The value of `VAULT_CACERT`.
        path: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The CA certificate of Vault is not valid PEM, or not a certificate.
    #[error("could not build a TLS configuration from the certificates of VAULT_CACERT")]
    Tls(#[from] rustls::Error),
    /// The kubeconfig is missing or not valid.
    #[error("could not read the kubeconfig; KUBECONFIG names its file")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// The kubeconfig has no such context.
    #[error("the kubeconfig has no context `{name}`; its contexts are: {known}")]
    NoContext {
        /// The name of `--context`, or of the current context.
        name: String,
        /// The names of all contexts.
        known: String,
    },
    /// The namespace, its Lease or the FlowSchema could not be created.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// The API server rejected a request, or did not answer.
    #[error("a request to the cluster's API server failed")]
    Api(#[from] kube::Error),
    /// A request has an invalid URL or header.
    #[error("could not build a request to the cluster's API server")]
    Request(#[from] http::Error),
    /// A request body cannot be serialised.
    #[error("could not serialise the body of a request to the cluster's API server")]
    Body(#[from] serde_json::Error),
    /// A request to Vault failed.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// PostgreSQL rejected a login or a statement, or did not answer.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// The run's objects in the cluster could not be deleted.
    #[error(transparent)]
    Sweep(#[from] SweepError),
    /// A fault of a server that does not belong to the run.
    #[error("the provider `cluster` cannot stop {0}, which does not belong to the run")]
    NotOurs(&'static str),
    /// A setting that the provider does not support, in a sentence.
    #[error("{0}")]
    Unsupported(&'static str),
}

/// Address and administrator of PostgreSQL.
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
    /// Reads `ALERTSTORM_POSTGRES`, like `admin@db.example:5432`, and `PGPASSWORD`.
    pub async fn from_environment() -> Result<Self, ClusterError> {
        let place = variable("ALERTSTORM_POSTGRES", "PostgreSQL's administrator, USER@HOST:PORT")?;
        let password = variable("PGPASSWORD", "the password of PostgreSQL's administrator")?;
        let (user, host) = place.rsplit_once('@').ok_or(ClusterError::PostgresAddress)?;
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

/// The CA certificate of Vault in PEM format; empty if `VAULT_CACERT` is not set.
pub(super) fn authority_of_vault() -> Result<String, ClusterError> {
    let Ok(path) = std::env::var("VAULT_CACERT") else { return Ok(String::new()) };
    std::fs::read_to_string(&path).map_err(|source| ClusterError::VaultAuthority { path, source })
}

/// The address and the token of Vault, from `VAULT_ADDR`, `VAULT_CACERT` and `VAULT_TOKEN`.
pub(super) fn vault_from_environment() -> Result<(Address, String), ClusterError> {
    let url = variable("VAULT_ADDR", "Vault's address, like https://vault.example:8200")?;
    let token = variable("VAULT_TOKEN", "a token that may mount engines and write policies")?;
    let url = url.trim_end_matches('/').to_owned();
    if url.starts_with("https://") {
        variable("VAULT_CACERT", "the file of the CA certificate of Vault")?;
    }
    Ok((Address { url, tls: trust::only(&authority_of_vault()?)? }, token))
}
