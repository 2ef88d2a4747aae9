//! The cluster provider: an existing cluster of the kubeconfig, an existing Vault and an existing
//! PostgreSQL. It asks for confirmation before it writes, uses a namespace of its own, and deletes
//! what it created at the end.

mod clean;
mod environment;
mod production;
mod rights;
mod target;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use alertstorm_agent::names::Names;
use alertstorm_agent::vault::{Address, Vault, VaultError};
use alertstorm_model::investigation::Domain;
use alertstorm_model::scenario::knobs::{AuthMethod, Engine};
use alertstorm_model::scenario::{FaultKind, Plan};
use futures::future::{BoxFuture, LocalBoxFuture};

use super::error::ProviderError;
use super::interface::Provider;
use super::{Program, Usage, secret};
use crate::bootstrap;
use crate::inventory::{Item, Scope};
use crate::lease::{self, Holder};
use crate::manifests::flow_schema;
use crate::platform::{
    Agents, Identities, MetricsOf, Page, Platform, PodSpec, Surroundings, Trails,
};
use crate::postgres::{other_databases_of_public, set_up};
use crate::reach::{self, Dns, Peer, Reach};
use crate::vault::Owner;
use clean::Servers;
use environment::{
    Postgres, authority_of_vault, check_production, check_url, vault_from_environment,
};
use rights::Inside;
use target::{Target, uid_of};

pub use clean::Found;
pub use environment::{ClusterError, Egress, Options};

/// An existing cluster with a Vault and a PostgreSQL.
pub struct Cluster {
    platform: Platform,
    vault: Address,
    vault_token: String,
    postgres: Postgres,
    /// Renews the run's Lease.
    holder: Mutex<Option<Holder>>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the cluster at {}", self.platform.api_server)
    }
}

/// The servers that a run would use, all of which have answered.
struct Visit {
    names: Names,
    target: Target,
    vault: Address,
    vault_token: String,
    postgres: Postgres,
    /// Vault's URL from inside a pod.
    for_pods: String,
    /// The agent's image.
    image: String,
    /// The servers that agents may connect to.
    reach: Reach,
    /// What of the servers is not as it should be, and cannot be changed by the run.
    remarks: Vec<String>,
    inside: Inside,
    /// What the run would create outside of its namespace, and whose it is.
    items: Vec<Item>,
}

impl Visit {
    /// Reads the settings, and checks rights and names. Writes nothing.
    async fn prepare(plan: &Plan, options: &Options) -> Result<Self, ClusterError> {
        let scenario = plan.scenario();
        if scenario.vault.auth == AuthMethod::Jwt {
            let why = "the provider `cluster` supports `vault.auth: kubernetes` only";
            return Err(ClusterError::Unsupported(why));
        }
        let names = Names::of_run(&options.run_id.clone().unwrap_or_else(secret::run_id));
        let (vault, vault_token) = vault_from_environment()?;
        let for_pods = options.vault_for_pods.clone().unwrap_or_else(|| vault.url.clone());
        check_url("--vault-for-pods", &for_pods)?;
        if let Some(url) = &options.api_server_for_vault {
            check_url("--api-server-for-vault", url)?;
        }
        let postgres = Postgres::from_environment().await?;
        let (pods, host) = (Some(for_pods.as_str()), Some(postgres.host.as_str()));
        check_production(Some(&vault), pods, host, &options.production)?;
        let image = options.agent_image.clone().ok_or(ClusterError::NoAgentImage)?;
        let target = Target::find(options, names.namespace()).await?;
        let inside = rights::check(&target.client, options, scenario, &names).await?;
        // Its uid can be read only with these rights.
        let names = names.in_cluster(&uid_of(&target.client).await?);
        let client = Vault::new(&vault, None, &vault_token)?;
        client.read("auth/token/lookup-self").await?;
        let open = other_databases_of_public(postgres.login("postgres"), &names).await?;
        let remarks = remarks(&postgres, &open);
        let reach = reach_of(options, &target, &for_pods, &postgres).await?;
        let scope = Scope {
            names: &names,
            phases: &[scenario.phase],
            auths: &[scenario.vault.auth],
            flow_schema: options.priority_level.is_some(),
        };
        let servers = Servers { client: &target.client, vault: &client, postgres: &postgres };
        let items = servers.look(&scope).await?;
        Ok(Self {
            names,
            target,
            vault,
            vault_token,
            postgres,
            for_pods,
            image,
            reach,
            remarks,
            inside,
            items,
        })
    }

    /// A line for each object: whether it would be created.
    fn difference(&self) -> String {
        let line = |item: &Item| format!("  {:<8}{}\n", word(item.owner), item.what);
        self.items.iter().map(line).collect()
    }

