//! The cluster provider: any cluster that a kubeconfig names, any Vault and any PostgreSQL. It asks
//! before it writes, works in one namespace of its own, and takes everything back at the end.

mod sweep;
mod target;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use alertstorm_agent::names::{POLICIES, login_mount, mount};
use alertstorm_agent::postgres::{Login, connect};
use alertstorm_agent::trust;
use alertstorm_model::investigation::Domain;
use alertstorm_model::scenario::knobs::{AuthMethod, Engine};
use alertstorm_model::scenario::{FaultKind, Plan};
use futures::future::{BoxFuture, LocalBoxFuture};

use super::kind::AGENT_IMAGE;
use super::{Failure, Program, Provider, Usage, secret};
use crate::bootstrap;
use crate::manifests::flow_schema;
use crate::platform::{Agents, Identities, MetricsOf, NAMESPACE, Page, Platform, PodSpec, Trails};
use crate::postgres::{VAULT_USER, set_up, take_down};
use crate::vault::setup::Surroundings;
use crate::vault::{Address, Vault, VaultError};
use sweep::{OURS, get, is_ours, sweep, sweep_vault};
use target::{Target, lacking};

pub use sweep::clean;

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
    /// What the provider does not do.
    #[error("{0}")]
    Unsupported(&'static str),
}

/// A cluster.
pub struct Cluster {
    platform: Platform,
    vault: Address,
    vault_token: String,
    postgres: Postgres,
    auth: AuthMethod,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the cluster at {}", self.platform.api_server)
    }
}

/// PostgreSQL's administrator.
#[derive(Clone)]
struct Postgres {
    at: SocketAddr,
    user: String,
    password: String,
}

fn variable(name: &'static str, what: &'static str) -> Result<String, ClusterError> {
    std::env::var(name).map_err(|_| ClusterError::Unset(name, what))
}

impl Postgres {
    /// `ALERTSTORM_POSTGRES` is like `admin@db.example:5432`; its password is in `PGPASSWORD`.
    async fn from_environment() -> Result<Self, Failure> {
        let place = variable("ALERTSTORM_POSTGRES", "PostgreSQL's administrator, USER@HOST:PORT")?;
        let password = variable("PGPASSWORD", "the password of PostgreSQL's administrator")?;
        let (user, host) = place.rsplit_once('@').ok_or("ALERTSTORM_POSTGRES: no USER@ in it")?;
        let at = tokio::net::lookup_host(host).await?.next();
        let at = at.ok_or_else(|| format!("{host} has no address"))?;
        Ok(Self { at, user: user.to_owned(), password })
    }

    fn login<'a>(&'a self, database: &'a str) -> Login<'a> {
        let (user, password) = (&self.user, Some(self.password.as_str()));
        Login { to: self.at, from: None, user, password, database }
    }
}

impl Cluster {
    /// The platform that the context, `VAULT_ADDR` and `ALERTSTORM_POSTGRES` name. Nothing is written
    /// before `confirm` was shown what will be and said yes.
    ///
    /// # Errors
    /// What is missing, forbidden or refused.
    pub fn start<'a>(
        plan: &'a Plan,
        options: &'a Options,
        confirm: &'a (dyn Fn(&str) -> bool + Sync),
    ) -> LocalBoxFuture<'a, Result<Self, Failure>> {
        Box::pin(Self::ask_and_take(plan, options, confirm))
    }

    async fn ask_and_take(
        plan: &Plan,
        options: &Options,
        confirm: &(dyn Fn(&str) -> bool + Sync),
    ) -> Result<Self, Failure> {
        let scenario = plan.scenario();
        if scenario.vault.auth == AuthMethod::Jwt {
            let why = "a cluster's Vault is configured with `vault.auth: kubernetes`";
            return Err(ClusterError::Unsupported(why).into());
        }
        let (vault, vault_token) = vault_from_environment()?;
        let postgres = Postgres::from_environment().await?;
        let target = Target::find(options).await?;
        let lacking = lacking(&target.client, options).await?;
        if !lacking.is_empty() {
            return Err(ClusterError::Rights(lacking).into());
        }
        let namespace = get(&target.client, &format!("/api/v1/namespaces/{NAMESPACE}")).await?;
        if namespace.is_some_and(|found| !is_ours(&found)) {
            return Err(ClusterError::Foreign.into());
        }
        Vault::new(&vault, None, &vault_token)?.read("auth/token/lookup-self").await?;
        connect(postgres.login("postgres")).await?;
        let image = options.agent_image.clone().unwrap_or_else(|| AGENT_IMAGE.to_owned());
        if !options.yes
            && !confirm(&announcement(plan, options, &target, &vault, &postgres, &image))
        {
            return Err(ClusterError::Refused.into());
        }
        let vault_password = secret::token();
        let admin = (postgres.user.as_str(), postgres.password.as_str());
        set_up(postgres.at, admin, (VAULT_USER, &vault_password)).await?;
        if let Some(level) = &options.priority_level {
            bootstrap::apply_one(&target.client, &flow_schema(level, NAMESPACE), "").await?;
        }
        let for_pods = options.vault_for_pods.clone().unwrap_or_else(|| vault.url.clone());
        let unread = "the trails of this cluster, its Vault and its PostgreSQL are not ours to read: \
                      nothing is said of attribution, and refusals are the agents' own word";
        let platform = Platform {
            provider: "cluster",
            api_server: target.api_server.clone(),
            admin: target.client,
            identities: Identities::Accounts,
            agents: Agents::Pods(PodSpec {
                image,
                vault: for_pods,
                vault_ca: authority_of_vault()?,
                postgres: postgres.at,
            }),
            vault: vault.clone(),
            around: Surroundings {
                api_server: options.api_server_for_vault.clone().unwrap_or(target.api_server),
                api_server_ca: target.ca.clone(),
                accounts_key: String::new(),
                issuer: String::new(),
                postgres: postgres.at,
                postgres_user: (VAULT_USER.to_owned(), vault_password),
                audit: None,
            },
            ca: target.ca,
            postgres: postgres.at,
            trails: Trails::default(),
            metrics: vec![MetricsOf { component: "kube-apiserver", page: Page::ApiServer }],
            remarks: vec![unread.to_owned()],
        };
        let auth = scenario.vault.auth;
        Ok(Self { platform, vault, vault_token, postgres, auth })
    }
}

