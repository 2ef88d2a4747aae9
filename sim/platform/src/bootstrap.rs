//! The objects that a run creates in the cluster: its namespace, the RBAC of its identities, and
//! the ConfigMaps that stand for the systems of the domain `application`. Each rule is one that is
//! used.

use std::time::{Duration, SystemTime};

use alertstorm_agent::names::{Names, application_object, role};
use alertstorm_model::investigation::{Domain, IdentityKind};
use alertstorm_model::phase::Verb;
use alertstorm_model::scenario::Scenario;
use alertstorm_model::scenario::knobs::Engine;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::bearer::Validity;
use crate::call;
use crate::identity;
use crate::manifests::{self, RBAC, account, binding, object, service_account};
use crate::objects::{self, CreateError};
use crate::platform::{Agents, Identities, Platform, Tokens};
use crate::reach::Reach;

/// A TokenRequest is retried for this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Lifetime of the harness's tokens in seconds, of which the API server may grant less. They are renewed
/// (see [`crate::bearer`]).
const TOKEN_LIFE_S: i64 = 86_400;

/// The Lease that the controller updates and watches, to measure how late the API server's watches are.
pub const PROBE: &str = "alertstorm-probe";

/// Why an object of a run could not be created.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The API server rejected an object, or did not answer in time.
    #[error("could not create the {kind} {name}")]
    Apply {
        /// The object's kind.
        kind: String,
        /// The object's name.
        name: String,
        /// The last response of the API server.
        source: Box<kube::Error>,
    },
    /// An object of this name exists, and is not the run's.
    #[error(
        "the {kind} {name} exists without the label {label}, so it is not the run's and is not changed"
    )]
    Foreign {
        /// The object's kind.
        kind: String,
        /// The object's name.
        name: String,
        /// Key and value of the label of the run's objects.
        label: String,
    },
    /// The API server rejected a TokenRequest, or did not answer in time.
    #[error("could not get a token of the ServiceAccount {namespace}/{account}")]
    Token {
        /// The ServiceAccount's namespace.
        namespace: String,
        /// The ServiceAccount's name.
        account: String,
        /// The last response of the API server.
        source: Box<kube::Error>,
    },
    /// The API server answered a TokenRequest without `status.token`.
    #[error(
        "the API server returned no token of the ServiceAccount {namespace}/{account}; \
         `kubectl create token -n {namespace} {account}` shows whether it can issue one"
    )]
    NoToken {
        /// The ServiceAccount's namespace.
        namespace: String,
        /// The ServiceAccount's name.
        account: String,
    },
}

/// The subject of a binding for one of the harness's identities.
fn subject(identities: &Identities, name: &str, names: &Names) -> Value {
    match identities {
        Identities::Users(_) => json!({
            "apiGroup": "rbac.authorization.k8s.io", "kind": "User",
            "name": format!("alertstorm:{name}"),
        }),
        Identities::Accounts => account(&own_account(name), names.namespace()),
    }
}

/// Name of the ServiceAccount of one of the harness's identities.
fn own_account(name: &str) -> String {
    format!("alertstorm-{name}")
}

/// All objects, in an order in which they can be created. Where real kubelets run the agents, `reach`
/// is what their NetworkPolicy allows.
pub fn objects(
    scenario: &Scenario,
    identities: &Identities,
    reach: Option<&Reach>,
    names: &Names,
) -> Vec<Value> {
    let phase = scenario.phase;
    let mut all = vec![manifests::namespace(names.namespace())];
    if let Some(reach) = reach {
        all.push(manifests::network_policy(reach));
        all.push(manifests::limit_range(&scenario.controller.job));
    }
    for &verb in Verb::ALL {
        let data = json!({"data": {"state": "up"}});
        all.push(object("ConfigMap", "v1", application_object(verb), data));
    }
    let probe = json!({"spec": {"holderIdentity": PROBE, "leaseTransitions": 0}});
    all.push(object("Lease", "coordination.k8s.io/v1", PROBE, probe));
    all.extend(manifests::agent_roles(phase));
    if scenario.identity == IdentityKind::SharedAgent {
        all.extend(manifests::shared_accounts(phase, names.namespace()));
    }
    if matches!(identities, Identities::Accounts) {
        all.extend(Own::ALL.map(|own| service_account(&own_account(own.name()))));
    }
    let bind: Vec<String> = Domain::ALL.iter().map(|&home| role(phase, home)).collect();
    all.extend(backend(scenario, &bind, identities, names));
    all.extend(scraper(identities, names));
    all.extend(vault(scenario, identities, names));
    all
}

