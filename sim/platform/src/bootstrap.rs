//! The objects that a run creates in the cluster: its namespace, the RBAC of its identities, and
//! the ConfigMaps that stand for the systems of the domain `application`. Each rule is one that is
//! used.

use alertstorm_agent::names::{application_object, role};
use alertstorm_model::investigation::{Domain, IdentityKind};
use alertstorm_model::phase::Verb;
use alertstorm_model::scenario::Scenario;
use alertstorm_model::scenario::knobs::Engine;
use http::Request;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::call;
use crate::identity;
use crate::manifests::{
    self, FLOW_CONTROL, RBAC, Reach, account, binding, object, service_account,
};
use crate::platform::{Agents, Identities, NAMESPACE, Platform, Tokens};

/// A call is retried for this long: the control plane may have started just now.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// Lifetime of the harness's tokens in seconds: longer than a run.
const TOKEN_LIFE_S: i64 = 86_400;

/// Why an object of a run could not be created.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The API server rejected an object, or did not answer in time.
    #[error("could not apply the {kind} {name}")]
    Apply {
        /// The object's kind.
        kind: String,
        /// The object's name.
        name: String,
        /// The last response of the API server.
        source: kube::Error,
    },
    /// The API server rejected a TokenRequest, or did not answer in time.
    #[error("could not get a token of the ServiceAccount {NAMESPACE}/{account}")]
    Token {
        /// The ServiceAccount's name.
        account: String,
        /// The last response of the API server.
        source: kube::Error,
    },
    /// The API server answered a TokenRequest without `status.token`.
    #[error(
        "the API server returned no token of the ServiceAccount {NAMESPACE}/{account}; \
         `kubectl create token -n {NAMESPACE} {account}` shows whether it can issue one"
    )]
    NoToken {
        /// The ServiceAccount's name.
        account: String,
    },
}

/// The path of an object at the API server.
fn path(kind: &str, name: &str, namespace: &str) -> String {
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let core = format!("/api/v1/namespaces/{namespace}");
    match kind {
        "Namespace" => format!("/api/v1/namespaces/{name}"),
        "ConfigMap" => format!("{core}/configmaps/{name}"),
        "ServiceAccount" => format!("{core}/serviceaccounts/{name}"),
        "LimitRange" => format!("{core}/limitranges/{name}"),
        "ResourceQuota" => format!("{core}/resourcequotas/{name}"),
        "NetworkPolicy" => {
            format!("/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies/{name}")
        }
        "Role" => format!("{rbac}/namespaces/{namespace}/roles/{name}"),
        "RoleBinding" => format!("{rbac}/namespaces/{namespace}/rolebindings/{name}"),
        "FlowSchema" => format!("/apis/{FLOW_CONTROL}/flowschemas/{name}"),
        "ClusterRole" => format!("{rbac}/clusterroles/{name}"),
        _ => format!("{rbac}/clusterrolebindings/{name}"),
    }
}

/// The subject of a binding for one of the harness's identities.
fn subject(identities: &Identities, name: &str) -> Value {
    match identities {
        Identities::Users(_) => json!({
            "apiGroup": "rbac.authorization.k8s.io", "kind": "User",
            "name": format!("alertstorm:{name}"),
        }),
        Identities::Accounts => account(&own_account(name), NAMESPACE),
    }
}

/// Name of the ServiceAccount of one of the harness's identities.
fn own_account(name: &str) -> String {
    format!("alertstorm-{name}")
}

/// The harness's identities: the controller, the reader of metrics, and Vault.
const OWN: [&str; 3] = ["backend", "scraper", "vault"];

/// All objects, in an order in which they can be created.
fn objects(scenario: &Scenario, platform: &Platform) -> Vec<Value> {
    let (phase, identities) = (scenario.phase, &platform.identities);
    let mut all = vec![manifests::namespace(NAMESPACE)];
    if let Agents::Pods(spec) = &platform.agents {
        let vault = spec.vault_at();
        let reach = Reach { vault, postgres: Some(spec.postgres) };
        all.push(manifests::network_policy(reach));
        all.push(manifests::limit_range(&scenario.controller.job));
    }
    for &verb in Verb::ALL {
        let data = json!({"data": {"state": "up"}});
        all.push(object("ConfigMap", "v1", application_object(verb), data));
    }
    all.extend(manifests::agent_roles(phase));
    if scenario.identity == IdentityKind::SharedAgent {
        all.extend(manifests::shared_accounts(phase, NAMESPACE));
    }
    if matches!(identities, Identities::Accounts) {
        all.extend(OWN.map(|name| service_account(&own_account(name))));
    }
    let bind: Vec<String> = Domain::ALL.iter().map(|&home| role(phase, home)).collect();
    all.extend(backend(scenario, &bind, identities));
    all.extend(scraper(identities));
    all.extend(vault(scenario, identities));
    all
}

/// The Role of the investigation controller, and its binding.
fn backend(scenario: &Scenario, agent_roles: &[String], identities: &Identities) -> [Value; 2] {
    let rule = |group: &str, resources: &[&str], verbs: &[&str]| json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
    let mut rules = vec![
        rule("batch", &["jobs"], &["create", "delete", "deletecollection", "get", "list", "watch"]),
        rule("", &["pods"], &["list", "watch"]),
        // A journal that is longer than a termination message is in the pod's log.
        rule("", &["pods/log"], &["get"]),
    ];
    if scenario.identity == IdentityKind::PerInvestigation {
        let verbs = ["create", "delete", "deletecollection", "list"];
        rules.push(rule("", &["serviceaccounts"], &verbs));
        rules.push(rule("rbac.authorization.k8s.io", &["rolebindings"], &verbs));
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
        binding("RoleBinding", name, ("Role", name), subject(identities, "backend")),
    ]
}

