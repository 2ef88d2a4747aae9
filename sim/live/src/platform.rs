//! A platform as a provider hands it to the engine: addresses, identities and trails.

use std::path::PathBuf;

use alertstorm_model::scenario::Plan;
use kube::Client;

use crate::connection::{ConnectionError, Lanes, trust};
use crate::vault::Address;
use crate::vault::setup::Surroundings;

/// The namespace that agents run in.
pub const NAMESPACE: &str = "alertstorm";

/// The Kubernetes identities that the harness plays, each with its own token.
#[derive(Clone)]
pub struct Tokens {
    /// Sets the run up.
    pub admin: String,
    /// The investigation controller's.
    pub backend: String,
    /// Reads metrics.
    pub scraper: String,
    /// One for each node, where the harness plays the kubelets.
    pub nodes: Vec<String>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "tokens of {} nodes and three others", self.nodes.len())
    }
}

/// PostgreSQL, as agents reach it.
#[derive(Clone, Debug)]
pub struct PostgresAddress {
    /// Its port on loopback.
    pub port: u16,
}

/// Files in which the servers write down who did what.
#[derive(Clone, Debug)]
pub struct Trails {
    /// Vault's audit device.
    pub vault: PathBuf,
    /// The API server's audit log.
    pub api_server: PathBuf,
    /// PostgreSQL's log.
    pub postgres: PathBuf,
}

/// A source of metrics: what, where, and whether it wants the scraper's token.
#[derive(Clone, Debug)]
pub struct MetricsOf {
    /// Like `kube-apiserver`.
    pub component: &'static str,
    /// Its address.
    pub url: String,
    /// Whether the scraper's token is shown.
    pub with_token: bool,
}

/// A platform that is ready.
#[derive(Clone, Debug)]
pub struct Platform {
    /// Which provider made it.
    pub provider: &'static str,
    /// The API server's address.
    pub api_server: String,
    /// The PEM text of the authority of all servers.
    pub ca: String,
    /// Identities.
    pub tokens: Tokens,
    /// Vault.
    pub vault: Address,
    /// What Vault is told of its surroundings.
    pub around: Surroundings,
    /// PostgreSQL.
    pub postgres: PostgresAddress,
    /// Trails.
    pub trails: Trails,
    /// Metrics.
    pub metrics: Vec<MetricsOf>,
}

/// Clients of the API server: one identity each, on lanes of their own where their load is.
#[derive(Clone, Debug)]
pub struct Clients {
    backend: Lanes,
    nodes: Lanes,
    agents: Lanes,
    tokens: Tokens,
}

impl Clients {
    /// Connections for a plan.
    ///
    /// # Errors
    /// Where the platform's address or authority is wrong.
    pub fn new(platform: &Platform, plan: &Plan) -> Result<Self, ConnectionError> {
        let tls = trust(&platform.ca)?;
        let cluster = &plan.scenario.cluster;
        let nodes = cluster.nodes.get() as usize;
        let calls = plan.scenario.controller.client.connections.get() as usize;
        let lanes = |at_once| Lanes::new(&platform.api_server, &tls, at_once);
        Ok(Self {
            backend: lanes(calls + 8)?,
            // A watch each, and a few calls at once.
            nodes: lanes(nodes * 4)?,
            agents: lanes(plan.scenario.controller.concurrency.get() as usize / 4)?,
            tokens: platform.tokens.clone(),
        })
    }

    /// The administrator's.
    ///
    /// # Errors
    /// Where its token cannot be sent.
    pub fn admin(&self) -> Result<Client, ConnectionError> {
        self.backend.client(&self.tokens.admin, NAMESPACE)
    }

    /// The investigation controller's.
    ///
    /// # Errors
    /// Where its token cannot be sent.
    pub fn backend(&self) -> Result<Client, ConnectionError> {
        self.backend.client(&self.tokens.backend, NAMESPACE)
    }

    /// A kubelet's.
    ///
    /// # Errors
    /// Where the platform has no such node.
    pub fn node(&self, number: usize) -> Result<Client, ConnectionError> {
        let token = self.tokens.nodes.get(number).ok_or(ConnectionError::Token)?;
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
