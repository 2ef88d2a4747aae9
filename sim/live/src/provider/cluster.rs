//! The cluster provider: any cluster that a kubeconfig names, any Vault and any PostgreSQL. It asks
//! before it writes, works in one namespace of its own, and takes everything back at the end.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use alertstorm_agent::names::{self, POLICIES, login_mount, mount};
use alertstorm_agent::postgres::{Login, connect};
use alertstorm_agent::trust;
use alertstorm_model::investigation::Domain;
use alertstorm_model::phase::Phase;
use alertstorm_model::scenario::knobs::{AuthMethod, Engine};
use alertstorm_model::scenario::{FaultKind, Plan};
use futures::future::BoxFuture;
use http::Request;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep};

use super::kind::AGENT_IMAGE;
use super::{Failure, Program, Provider, Usage, secret};
use crate::bootstrap;
use crate::call;
use crate::manifests::{FLOW_CONTROL, flow_schema};
use crate::platform::{Agents, Identities, MetricsOf, NAMESPACE, Page, Platform, PodSpec, Trails};
use crate::postgres::{VAULT_USER, set_up, take_down};
use crate::vault::setup::Surroundings;
use crate::vault::{Address, Vault, VaultError};

/// The label of everything of ours.
const OURS: &str = "app.kubernetes.io/managed-by=alertstorm";
/// A namespace that is not gone by then is left to its finalizers.
const GONE_WITHIN: Duration = Duration::from_secs(120);
/// Words in the name of a context, a cluster or a server that make one look like production.
const PRODUCTION: [&str; 3] = ["prod", "prd", "live"];

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

/// The context that is meant, and a client of it with its address and authority.
struct Target {
    name: String,
    api_server: String,
    ca: String,
    client: Client,
}

impl Target {
    async fn find(options: &Options) -> Result<Self, Failure> {
        let kubeconfig = Kubeconfig::read()?;
        let current = kubeconfig.current_context.clone();
        let name = options.context.clone().or(current).unwrap_or_default();
        let context = kubeconfig.contexts.iter().find(|context| context.name == name);
        let Some(context) = context else {
            let known: Vec<&str> = kubeconfig.contexts.iter().map(|c| c.name.as_str()).collect();
            let known = known.join(", ");
            return Err(format!("there is no context `{name}`; there are: {known}").into());
        };
        let cluster = context.context.as_ref().map(|context| context.cluster.clone());
        let chosen = KubeConfigOptions { context: Some(name.clone()), ..Default::default() };
        let config = Config::from_custom_kubeconfig(kubeconfig, &chosen).await?;
        let api_server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let words = [name.as_str(), cluster.as_deref().unwrap_or_default(), &api_server];
        if options.context.is_none() && looks_like_production(&words) {
            return Err(ClusterError::Production(name).into());
        }
        let Some(authority) = config.root_cert.clone() else {
            let why = "the kubeconfig names no authority of the API server's certificate";
            return Err(ClusterError::Unsupported(why).into());
        };
        let ca = authority.iter().map(|der| pem(der)).collect();
        Ok(Self { name, api_server, ca, client: Client::try_from(config)? })
    }
}

fn looks_like_production(words: &[&str]) -> bool {
    let looks = |word: &&str| {
        let word = word.to_lowercase();
        PRODUCTION.iter().any(|hint| word.contains(hint))
    };
    words.iter().any(looks)
}