/// The Role of the investigation controller, and its binding.
fn backend(
    scenario: &Scenario,
    agent_roles: &[String],
    identities: &Identities,
    names: &Names,
) -> [Value; 2] {
    let rule = |group: &str, resources: &[&str], verbs: &[&str]| json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
    let mut rules = vec![
        rule("batch", &["jobs"], &["create", "delete", "list", "watch"]),
        rule("", &["pods"], &["list", "watch"]),
        // A journal that is longer than a termination message is in the pod's log.
        rule("", &["pods/log"], &["get"]),
        json!({
            "apiGroups": ["coordination.k8s.io"], "resources": ["leases"],
            "resourceNames": [PROBE], "verbs": ["patch", "watch"],
        }),
    ];
    if scenario.identity == IdentityKind::PerInvestigation {
        rules.push(rule("", &["serviceaccounts"], &["create", "delete"]));
        rules.push(rule("rbac.authorization.k8s.io", &["rolebindings"], &["create", "delete"]));
        rules.push(json!({
            "apiGroups": ["rbac.authorization.k8s.io"],
            "resources": ["roles"],
            "resourceNames": agent_roles,
            "verbs": ["bind"],
        }));
    }
    let name = "alertstorm-backend";
    [
        object("Role", RBAC, name, json!({"rules": rules})),
        binding("RoleBinding", name, ("Role", name), subject(identities, "backend", names)),
    ]
}

fn scraper(identities: &Identities, names: &Names) -> [Value; 2] {
    let name = &names.cluster_wide("scraper");
    let subject = subject(identities, "scraper", names);
    let rules = json!({"rules": [{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}]});
    [
        object("ClusterRole", RBAC, name, rules),
        binding("ClusterRoleBinding", name, ("ClusterRole", name), subject),
    ]
}

/// Vault's bindings: for TokenReviews, and for TokenRequests if a secrets engine issues tokens.
fn vault(scenario: &Scenario, identities: &Identities, names: &Names) -> Vec<Value> {
    let (name, cluster_wide) = ("alertstorm-vault", names.cluster_wide("vault"));
    let subject = subject(identities, "vault", names);
    let review = ("ClusterRole", "system:auth-delegator");
    let mut all = vec![binding("ClusterRoleBinding", &cluster_wide, review, subject.clone())];
    let secrets = &scenario.vault.secrets;
    let domains: Vec<Domain> = Domain::ALL
        .iter()
        .copied()
        .filter(|domain| secrets.of(*domain).engine == Engine::Kubernetes)
        .collect();
    let accounts: Vec<String> =
        domains.iter().map(|domain| identity::evidence_account(scenario.phase, *domain)).collect();
    if accounts.is_empty() {
        return all;
    }
    for account in &accounts {
        all.push(service_account(account));
    }
    let rules = json!({"rules": [{
        "apiGroups": [""],
        "resources": ["serviceaccounts/token"],
        "resourceNames": accounts,
        "verbs": ["create"],
    }]});
    all.push(object("Role", RBAC, name, rules));
    all.push(binding("RoleBinding", name, ("Role", name), subject));
    all
}

/// The RoleBinding of the ServiceAccount of one investigation.
pub fn own_binding(account_name: &str, role: &str, labels: &Value, names: &Names) -> Value {
    let subject = account(account_name, names.namespace());
    let mut all = binding("RoleBinding", account_name, ("Role", role), subject);
    all["metadata"]["labels"] = labels.clone();
    all
}

/// Creates all objects.
///
/// # Errors
/// For the first object that cannot be created, or that exists and is not the run's.
pub async fn apply(scenario: &Scenario, platform: &Platform) -> Result<(), BootstrapError> {
    let reach = match &platform.agents {
        Agents::Pods(spec) => Some(&spec.reach),
        Agents::Hollow(_) => None,
    };
    for object in objects(scenario, &platform.identities, reach, &platform.names) {
        create_one(&platform.admin, object, &platform.names).await?;
    }
    Ok(())
}

/// Marks an object as the run's, and creates it.
///
/// # Errors
/// If one of its name exists that is not the run's, or if the call fails for longer than 30 s, or with
/// an error that is not transient.
pub async fn create_one(
    client: &Client,
    mut object: Value,
    names: &Names,
) -> Result<(), BootstrapError> {
    objects::mark(&mut object, names);
    objects::create(client, &object, names).await.map_err(|error| {
        let (kind, name) = of(&object);
        match error {
            CreateError::Foreign => {
                let (key, value) = names.label();
                BootstrapError::Foreign { kind, name, label: format!("{key}={value}") }
            }
            CreateError::Api(source) => {
                BootstrapError::Apply { kind, name, source: Box::new(source) }
            }
        }
    })
}

/// Marks an object of the run's namespace, and applies it with server-side apply.
///
/// # Errors
/// [`BootstrapError::Apply`] if the call fails for longer than 30 s, or with an error that is not
/// transient.
pub async fn apply_one(
    client: &Client,
    mut object: Value,
    names: &Names,
) -> Result<(), BootstrapError> {
    objects::mark(&mut object, names);
    objects::apply(client, &object, names).await.map_err(|source| {
        let (kind, name) = of(&object);
        BootstrapError::Apply { kind, name, source: Box::new(source) }
    })
}

/// Kind and name of an object.
fn of(object: &Value) -> (String, String) {
    let (kind, name) = objects::kind_and_name(object);
    (kind.to_owned(), name.to_owned())
}