fn scraper(identities: &Identities) -> [Value; 2] {
    let name = "alertstorm-scraper";
    let rules = json!({"rules": [{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}]});
    [
        object("ClusterRole", RBAC, name, rules),
        binding("ClusterRoleBinding", name, ("ClusterRole", name), subject(identities, "scraper")),
    ]
}

/// Vault's bindings: for TokenReviews, and for TokenRequests if a secrets engine issues tokens.
fn vault(scenario: &Scenario, identities: &Identities) -> Vec<Value> {
    let name = "alertstorm-vault";
    let review = ("ClusterRole", "system:auth-delegator");
    let mut all = vec![binding("ClusterRoleBinding", name, review, subject(identities, "vault"))];
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
    all.push(binding("RoleBinding", name, ("Role", name), subject(identities, "vault")));
    all
}

/// The RoleBinding of the ServiceAccount of one investigation.
pub fn own_binding(account_name: &str, role: &str, labels: &Value) -> Value {
    let subject = account(account_name, NAMESPACE);
    let mut all = binding("RoleBinding", account_name, ("Role", role), subject);
    all["metadata"]["labels"] = labels.clone();
    all
}

/// Applies all objects with server-side apply; existing ones are changed.
///
/// # Errors
/// [`BootstrapError::Apply`] for the first object that cannot be applied.
pub async fn apply(scenario: &Scenario, platform: &Platform) -> Result<(), BootstrapError> {
    for object in objects(scenario, platform) {
        apply_one(&platform.admin, &object, NAMESPACE).await?;
    }
    Ok(())
}

/// Applies one object with server-side apply.
///
/// # Errors
/// [`BootstrapError::Apply`] if the call fails for longer than 30 s, or with an
/// error that is not transient.
pub async fn apply_one(
    client: &Client,
    object: &Value,
    namespace: &str,
) -> Result<(), BootstrapError> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
    tracing::debug!(kind, name, "applying an object");
    let uri = format!("{}?fieldManager=alertstorm&force=true", path(&kind, &name, namespace));
    patch(client, &uri, object).await.map_err(|source| BootstrapError::Apply { kind, name, source })
}

async fn patch(client: &Client, uri: &str, object: &Value) -> Result<(), kube::Error> {
    let body = serde_json::to_vec(object).map_err(kube::Error::SerdeError)?;
    let applied = call::patiently(PATIENCE, || async {
        let request = Request::patch(uri)
            .header("content-type", "application/apply-patch+yaml")
            .body(body.clone())
            .map_err(kube::Error::HttpError)?;
        client.request::<Value>(request).await
    });
    applied.await.map(drop)
}

/// Requests the tokens of the harness's own ServiceAccounts.
///
/// # Errors
/// [`BootstrapError::Token`] or [`BootstrapError::NoToken`] for the first that cannot be issued.
pub async fn tokens(client: &Client) -> Result<Tokens, BootstrapError> {
    Ok(Tokens {
        backend: token(client, "backend").await?,
        scraper: token(client, "scraper").await?,
        vault: token(client, "vault").await?,
    })
}

async fn token(client: &Client, name: &str) -> Result<String, BootstrapError> {
    let account = own_account(name);
    let failed = |source| BootstrapError::Token { account: account.clone(), source };
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), NAMESPACE);
    let request = json!({"spec": {"audiences": [], "expirationSeconds": TOKEN_LIFE_S}});
    let request: TokenRequest =
        serde_json::from_value(request).map_err(kube::Error::SerdeError).map_err(failed)?;
    let params = PostParams::default();
    let answer = call::patiently(PATIENCE, || async {
        accounts.create_token_request(&account, &params, &request).await
    });
    let status = answer.await.map_err(failed)?.status;
    let token = status.and_then(|status| status.token).filter(|token| !token.is_empty());
    token.ok_or(BootstrapError::NoToken { account })
}

#[cfg(test)]
mod tests {
    use kube::client::Body;

    use super::*;

    /// A client of an API server that answers every request with `text`.
    fn client(text: &'static str) -> Client {
        let service = tower::service_fn(move |_: Request<Body>| async move {
            Ok::<_, std::io::Error>(http::Response::new(Body::from(text.as_bytes().to_vec())))
        });
        Client::new(service, NAMESPACE)
    }

    #[tokio::test]
    async fn a_token_request_that_is_answered_without_a_token_is_an_error() {
        for answer in [
            r#"{"spec":{"audiences":[]}}"#,
            r#"{"spec":{"audiences":[]},"status":{"expirationTimestamp":"2026-01-01T00:00:00Z","token":""}}"#,
        ] {
            let error = tokens(&client(answer)).await.unwrap_err();
            assert!(matches!(error, BootstrapError::NoToken { .. }), "{error:?}");
            assert!(error.to_string().contains("alertstorm/alertstorm-backend"), "{error}");
        }
    }
}
