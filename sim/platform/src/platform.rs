//! What a provider returns: addresses, identities and audit trails of the servers.

use std::path::PathBuf;

use alertstorm_agent::names::Names;
use alertstorm_agent::postgres;
use alertstorm_agent::vault::Address;
use alertstorm_model::scenario::Plan;
use kube::Client;
use serde::{Deserialize, Serialize};

use crate::bearer::Bearer;
use crate::connection::{Caller, ConnectionError, Lanes};
use crate::identity::node_name;
use crate::reach::Reach;

/// Bearer tokens of the Kubernetes identities that the harness uses.
#[derive(Clone)]
pub struct Tokens {
    /// Of the investigation controller.
    pub backend: String,
    /// Of the reader of metrics.
    pub scraper: String,
    /// Of Vault, for TokenReviews and for ServiceAccount tokens.
    pub vault: String,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("three tokens")
    }
}

/// How the harness authenticates to the API server.
#[derive(Clone, Debug)]
pub enum Identities {
    /// Users of the API server's static token file.
    Users(Tokens),
    /// ServiceAccounts that the run creates; their tokens come from TokenRequests.
    Accounts,
}

/// Bearer tokens with which hollow nodes speak to the API server.
#[derive(Clone)]
pub struct NodeTokens {
    /// Of the kubelets, by the number of their node.
    pub kubelets: Vec<String>,
    /// Of KWOK, which simulates all nodes with one identity: the administrator's.
    pub kwok: String,
}

/// What runs the nodes and their pods.
#[derive(Clone)]
pub enum Agents {
    /// Hollow nodes in the harness.
    Hollow(NodeTokens),
    /// Real kubelets with real pods.
    Pods(Box<PodSpec>),
}

impl std::fmt::Debug for Agents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Hollow(tokens) => write!(f, "{} hollow nodes", tokens.kubelets.len()),
            Self::Pods(spec) => spec.fmt(f),
        }
    }
}

/// The settings of an agent's pod that a real kubelet runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PodSpec {
    /// The agent's image.
    pub image: String,
    /// The URL of Vault from inside a pod.
    pub vault: String,
    /// The CA certificate of Vault in PEM format; empty for plain HTTP.
    pub vault_ca: String,
    /// Vault's namespace; `None` for the root namespace.
    #[serde(default)]
    pub vault_namespace: Option<String>,
    /// The address of PostgreSQL from inside a pod.
    pub postgres: postgres::Address,
    /// The servers that the pods may connect to.
    #[serde(default)]
    pub reach: Reach,
}

/// Files of the servers' audit trails; `None` if the harness cannot read one.
#[derive(Clone, Debug, Default)]
pub struct Trails {
    /// The file of Vault's audit device.
    pub vault: Option<PathBuf>,
    /// The API server's audit log.
    pub api_server: Option<PathBuf>,
    /// PostgreSQL's log.
    pub postgres: Option<PathBuf>,
}

/// The place of a page of metrics.
#[derive(Clone, Debug)]
pub enum Page {
    /// A URL.
    At {
        /// The address.
        url: String,
        /// Whether the request has the scraper's token.
        with_token: bool,
    },
    /// The API server's `/metrics`, read with the scraper's token.
    ApiServer,
    /// A path of the API server's pod proxy, read with the administrator's credentials.
    Proxied(String),
}

/// A source of metrics.
#[derive(Clone, Debug)]
pub struct MetricsOf {
    /// The name of its component, like `kube-apiserver`.
    pub component: &'static str,
    /// The place of its page.
    pub page: Page,
}

/// The settings from which Vault is configured.
#[derive(Clone)]
pub struct Surroundings {
    /// The URL of the API server from Vault.
    pub api_server: String,
    /// The CA certificate of the API server in PEM format.
    pub api_server_ca: String,
    /// The public key of ServiceAccount tokens in PEM format; empty for `vault.auth: kubernetes` on
    /// `cluster`.
    pub accounts_key: String,
    /// The issuer of ServiceAccount tokens.
    pub issuer: String,
    /// The address of PostgreSQL from Vault.
    pub postgres: postgres::Address,
    /// User and password with which Vault logs in to PostgreSQL.
    pub postgres_user: (String, String),
    /// The path of the audit file in Vault's file system; `None` if no audit device is enabled.
    pub audit: Option<String>,
}

impl std::fmt::Debug for Surroundings {
    /// Without the password of Vault's user.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings")
            .field("api_server", &self.api_server)
            .field("issuer", &self.issuer)
            .field("postgres", &self.postgres)
            .field("postgres_user", &self.postgres_user.0)
            .field("audit", &self.audit)
            .finish_non_exhaustive()
    }
}

/// A platform whose servers are ready.
#[derive(Clone)]
pub struct Platform {
    /// Name of the provider: `local`, `kind` or `cluster`.
    pub provider: &'static str,
    /// The names of the run's objects.
    pub names: Names,
    /// Whether these objects exist, as `alertstorm render` writes them. Otherwise the run creates them.
    pub is_prepared: bool,
    /// The URL of the API server.
    pub api_server: String,
    /// The CA certificate of the API server in PEM format.
    pub ca: String,
    /// A client with the administrator's credentials.
    pub admin: Client,
    /// The harness's other identities.
    pub identities: Identities,
    /// What runs the nodes and the agents.
    pub agents: Agents,
    /// The URL and the TLS configuration of Vault.
    pub vault: Address,
    /// The settings from which Vault is configured.
    pub around: Surroundings,
    /// The address of PostgreSQL from the harness.
    pub postgres: postgres::Address,
    /// Audit trails.
    pub trails: Trails,
    /// Sources of metrics.
    pub metrics: Vec<MetricsOf>,
    /// Remarks on the platform for the report.
    pub remarks: Vec<String>,
}