/// A certificate as PEM text.
fn pem(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).filter_map(|l| str::from_utf8(l).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// What the run does as the context's user: group, resource, verbs, and whether in the namespace.
const NEEDED: [(&str, &str, &[&str], bool); 13] = [
    ("", "namespaces", &["get", "create", "patch", "delete"], false),
    ("", "configmaps", &["patch"], true),
    ("", "serviceaccounts", &["patch"], true),
    ("", "serviceaccounts/token", &["create"], true),
    ("", "limitranges", &["patch"], true),
    ("", "pods", &["list"], true),
    ("batch", "jobs", &["deletecollection", "list"], true),
    ("networking.k8s.io", "networkpolicies", &["patch"], true),
    ("rbac.authorization.k8s.io", "roles", &["patch", "escalate", "bind"], true),
    ("rbac.authorization.k8s.io", "rolebindings", &["patch"], true),
    ("rbac.authorization.k8s.io", "clusterroles", &["patch", "delete", "list", "bind"], false),
    ("rbac.authorization.k8s.io", "clusterrolebindings", &["patch", "delete", "list"], false),
    ("flowcontrol.apiserver.k8s.io", "flowschemas", &["patch", "delete", "list"], false),
];

/// The rights that the context's user lacks.
async fn lacking(client: &Client, with_flow_schema: bool) -> Result<Vec<String>, Failure> {
    let mut lacking = Vec::new();
    for (group, resource, verbs, inside) in NEEDED {
        if group.starts_with("flowcontrol") && !with_flow_schema {
            continue;
        }
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        for verb in verbs {
            let review = json!({
                "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": {
                    "group": group, "resource": resource, "subresource": subresource,
                    "verb": verb, "namespace": if inside { NAMESPACE } else { "" },
                }},
            });
            let answer = post(client, "selfsubjectaccessreviews", &review).await?;
            if answer["status"]["allowed"] != true {
                let group = if group.is_empty() { "" } else { &format!(".{group}") };
                let place = if inside { format!(" in {NAMESPACE}") } else { String::new() };
                let sub = if subresource.is_empty() { "" } else { &format!("/{subresource}") };
                lacking.push(format!("{verb} {resource}{sub}{group}{place}"));
            }
        }
    }
    Ok(lacking)
}

async fn post(client: &Client, resource: &str, body: &Value) -> Result<Value, Failure> {
    let request = Request::post(format!("/apis/authorization.k8s.io/v1/{resource}"))
        .header("content-type", "application/json")
        .body(serde_json::to_vec(body)?)?;
    Ok(client.request(request).await?)
}

