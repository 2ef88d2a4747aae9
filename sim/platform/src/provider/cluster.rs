//! The cluster provider: an existing cluster of the kubeconfig, an existing Vault and an existing
//! PostgreSQL. It asks for confirmation before it writes, uses a namespace of its own, and deletes
//! what it created at the end.

mod environment;
mod sweep;
mod target;

use std::collections::BTreeMap;

use alertstorm_agent::names::{POLICIES, login_mount, mount};
use alertstorm_agent::postgres::connect;
use alertstorm_agent::vault::{Address, Vault, VaultError};
use alertstorm_model::investigation::Domain;
use alertstorm_model::scenario::knobs::{AuthMethod, Engine};
use alertstorm_model::scenario::{FaultKind, Plan};
use futures::future::{BoxFuture, LocalBoxFuture};

use super::error::ProviderError;
use super::interface::Provider;
use super::{Program, Usage, images, secret};
use crate::bootstrap;
use crate::manifests::flow_schema;
use crate::platform::{
    Agents, Identities, MetricsOf, NAMESPACE, Page, Platform, PodSpec, Surroundings, Trails,
};
use crate::postgres::{VAULT_USER, set_up, take_down};
use environment::{Postgres, authority_of_vault, vault_from_environment};
use sweep::{get, is_ours, sweep, sweep_vault};
use target::{Target, lacking};

pub use environment::{ClusterError, Options};
pub use sweep::clean;

/// An existing cluster with a Vault and a PostgreSQL.
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

impl Cluster {
    /// Prepares the platform that the context, `VAULT_ADDR` and `ALERTSTORM_POSTGRES` name.
    /// `confirm` gets the list of what will be written; nothing is written unless it returns true.
    ///
    /// # Errors
    /// If a setting or a right is missing, a server does not answer, or `confirm` returns false.
    pub fn start<'a>(
        plan: &'a Plan,
        options: &'a Options,
        confirm: &'a (dyn Fn(&str) -> bool + Sync),
    ) -> LocalBoxFuture<'a, Result<Self, ClusterError>> {
        Box::pin(Self::ask_and_take(plan, options, confirm))
    }

    async fn ask_and_take(
        plan: &Plan,
        options: &Options,
        confirm: &(dyn Fn(&str) -> bool + Sync),
    ) -> Result<Self, ClusterError> {
        let scenario = plan.scenario();
        if scenario.vault.auth == AuthMethod::Jwt {
            let why = "the provider `cluster` supports `vault.auth: kubernetes` only";
            return Err(ClusterError::Unsupported(why));
        }
        let (vault, vault_token) = vault_from_environment()?;
        let postgres = Postgres::from_environment().await?;
        let target = Target::find(options).await?;
        let lacking = lacking(&target.client, options).await?;
        if !lacking.is_empty() {
            return Err(ClusterError::Rights(lacking));
        }
        let namespace = get(&target.client, &format!("/api/v1/namespaces/{NAMESPACE}")).await?;
        if namespace.is_some_and(|found| !is_ours(&found)) {
            return Err(ClusterError::Foreign);
        }
        Vault::new(&vault, None, &vault_token)?.read("auth/token/lookup-self").await?;
        connect(postgres.login("postgres")).await?;
        let image = options.agent_image.clone().unwrap_or_else(|| images::AGENT.to_owned());
        if !options.yes
            && !confirm(&announcement(plan, options, &target, &vault, &postgres, &image))
        {
            return Err(ClusterError::Refused);
        }
        let vault_password = secret::token();
        let admin = (postgres.user.as_str(), postgres.password.as_str());
        set_up(postgres.at, admin, (VAULT_USER, &vault_password)).await?;
        if let Some(level) = &options.priority_level {
            bootstrap::apply_one(&target.client, &flow_schema(level, NAMESPACE), "").await?;
        }
        let for_pods = options.vault_for_pods.clone().unwrap_or_else(|| vault.url.clone());
        let unread = "the audit logs of this cluster, its Vault and its PostgreSQL cannot be read: \
                      attribution is not checked, and denials are counted from the agents' journals";
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

/// The text of the confirmation: all that will be written, and where.
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
        "In the cluster of context {} ({}) this creates, and deletes at its end:\n    \
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
    fn platform(&self) -> Result<Platform, ProviderError> {
        Ok(self.platform.clone())
    }

    fn can(&self, fault: FaultKind) -> bool {
        // The servers belong to others, so only the harness itself may fail.
        fault == FaultKind::ControllerCrash
    }

    fn vault(&self) -> Result<Vault, VaultError> {
        Vault::new(&self.vault, None, &self.vault_token)
    }

    fn generation(&self) -> u64 {
        1
    }

    fn vault_ready(&self) -> BoxFuture<'_, Result<(), ProviderError>> {
        Box::pin(async { Ok(()) })
    }

    fn usage(&self) -> BoxFuture<'_, BTreeMap<Program, Usage>> {
        Box::pin(async { BTreeMap::new() })
    }

    fn outage(&self, program: Program, _: bool) -> BoxFuture<'_, Result<(), ProviderError>> {
        Box::pin(async move { Err(ClusterError::NotOurs(program.file()).into()) })
    }

    fn deaths(&self) -> Vec<Program> {
        Vec::new()
    }

    fn power(&self, _: u32, _: bool) -> BoxFuture<'_, Result<(), ProviderError>> {
        Box::pin(async { Err(ClusterError::NotOurs("nodes").into()) })
    }

    fn settle_trails(&self) -> BoxFuture<'_, Result<(), ProviderError>> {
        Box::pin(async { Ok(()) })
    }

    fn is_kept(&self) -> bool {
        false
    }

    fn end(&self) -> BoxFuture<'_, Result<(), ProviderError>> {
        Box::pin(async {
            // All three are attempted, even if one fails; the first error is returned.
            let swept = sweep(&self.platform.admin).await;
            let vault = async { sweep_vault(&self.vault()?, self.auth).await }.await;
            let admin = (self.postgres.user.as_str(), self.postgres.password.as_str());
            let postgres = take_down(self.postgres.at, admin).await;
            swept?;
            vault.map_err(ClusterError::from)?;
            Ok(postgres.map_err(ClusterError::from)?)
        })
    }
}