/// The ServiceAccounts of the harness, by the names of its identities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// The investigation controller.
    Backend,
    /// The reader of metrics.
    Scraper,
    /// Vault.
    Vault,
}

impl Own {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Backend, Self::Scraper, Self::Vault];

    /// The name of the identity.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Backend => "backend",
            Self::Scraper => "scraper",
            Self::Vault => "vault",
        }
    }
}

/// A token that the API server issued. Its `Debug` output does not contain it.
#[derive(Clone)]
pub struct Issued {
    /// The token.
    pub token: String,
    /// How long it is valid.
    pub validity: Validity,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a token of {:?}", self.validity.life)
    }
}

/// Requests the tokens of the harness's own ServiceAccounts; with how long each is valid, in the order
/// of [`Own::ALL`].
///
/// # Errors
/// [`BootstrapError::Token`] or [`BootstrapError::NoToken`] for the first that cannot be issued.
pub async fn tokens(
    client: &Client,
    names: &Names,
) -> Result<(Tokens, [Validity; 3]), BootstrapError> {
    let of = |own: Own| issue(client, own.name(), names, TOKEN_LIFE_S);
    let (backend, scraper) = (of(Own::Backend).await?, of(Own::Scraper).await?);
    let vault = of(Own::Vault).await?;
    let validities = [backend.validity, scraper.validity, vault.validity];
    let tokens = Tokens { backend: backend.token, scraper: scraper.token, vault: vault.token };
    Ok((tokens, validities))
}

/// Requests another token of one of the harness's own ServiceAccounts.
///
/// # Errors
/// [`BootstrapError::Token`] or [`BootstrapError::NoToken`].
pub async fn renew(client: &Client, own: Own, names: &Names) -> Result<Issued, BootstrapError> {
    issue(client, own.name(), names, TOKEN_LIFE_S).await
}

/// Requests a token of one of the harness's own ServiceAccounts.
///
/// # Errors
/// [`BootstrapError::Token`] or [`BootstrapError::NoToken`].
pub async fn token(client: &Client, name: &str, names: &Names) -> Result<String, BootstrapError> {
    Ok(issue(client, name, names, TOKEN_LIFE_S).await?.token)
}

/// Requests a token with a life in seconds, of which the API server may grant less. It grants at least
/// ten minutes.
///
/// # Errors
/// [`BootstrapError::Token`] or [`BootstrapError::NoToken`].
pub async fn issue(
    client: &Client,
    name: &str,
    names: &Names,
    life_s: i64,
) -> Result<Issued, BootstrapError> {
    let (account, namespace) = (own_account(name), names.namespace().to_owned());
    let failed = |source| BootstrapError::Token {
        namespace: namespace.clone(),
        account: account.clone(),
        source: Box::new(source),
    };
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &namespace);
    let request = json!({"spec": {"audiences": [], "expirationSeconds": life_s}});
    let request: TokenRequest =
        serde_json::from_value(request).map_err(kube::Error::SerdeError).map_err(failed)?;
    let params = PostParams::default();
    let answer = call::patiently(PATIENCE, || async {
        accounts.create_token_request(&account, &params, &request).await
    });
    let answer = answer.await.map_err(failed)?;
    let granted = answer.spec.and_then(|spec| spec.expiration_seconds).unwrap_or(life_s);
    let life = Duration::from_secs(granted.unsigned_abs());
    let issued = answer.status.and_then(|status| {
        let token = status.token.filter(|token| !token.is_empty())?;
        // Without it the token counts as issued now.
        let expires = status.expiration_timestamp.map(|time| SystemTime::from(time.0));
        let expires = expires.unwrap_or_else(|| SystemTime::now() + life);
        Some(Issued { token, validity: Validity { expires, life } })
    });
    issued.ok_or(BootstrapError::NoToken { namespace: namespace.clone(), account: account.clone() })
}

#[cfg(test)]
mod tests {
    use http::Request;
    use kube::client::Body;

    use super::*;

    /// A client of an API server that answers every request with `text`.
    fn client(text: &'static str) -> Client {
        let service = tower::service_fn(move |_: Request<Body>| async move {
            Ok::<_, std::io::Error>(http::Response::new(Body::from(text.as_bytes().to_vec())))
        });
        Client::new(service, "default")
    }

    #[tokio::test]
    async fn a_token_request_that_is_answered_without_a_token_is_an_error() {
        for answer in [
            r#"{"spec":{"audiences":[]}}"#,
            r#"{"spec":{"audiences":[]},"status":{"expirationTimestamp":"2026-01-01T00:00:00Z","token":""}}"#,
        ] {
            let names = Names::of_run(&"a1".parse().unwrap());
            let error = tokens(&client(answer), &names).await.unwrap_err();
            assert!(matches!(error, BootstrapError::NoToken { .. }), "{error:?}");
            assert!(error.to_string().contains("alertstorm-a1/alertstorm-backend"), "{error}");
        }
    }
}