fn authority_of_vault() -> Result<String, Failure> {
    let Ok(path) = std::env::var("VAULT_CACERT") else { return Ok(String::new()) };
    Ok(std::fs::read_to_string(&path).map_err(|error| format!("VAULT_CACERT {path}: {error}"))?)
}

fn vault_from_environment() -> Result<(Address, String), Failure> {
    let url = variable("VAULT_ADDR", "Vault's address, like https://vault.example:8200")?;
    let token = variable("VAULT_TOKEN", "a token that may mount engines and write policies")?;
    let url = url.trim_end_matches('/').to_owned();
    if url.starts_with("https://") {
        variable("VAULT_CACERT", "the file of the authority of Vault's certificate")?;
    }
    Ok((Address { url, tls: trust::only(&authority_of_vault()?)? }, token))
}

/// What will be written, where, for how long.
fn announcement(
    plan: &Plan,
    options: &Options,
    target: &Target,
    vault: &Address,
    postgres: &Postgres,
    image: &str,
) -> String {
    let engines: Vec<String> = Domain::ALL
        .iter()
        .map(|&domain| {
            let engine: Engine = plan.scenario().vault.secrets.of(domain).engine;
            format!("{} ({engine})", mount(domain))
        })
        .collect();
    let shards = options.shard_image.as_ref();
    let shards = shards.map(|image| format!("\n    and the Job of the shards, of image {image}"));
    let flow = options.priority_level.as_ref();
    let flow = flow.map(|level| format!("\n    FlowSchema alertstorm, to priority level {level}"));
    format!(
        "In the cluster of context {} ({}) this makes, and takes back at its end:\n    \
         Namespace {NAMESPACE}, and in it ServiceAccounts, Roles and RoleBindings, ConfigMaps, a \
         NetworkPolicy, a LimitRange,\n    and up to {} Jobs, {} at once, of image {image}{}\n    \
         ClusterRole alertstorm-scraper (GET /metrics); ClusterRoleBindings alertstorm-scraper, \
         alertstorm-vault{}\n\
         In Vault at {}: auth/{}, {}, alertstorm/systems, policies {POLICIES}agent-*\n\
         In PostgreSQL at {}: database {}, users {VAULT_USER} and v-*, three groups\n",
        target.name,
        target.api_server,
        plan.alerts_expected(),
        plan.scenario().controller.concurrency,
        shards.unwrap_or_default(),
        flow.unwrap_or_default(),
        vault.url,
        login_mount(plan.scenario().vault.auth),
        engines.join(", "),
        postgres.at,
        alertstorm_agent::postgres::EVIDENCE,
    )
}

impl Provider for Cluster {
    fn platform(&self) -> Result<Platform, Failure> {
        Ok(self.platform.clone())
    }

    fn can(&self, fault: FaultKind) -> bool {
        // Only what is the harness's own: servers of others are nobody's to break.
        fault == FaultKind::ControllerCrash
    }

    fn vault(&self) -> Result<Vault, VaultError> {
        Vault::new(&self.vault, None, &self.vault_token)
    }

    fn generation(&self) -> u64 {
        1
    }

    fn vault_ready(&self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }

    fn usage(&self) -> BoxFuture<'_, BTreeMap<Program, Usage>> {
        Box::pin(async { BTreeMap::new() })
    }

    fn outage(&self, program: Program, _: bool) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move { Err(format!("{} is not ours to kill", program.file()).into()) })
    }

    fn deaths(&self) -> Vec<Program> {
        Vec::new()
    }

    fn power(&self, _: u32, _: bool) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async { Err("nodes are not ours to switch off".into()) })
    }

    fn settle_trails(&self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }

    fn is_kept(&self) -> bool {
        false
    }

    fn end(&self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async {
            // Each is tried, whatever became of the others.
            let swept = sweep(&self.platform.admin).await;
            let vault = async { sweep_vault(&self.vault()?, self.auth).await }.await;
            let admin = (self.postgres.user.as_str(), self.postgres.password.as_str());
            let postgres = take_down(self.postgres.at, admin).await;
            swept?;
            vault?;
            Ok(postgres?)
        })
    }
}