    /// Those that exist already.
    fn existing(&self) -> Vec<String> {
        let exists = self.items.iter().filter(|item| item.owner != Owner::Nobody);
        let id = self.names.id();
        let clean =
            format!("`alertstorm clean --on cluster --run {id}` deletes it if the run has ended");
        let why = |owner| match owner {
            Owner::Run => format!("it is marked as the run {id}'s; {clean}"),
            _ => "it is not marked as this run's, so it is left as it is".to_owned(),
        };
        exists.map(|item| format!("{}: {}", item.what, why(item.owner))).collect()
    }
}

/// What becomes of an object with this owner, as `--dry-run` prints it.
const fn word(owner: Owner) -> &'static str {
    match owner {
        Owner::Nobody => "create",
        Owner::Run => "exists",
        Owner::Other => "foreign",
    }
}

/// What `alertstorm run --on cluster` would create.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The text of the confirmation, and a line for each object outside of the run's namespace.
    pub text: String,
    /// The objects that exist already, because of which the run would not begin.
    pub existing: Vec<String>,
}

/// Compares what a run would create with what exists. Writes nothing.
///
/// # Errors
/// If a setting or a right is missing, or a server does not answer.
pub fn difference<'a>(
    plan: &'a Plan,
    options: &'a Options,
) -> LocalBoxFuture<'a, Result<Difference, ClusterError>> {
    Box::pin(async move {
        let visit = Visit::prepare(plan, options).await?;
        let text = announcement(plan, options, &visit) + "\n" + &visit.difference();
        Ok(Difference { text, existing: visit.existing() })
    })
}

impl Cluster {
    /// Prepares the platform that the context, `VAULT_ADDR` and `ALERTSTORM_POSTGRES` name.
    /// `confirm` gets the list of what will be written; nothing is written unless it returns true.
    ///
    /// # Errors
    /// If a setting or a right is missing, an object of the run's names exists, a server does not
    /// answer, or `confirm` returns false.
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
        let visit = Visit::prepare(plan, options).await?;
        let existing = visit.existing();
        if !existing.is_empty() {
            return Err(ClusterError::Exists(existing));
        }
        if !options.yes && !confirm(&announcement(plan, options, &visit)) {
            return Err(ClusterError::Refused);
        }
        let inside = visit.inside;
        let this = Self::of(visit, options)?;
        match this.begin(plan, options, inside).await {
            Ok(()) => Ok(this),
            Err(error) => {
                let Err(cleanup) = this.remove().await else { return Err(error) };
                let (first, cleanup) = (Box::new(error), Box::new(cleanup));
                Err(ClusterError::AndCleanup { first, cleanup })
            }
        }
    }

    /// The platform, before anything is created.
    fn of(visit: Visit, options: &Options) -> Result<Self, ClusterError> {
        let Visit { names, target, vault, vault_token, postgres, image, for_pods, .. } = visit;
        let (reach, remarks) = (visit.reach, visit.remarks);
        let unread = "the audit logs of this cluster, its Vault and its PostgreSQL cannot be read: \
                      attribution is not checked, and denials are counted from the agents' journals";
        let platform = Platform {
            provider: "cluster",
            names: names.clone(),
            is_prepared: false,
            api_server: target.api_server.clone(),
            admin: target.client,
            identities: Identities::Accounts,
            agents: Agents::Pods(Box::new(PodSpec {
                image,
                vault: for_pods,
                vault_ca: authority_of_vault()?,
                vault_namespace: vault.namespace.clone(),
                postgres: postgres.at.clone(),
                reach,
            })),
            vault: vault.clone(),
            around: Surroundings {
                api_server: options.api_server_for_vault.clone().unwrap_or(target.api_server),
                api_server_ca: target.ca.clone(),
                accounts_key: String::new(),
                issuer: String::new(),
                postgres: postgres.at.clone(),
                postgres_user: (names.vault_user(), secret::token()),
                audit: None,
            },
            ca: target.ca,
            postgres: postgres.at.clone(),
            trails: Trails::default(),
            metrics: vec![MetricsOf { component: "kube-apiserver", page: Page::ApiServer }],
            remarks: std::iter::once(unread.to_owned()).chain(remarks).collect(),
        };
        Ok(Self { platform, vault, vault_token, postgres, holder: Mutex::default() })
    }

    /// Creates the namespace with the Lease first, so that no other run takes the rest for a dead run's.
    async fn begin(
        &self,
        plan: &Plan,
        options: &Options,
        inside: Inside,
    ) -> Result<(), ClusterError> {
        let (client, names) = (&self.platform.admin, &self.platform.names);
        bootstrap::create_one(client, crate::manifests::namespace(names.namespace()), names)
            .await?;
        if inside == Inside::ByBinding {
            rights::bind(client, options, plan.scenario(), names).await?;
        }
        let holder = lease::hold(client, names).await?;
        *self.holder.lock().unwrap_or_else(PoisonError::into_inner) = Some(holder);
        let admin = (self.postgres.user.as_str(), self.postgres.password.as_str());
        let (_, password) = &self.platform.around.postgres_user;
        set_up(&self.postgres.at, admin, names, password).await?;
        if let Some(level) = &options.priority_level {
            bootstrap::create_one(client, flow_schema(level, names), names).await?;
        }
        Ok(())
    }

    async fn remove(&self) -> Result<(), ClusterError> {
        let vault = Vault::new(&self.vault, None, &self.vault_token)?;
        let servers =
            Servers { client: &self.platform.admin, vault: &vault, postgres: &self.postgres };
        let removed = servers.remove(&self.platform.names).await;
        // After the namespace, so that the Lease is valid until then; and also after an error, so that
        // `clean` can delete what is left.
        drop(self.holder.lock().unwrap_or_else(PoisonError::into_inner).take());
        tracing::info!(removed = ?removed.as_deref().unwrap_or_default(), "the run's objects are deleted");
        removed.map(drop)
    }
}

