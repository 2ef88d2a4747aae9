//! A platform as a provider hands it to the engine: addresses, identities and trails.

use std::net::SocketAddr;
use std::path::PathBuf;

use alertstorm_agent::vault::Address;
use alertstorm_model::scenario::Plan;
use kube::Client;
use serde::{Deserialize, Serialize};

use crate::connection::{ConnectionError, Lanes};

/// The namespace that agents run in.
pub const NAMESPACE: &str = "alertstorm";

/// The Kubernetes identities that the harness plays, each with its own token.
#[derive(Clone)]
pub struct Tokens {
    /// The investigation controller's.
    pub backend: String,
    /// Reads metrics.
    pub scraper: String,
    /// Vault's, which asks with it whom a token belongs to.
    pub vault: String,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("three tokens")
    }
}

/// Who the harness is.
#[derive(Clone, Debug)]
pub enum Identities {
    /// Users whose tokens the API server has in a file.
    Users(Tokens),
    /// ServiceAccounts of the run's own, whose tokens the API server is asked for.
    Accounts,
}

/// Who plays the nodes and their pods.
#[derive(Clone)]
pub enum Agents {
    /// Hollow kubelets in the harness, each with a token of its own.
    Hollow(Vec<String>),
    /// Real kubelets with real pods.
    Pods(PodSpec),
}

impl std::fmt::Debug for Agents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Hollow(nodes) => write!(f, "{} hollow nodes", nodes.len()),
            Self::Pods(spec) => spec.fmt(f),
        }
    }
}

/// What a Job's pod is made of where a real kubelet runs it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PodSpec {
    /// The agent's image.
    pub image: String,
    /// Vault, as pods reach it.
    pub vault: String,
    /// The authority of Vault's certificate; empty where it has none.
    pub vault_ca: String,
    /// PostgreSQL, as pods reach it.
    pub postgres: SocketAddr,
}

impl PodSpec {
    /// Vault's address and port, where its URL names them and no host.
    pub fn vault_at(&self) -> Option<SocketAddr> {
        self.vault.split_once("://")?.1.trim_end_matches('/').parse().ok()
    }
}

/// Files in which the servers write down who did what; none where a server's trail is not ours to
/// read.
#[derive(Clone, Debug, Default)]
pub struct Trails {
    /// Vault's audit device.
    pub vault: Option<PathBuf>,
    /// The API server's audit log.
    pub api_server: Option<PathBuf>,
    /// PostgreSQL's log.
    pub postgres: Option<PathBuf>,
}

/// How a page of metrics is read.
#[derive(Clone, Debug)]
pub enum Page {
    /// At an address, with the scraper's token or without.
    At {
        /// The address.
        url: String,
        /// Whether the token is shown.
        with_token: bool,
    },
    /// At a path of the API server, as the scraper.
    ApiServer,
    /// Through the API server, as the administrator.
    Proxied(String),
}

/// A source of metrics.
#[derive(Clone, Debug)]
pub struct MetricsOf {
    /// Like `kube-apiserver`.
    pub component: &'static str,
    /// Where.
    pub page: Page,
}

/// What Vault must know of its surroundings.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The API server, as Vault reaches it.
    pub api_server: String,
    /// The certificate of its authority, as PEM text.
    pub api_server_ca: String,
    /// The public key of ServiceAccount tokens, as PEM text.
    pub accounts_key: String,
    /// The issuer of ServiceAccount tokens.
    pub issuer: String,
    /// PostgreSQL, as Vault reaches it.
    pub postgres: SocketAddr,
    /// Vault's own user of PostgreSQL, and its password.
    pub postgres_user: (String, String),
    /// The file of the audit trail, as Vault's process sees it; none where it is not ours to set.
    pub audit: Option<String>,
}

/// A platform that is ready.
#[derive(Clone)]
pub struct Platform {
    /// Which provider made it.
    pub provider: &'static str,
    /// The API server's address.
    pub api_server: String,
    /// The PEM text of the authority of the API server.
    pub ca: String,
    /// Sets the run up.
    pub admin: Client,
    /// The harness's other identities.
    pub identities: Identities,
    /// Who plays the nodes.
    pub agents: Agents,
    /// Vault.
    pub vault: Address,
    /// What Vault is told of its surroundings.
    pub around: Surroundings,
    /// PostgreSQL.
    pub postgres: SocketAddr,
    /// Trails.
    pub trails: Trails,
    /// Metrics.
    pub metrics: Vec<MetricsOf>,
    /// What a reader of the report must know of it.
    pub remarks: Vec<String>,
}

impl std::fmt::Debug for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {}", self.provider, self.api_server)
    }
}

/// Clients of the API server: one identity each, on lanes of their own where their load is.
#[derive(Clone, Debug)]
pub struct Clients {
    backend: Lanes,
    nodes: Lanes,
    agents: Lanes,
    tokens: Tokens,
    node_tokens: Vec<String>,
}

impl Clients {
    /// Connections for a plan.
    ///
    /// # Errors
    /// Where the platform's address or authority is wrong.
    pub fn new(platform: &Platform, tokens: &Tokens, plan: &Plan) -> Result<Self, ConnectionError> {
        let tls = alertstorm_agent::trust::only(&platform.ca)?;
        let calls = plan.scenario().controller.client.connections.get() as usize;
        let lanes = |at_once| Lanes::new(&platform.api_server, &tls, at_once);
        let node_tokens = match &platform.agents {
            Agents::Hollow(tokens) => tokens.clone(),
            Agents::Pods(_) => Vec::new(),
        };
        Ok(Self {
            backend: lanes(calls + 8)?,
            // A watch each, and a few calls at once.
            nodes: lanes(node_tokens.len() * 4)?,
            agents: lanes(plan.scenario().controller.concurrency.get() as usize / 4)?,
            tokens: tokens.clone(),
            node_tokens,
        })
    }

    /// The investigation controller's.
    ///
    /// # Errors
    /// Where its token cannot be sent.
    pub fn backend(&self) -> Result<Client, ConnectionError> {
        self.backend.client(&self.tokens.backend, NAMESPACE)
    }

    /// That of whoever reads metrics.
    ///
    /// # Errors
    /// Where its token cannot be sent.
    pub fn scraper(&self) -> Result<Client, ConnectionError> {
        self.backend.client(&self.tokens.scraper, NAMESPACE)
    }

    /// A kubelet's.
    ///
    /// # Errors
    /// Where the platform has no such node.
    pub fn node(&self, number: usize) -> Result<Client, ConnectionError> {
        let token = self.node_tokens.get(number).ok_or(ConnectionError::Token)?;
        self.nodes.client(token, NAMESPACE)
    }

    /// An agent's, with its pod's own token.
    ///
    /// # Errors
    /// Where the token cannot be sent.
    pub fn agent(&self, token: &str) -> Result<Client, ConnectionError> {
        self.agents.client(token, NAMESPACE)
    }
}