impl std::fmt::Debug for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {}", self.provider, self.api_server)
    }
}

/// Clients of the API server, for the run's namespace. The controller, the nodes and the agents have separate connections.
#[derive(Clone)]
pub struct Clients {
    backend: Lanes,
    nodes: Lanes,
    agents: Lanes,
    backend_token: Bearer,
    scraper_token: Bearer,
    /// None with real kubelets.
    node_tokens: Option<NodeTokens>,
    namespace: String,
}

impl std::fmt::Debug for Clients {
    /// Without the tokens.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clients")
            .field("backend", &self.backend)
            .field("nodes", &self.nodes)
            .field("agents", &self.agents)
            .finish_non_exhaustive()
    }
}

impl Clients {
    /// Connections for a plan.
    ///
    /// # Errors
    /// If the URL or the CA certificate of the API server is invalid.
    pub fn new(platform: &Platform, tokens: &Tokens, plan: &Plan) -> Result<Self, ConnectionError> {
        let tls = alertstorm_agent::trust::only(&platform.ca)?;
        let calls = plan.scenario().controller.client.connections.get() as usize;
        let lanes = |name, at_once| Lanes::new(name, &platform.api_server, &tls, at_once);
        let node_tokens = match &platform.agents {
            Agents::Hollow(tokens) => Some(tokens.clone()),
            Agents::Pods(_) => None,
        };
        let nodes = node_tokens.as_ref().map_or(0, |tokens| tokens.kubelets.len());
        Ok(Self {
            backend: lanes("backend", calls + 8)?,
            // A few concurrent calls for each node.
            nodes: lanes("nodes", nodes * 3)?,
            agents: lanes("agents", plan.scenario().controller.concurrency.get() as usize / 4)?,
            backend_token: Bearer::new(&tokens.backend)?,
            scraper_token: Bearer::new(&tokens.scraper)?,
            node_tokens,
            namespace: platform.names.namespace().to_owned(),
        })
    }

    /// The client of the investigation controller.
    pub fn backend(&self) -> Caller {
        self.backend.caller_of("backend", &self.backend_token, &self.namespace)
    }

    /// The client that reads metrics.
    pub fn scraper(&self) -> Client {
        self.backend.client_of("scraper", &self.scraper_token, &self.namespace)
    }

    /// The tokens of the investigation controller and of the reader of metrics, which can be renewed.
    pub fn bearers(&self) -> [Bearer; 2] {
        [self.backend_token.clone(), self.scraper_token.clone()]
    }

    /// The client of a hollow kubelet.
    ///
    /// # Errors
    /// [`ConnectionError::NoNode`]; [`ConnectionError::Token`].
    pub fn node(&self, number: usize) -> Result<Caller, ConnectionError> {
        let token = self.node_tokens.as_ref().and_then(|tokens| tokens.kubelets.get(number));
        let token = token.ok_or(ConnectionError::NoNode(number))?;
        Ok(self.nodes.caller_of(&node_name(number), &Bearer::new(token)?, &self.namespace))
    }

    /// The client of KWOK.
    ///
    /// # Errors
    /// [`ConnectionError::NoNode`] with real kubelets; [`ConnectionError::Token`].
    pub fn kwok(&self) -> Result<Caller, ConnectionError> {
        let tokens = self.node_tokens.as_ref().ok_or(ConnectionError::NoNode(0))?;
        Ok(self.nodes.caller_of("kwok", &Bearer::new(&tokens.kwok)?, &self.namespace))
    }

    /// The client of the agent in `pod`, with the pod's token.
    ///
    /// # Errors
    /// [`ConnectionError::Token`].
    pub fn agent(&self, pod: &str, token: &str) -> Result<Client, ConnectionError> {
        self.agents.client(pod, token, &self.namespace)
    }

    /// All connections.
    pub fn lanes(&self) -> [Lanes; 3] {
        [self.backend.clone(), self.nodes.clone(), self.agents.clone()]
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;

    const SECRET: &str = "a-secret-of-the-test";

    #[test]
    fn debug_output_contains_no_secret() {
        let secret = || SECRET.to_owned();
        let node_tokens = || NodeTokens { kubelets: vec![secret()], kwok: secret() };
        let tokens = Tokens { backend: secret(), scraper: secret(), vault: secret() };
        let around = Surroundings {
            api_server: "https://127.0.0.1:6443".to_owned(),
            api_server_ca: String::new(),
            accounts_key: String::new(),
            issuer: "https://issuer".to_owned(),
            postgres: postgres::Address::plain(SocketAddr::from((Ipv4Addr::LOCALHOST, 5432))),
            postgres_user: ("vault_user".to_owned(), secret()),
            audit: None,
        };
        let tls = rustls::ClientConfig::builder_with_provider(
            rustls::crypto::ring::default_provider().into(),
        )
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
        let lanes = Lanes::new("test", "https://127.0.0.1:6443", &tls, 1).expect("lanes");
        let clients = Clients {
            backend: lanes.clone(),
            nodes: lanes.clone(),
            agents: lanes,
            backend_token: Bearer::new(SECRET).expect("a header"),
            scraper_token: Bearer::new(SECRET).expect("a header"),
            node_tokens: Some(node_tokens()),
            namespace: "default".to_owned(),
        };
        let shown = [
            format!("{tokens:?}"),
            format!("{:?}", Identities::Users(tokens)),
            format!("{:?}", Agents::Hollow(node_tokens())),
            format!("{around:?}"),
            format!("{clients:?}"),
        ];
        for text in &shown {
            assert!(!text.contains(SECRET), "{text}");
        }
        assert!(shown[3].contains("vault_user"), "{}", shown[3]);
    }
}