/// The servers that agents may connect to: those of the options, or else the addresses that they have
/// now.
async fn reach_of(
    options: &Options,
    target: &Target,
    vault: &str,
    postgres: &Postgres,
) -> Result<Reach, ClusterError> {
    let egress = options.egress.clone();
    let api_server = match egress.api_server.is_empty() {
        true => {
            let found = reach::of_api_server(&target.client).await;
            found.map_err(ClusterError::ApiServerAddresses)?
        }
        false => egress.api_server,
    };
    let named = reach::host_of(vault).is_some_and(|(host, _)| host.parse::<IpAddr>().is_err());
    let dns = match (named, egress.dns.is_empty()) {
        (false, true) => Dns::None,
        (true, true) => Dns::Cluster,
        (_, false) => Dns::At(egress.dns),
    };
    let at_vault = match egress.vault.is_empty() {
        true => {
            let failed = |source| ClusterError::VaultAddresses { url: vault.to_owned(), source };
            reach::of_url(vault).await.map_err(failed)?
        }
        false => egress.vault,
    };
    let at_postgres = match egress.postgres.is_empty() {
        true => vec![Peer::at(postgres.at.at)],
        false => egress.postgres,
    };
    Ok(Reach { api_server, vault: at_vault, postgres: at_postgres, dns })
}

/// What of the servers is not as it should be, and cannot be changed by the run.
fn remarks(postgres: &Postgres, open: &[String]) -> Vec<String> {
    let mut remarks = Vec::new();
    if postgres.at.tls.is_none() && !postgres.at.at.ip().is_loopback() {
        remarks.push(format!(
            "connections to PostgreSQL at {} are not encrypted (sslmode=disable)",
            postgres.at
        ));
    }
    if !open.is_empty() {
        remarks.push(format!(
            "every role of PostgreSQL at {}, and therefore every agent, may connect to the \
             databases {}: REVOKE CONNECT ON DATABASE … FROM PUBLIC closes them, which a run does \
             not do to databases of others",
            postgres.at,
            open.join(", ")
        ));
    }
    remarks
}

/// The text of the confirmation: all that will be written, and where.
fn announcement(plan: &Plan, options: &Options, visit: &Visit) -> String {
    let (names, target) = (&visit.names, &visit.target);
    let engines: Vec<String> = Domain::ALL
        .iter()
        .map(|&domain| {
            let engine: Engine = plan.scenario().vault.secrets.of(domain).engine;
            format!("{} ({engine})", names.mount(domain))
        })
        .collect();
    let image = &visit.image;
    let notes: String = visit.remarks.iter().map(|remark| format!("Note: {remark}\n")).collect();
    let shards = options.shard_image.as_ref();
    let shards = shards.map(|image| format!("\n    and the Job of the shards, of image {image}"));
    let flow = options.priority_level.as_ref();
    let flow = flow.map(|level| {
        format!("\n    FlowSchema {}, to priority level {level}", names.flow_schema())
    });
    format!(
        "In the cluster of context {} ({}) this creates, and deletes at its end:\n    \
         Namespace {}, and in it ServiceAccounts, Roles and RoleBindings, ConfigMaps, a \
         NetworkPolicy, a LimitRange, a Lease,\n    and up to {} Jobs, {} at once, of image {image}{}\n    \
         ClusterRole {scraper} (GET /metrics); ClusterRoleBindings {scraper}, {}{}\n\
         In Vault at {}: auth/{}, {}, {}, policies {}agent-*\n\
         In PostgreSQL at {}: database {}, users {} and v-*, three groups\n{notes}",
        target.name,
        target.api_server,
        names.namespace(),
        plan.alerts_expected(),
        plan.scenario().controller.concurrency,
        shards.unwrap_or_default(),
        names.cluster_wide("vault"),
        flow.unwrap_or_default(),
        visit.vault.url,
        names.login_mount(plan.scenario().vault.auth),
        engines.join(", "),
        names.systems(),
        names.policies(),
        visit.postgres.at,
        names.database(),
        names.vault_user(),
        scraper = names.cluster_wide("scraper"),
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
        Box::pin(async { Ok(self.remove().await?) })
    }
}