async fn get(client: &Client, path: &str) -> Result<Option<Value>, Failure> {
    let found = call::patiently(Duration::from_secs(10), || async {
        let request = Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
        client.request::<Value>(request).await
    });
    match found.await {
        Ok(found) => Ok(Some(found)),
        Err(error) if call::is_gone(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn delete(client: &Client, path: &str) -> Result<(), Failure> {
    let done = call::patiently(Duration::from_secs(10), || async {
        let request = Request::delete(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
        client.request::<Value>(request).await
    });
    match done.await {
        Err(error) if !call::is_gone(&error) => Err(error.into()),
        _ => Ok(()),
    }
}

impl Cluster {
    /// The platform that the context, `VAULT_ADDR` and `ALERTSTORM_POSTGRES` name. Nothing is written
    /// before `confirm` was shown what will be and said yes.
    ///
    /// # Errors
    /// What is missing, forbidden or refused.
    pub async fn start(
        plan: &Plan,
        options: &Options,
        confirm: &(dyn Fn(&str) -> bool + Sync),
    ) -> Result<Self, Failure> {
        let scenario = &plan.scenario;
        if scenario.vault.auth == AuthMethod::Jwt {
            let why = "a cluster's Vault is configured with `vault.auth: kubernetes`";
            return Err(ClusterError::Unsupported(why).into());
        }
        let (vault, vault_token) = vault_from_environment()?;
        let postgres = Postgres::from_environment().await?;
        let target = Target::find(options).await?;
        let lacking = lacking(&target.client, options.priority_level.is_some()).await?;
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

fn is_ours(object: &Value) -> bool {
    let (label, value) = OURS.split_once('=').unwrap_or((OURS, ""));
    object["metadata"]["labels"][label] == value
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
            let engine: Engine = plan.scenario.vault.secrets.of(domain).engine;
            format!("{} ({engine})", mount(domain))
        })
        .collect();
    let flow = options.priority_level.as_ref();
    let flow = flow.map(|level| format!("\n    FlowSchema alertstorm, to priority level {level}"));
    format!(
        "In the cluster of context {} ({}) this makes, and takes back at its end:\n    \
         Namespace {NAMESPACE}, and in it ServiceAccounts, Roles and RoleBindings, ConfigMaps, a \
         NetworkPolicy, a LimitRange,\n    and up to {} Jobs, {} at once, of image {image}\n    \
         ClusterRole alertstorm-scraper (GET /metrics); ClusterRoleBindings alertstorm-scraper, \
         alertstorm-vault{}\n\
         In Vault at {}: auth/{}, {}, alertstorm/systems, policies {POLICIES}agent-*\n\
         In PostgreSQL at {}: database {}, users {VAULT_USER} and v-*, three groups\n",
        target.name,
        target.api_server,
        plan.alerts_expected,
        plan.scenario.controller.concurrency,
        flow.unwrap_or_default(),
        vault.url,
        login_mount(plan.scenario.vault.auth),
        engines.join(", "),
        postgres.at,
        alertstorm_agent::postgres::EVIDENCE,
    )
}

/// Takes back what is ours in a cluster, by its label; what there was.
async fn sweep(client: &Client) -> Result<Vec<String>, Failure> {
    let mut swept = Vec::new();
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let lists = [
        format!("{rbac}/clusterrolebindings"),
        format!("{rbac}/clusterroles"),
        format!("/apis/{FLOW_CONTROL}/flowschemas"),
    ];
    for list in lists {
        let Ok(Some(found)) = get(client, &format!("{list}?labelSelector={OURS}")).await else {
            continue;
        };
        for object in found["items"].as_array().into_iter().flatten() {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            delete(client, &format!("{list}/{name}")).await?;
            swept.push(format!("{} {name}", list.rsplit('/').next().unwrap_or_default()));
        }
    }
    let path = format!("/api/v1/namespaces/{NAMESPACE}");
    if get(client, &path).await?.is_some_and(|found| is_ours(&found)) {
        delete(client, &path).await?;
        swept.push(format!("namespace {NAMESPACE}"));
        let until = Instant::now() + GONE_WITHIN;
        while get(client, &path).await?.is_some() {
            if Instant::now() > until {
                return Err(format!("the namespace {NAMESPACE} is still being deleted").into());
            }
            sleep(Duration::from_secs(1)).await;
        }
    }
    Ok(swept)
}

/// Takes back what is ours in a Vault. Unmounting an engine revokes its leases.
async fn sweep_vault(vault: &Vault, auth: AuthMethod) -> Result<(), VaultError> {
    for &domain in Domain::ALL {
        vault.delete(&format!("sys/mounts/{}", mount(domain))).await?;
    }
    vault.delete(&format!("sys/mounts/{}", names::SYSTEMS)).await?;
    vault.delete(&format!("sys/auth/{}", login_mount(auth))).await?;
    for &phase in Phase::ALL {
        for &home in Domain::ALL {
            vault.delete(&format!("sys/policies/acl/{}", names::policy(phase, home))).await?;
        }
    }
    Ok(())
}

/// Takes back what killed runs left behind in the context's cluster, and where the environment names
/// them in Vault and PostgreSQL; what there was.
///
/// # Errors
/// Where a call fails.
pub async fn clean(options: &Options) -> Result<Vec<String>, Failure> {
    let target = Target::find(options).await?;
    let mut swept = sweep(&target.client).await?;
    if let Ok((vault, token)) = vault_from_environment() {
        let vault = Vault::new(&vault, None, &token)?;
        for auth in [AuthMethod::Kubernetes, AuthMethod::Jwt] {
            sweep_vault(&vault, auth).await?;
        }
        swept.push("what was ours in Vault".to_owned());
    }
    if let Ok(postgres) = Postgres::from_environment().await {
        take_down(postgres.at, (&postgres.user, &postgres.password)).await?;
        swept.push("what was ours in PostgreSQL".to_owned());
    }
    Ok(swept)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn production_is_seen_by_its_name() {
        assert!(looks_like_production(&["gke_acme_eu-PROD-1", "", ""]));
        assert!(looks_like_production(&["admin", "cluster", "https://api.prd.acme.example"]));
        assert!(!looks_like_production(&[
            "kind-alertstorm",
            "kind-alertstorm",
            "https://127.0.0.1"
        ]));
    }
}
