//! What a run needs in the cluster: its namespace, the identities' rights, and the objects that
//! stand for the systems of the domain `application`. Each right is one that somebody uses.

use alertstorm_agent::names::{application_object, role};
use alertstorm_model::controller::job;
use alertstorm_model::investigation::{Domain, IdentityKind, InvestigationId};
use alertstorm_model::phase::{Action, Phase, Verb};
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
use crate::platform::{NAMESPACE, Tokens};

/// How long the control plane may take to accept what is set up.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// How long the harness's own tokens live: longer than a run.
const TOKEN_LIFE_S: i64 = 86_400;

/// The labels of everything that is ours.
fn labels() -> Value {
    json!({"app.kubernetes.io/managed-by": "alertstorm"})
}

fn object(kind: &str, api: &str, name: &str, rest: Value) -> Value {
    let mut object = json!({
        "apiVersion": api,
        "kind": kind,
        "metadata": {"name": name, "labels": labels()},
    });
    if let (Value::Object(object), Value::Object(rest)) = (&mut object, rest) {
        object.extend(rest);
    }
    object
}

/// Where a kind's objects of the namespace are.
fn path(kind: &str, name: &str) -> String {
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    match kind {
        "Namespace" => format!("/api/v1/namespaces/{name}"),
        "ConfigMap" => format!("/api/v1/namespaces/{NAMESPACE}/configmaps/{name}"),
        "ServiceAccount" => format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{name}"),
        "Role" => format!("{rbac}/namespaces/{NAMESPACE}/roles/{name}"),
        "RoleBinding" => format!("{rbac}/namespaces/{NAMESPACE}/rolebindings/{name}"),
        "ClusterRole" => format!("{rbac}/clusterroles/{name}"),
        _ => format!("{rbac}/clusterrolebindings/{name}"),
    }
}

const RBAC: &str = "rbac.authorization.k8s.io/v1";

fn binding(kind: &str, name: &str, role: (&str, &str), subject: Value) -> Value {
    let role_ref = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": role.0, "name": role.1});
    object(kind, RBAC, name, json!({"roleRef": role_ref, "subjects": [subject]}))
}

/// What the harness's own identities are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Users whose tokens the API server has in a file.
    Users,
    /// ServiceAccounts, whose tokens the API server makes.
    Accounts,
}

impl Who {
    /// The subject of a binding for one of the harness's identities.
    fn subject(self, name: &str) -> Value {
        match self {
            Self::Users => json!({
                "apiGroup": "rbac.authorization.k8s.io", "kind": "User",
                "name": format!("alertstorm:{name}"),
            }),
            Self::Accounts => account(&own_account(name)),
        }
    }
}

/// The ServiceAccount of one of the harness's identities.
fn own_account(name: &str) -> String {
    format!("alertstorm-{name}")
}

/// The harness's identities: the controller, who reads metrics, and Vault.
const OWN: [&str; 3] = ["backend", "scraper", "vault"];

fn account(name: &str) -> Value {
    json!({"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE})
}

/// The rules of an agent on `home` in `phase`, from the table of [`Phase`].
fn agent_rules(phase: Phase, home: Domain) -> Vec<Value> {
    let allowed =
        |verb: &&Verb| phase.allows(home, Action { verb: **verb, target: Domain::Application });
    let rule = |verb: &Verb| {
        json!({
            "apiGroups": [""],
            "resources": ["configmaps"],
            "resourceNames": [application_object(*verb)],
            "verbs": [if verb.writes() { "patch" } else { "get" }],
        })
    };
    Verb::ALL.iter().filter(allowed).map(rule).collect()
}

/// Everything, in an order in which it can be made.
pub fn objects(scenario: &Scenario, who: Who) -> Vec<Value> {
    let phase = scenario.phase;
    let mut all = vec![object("Namespace", "v1", NAMESPACE, json!({}))];
    for &verb in Verb::ALL {
        let data = json!({"data": {"state": "up"}});
        all.push(object("ConfigMap", "v1", application_object(verb), data));
    }
    let mut bind: Vec<String> = Vec::new();
    for &home in Domain::ALL {
        let name = role(phase, home);
        all.push(object("Role", RBAC, &name, json!({"rules": agent_rules(phase, home)})));
        if scenario.identity == IdentityKind::SharedAgent {
            let shared = job::service_account(scenario.identity, phase, home, InvestigationId(0));
            let off = json!({"automountServiceAccountToken": false});
            all.push(object("ServiceAccount", "v1", &shared, off));
            all.push(binding("RoleBinding", &name, ("Role", &name), account(&shared)));
        }
        bind.push(name);
    }
    if who == Who::Accounts {
        let off = json!({"automountServiceAccountToken": false});
        all.extend(OWN.map(|name| object("ServiceAccount", "v1", &own_account(name), off.clone())));
    }
    all.extend(backend(scenario, &bind, who));
    all.extend(scraper(who));
    all.extend(vault(scenario, who));
    all
}

/// The investigation controller: Jobs and what belongs to them, in one namespace.
fn backend(scenario: &Scenario, agent_roles: &[String], who: Who) -> [Value; 2] {
    let rule = |group: &str, resources: &[&str], verbs: &[&str]| json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
    let mut rules = vec![
        rule("batch", &["jobs"], &["create", "delete", "deletecollection", "get", "list", "watch"]),
        rule("", &["pods"], &["list", "watch"]),
        // A journal that is too long for a termination message is in the pod's log.
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
        binding("RoleBinding", name, ("Role", name), who.subject("backend")),
    ]
}

fn scraper(who: Who) -> [Value; 2] {
    let name = "alertstorm-scraper";
    let rules = json!({"rules": [{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}]});
    [
        object("ClusterRole", RBAC, name, rules),
        binding("ClusterRoleBinding", name, ("ClusterRole", name), who.subject("scraper")),
    ]
}

/// Vault asks the API server about tokens, and makes tokens where an engine of it does.
fn vault(scenario: &Scenario, who: Who) -> Vec<Value> {
    let name = "alertstorm-vault";
    let review = ("ClusterRole", "system:auth-delegator");
    let mut all = vec![binding("ClusterRoleBinding", name, review, who.subject("vault"))];
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
        all.push(object(
            "ServiceAccount",
            "v1",
            account,
            json!({"automountServiceAccountToken": false}),
        ));
    }
    let rules = json!({"rules": [{
        "apiGroups": [""],
        "resources": ["serviceaccounts/token"],
        "resourceNames": accounts,
        "verbs": ["create"],
    }]});
    all.push(object("Role", RBAC, name, rules));
    all.push(binding("RoleBinding", name, ("Role", name), who.subject("vault")));
    all
}

/// The RoleBinding of an investigation's own ServiceAccount.
pub fn own_binding(account_name: &str, role: &str, labels: &Value) -> Value {
    let mut all = binding("RoleBinding", account_name, ("Role", role), account(account_name));
    all["metadata"]["labels"] = labels.clone();
    all
}

/// Applies everything; what is there already is changed to this.
///
/// # Errors
/// The first call that fails for good.
pub async fn apply(client: &Client, scenario: &Scenario, who: Who) -> Result<(), kube::Error> {
    for object in objects(scenario, who) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let place = path(&text(&object["kind"]), &text(&object["metadata"]["name"]));
        let uri = format!("{place}?fieldManager=alertstorm&force=true");
        let body = serde_json::to_vec(&object).map_err(kube::Error::SerdeError)?;
        call::patiently(PATIENCE, || async {
            let request = Request::patch(&uri)
                .header("content-type", "application/apply-patch+yaml")
                .body(body.clone())
                .map_err(kube::Error::HttpError)?;
            client.request::<Value>(request).await
        })
        .await?;
    }
    Ok(())
}

/// Asks the API server for the tokens of the harness's own ServiceAccounts.
///
/// # Errors
/// The first call that fails for good.
pub async fn tokens(client: &Client) -> Result<Tokens, kube::Error> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), NAMESPACE);
    let request = json!({"spec": {"audiences": [], "expirationSeconds": TOKEN_LIFE_S}});
    let request: TokenRequest = serde_json::from_value(request).map_err(kube::Error::SerdeError)?;
    let ask = async |name: &str| {
        let name = own_account(name);
        let params = PostParams::default();
        let made = call::patiently(PATIENCE, || async {
            accounts.create_token_request(&name, &params, &request).await
        });
        let token = made.await?.status.and_then(|status| status.token);
        Ok::<String, kube::Error>(token.unwrap_or_default())
    };
    Ok(Tokens {
        backend: ask("backend").await?,
        scraper: ask("scraper").await?,
        vault: ask("vault").await?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_may_do_in_kubernetes_what_the_table_says_and_no_more() {
        let granted = |phase, home| -> Vec<String> {
            let rules = agent_rules(phase, home);
            rules
                .iter()
                .map(|rule| format!("{} {}", rule["verbs"][0], rule["resourceNames"][0]))
                .collect()
        };
        assert!(granted(Phase::Shadow, Domain::Network).is_empty());
        let read = "\"get\" \"application-state\"";
        assert_eq!(granted(Phase::ReadOnlyAssist, Domain::Network), [read]);
        let all = granted(Phase::Autonomous, Domain::Application);
        assert_eq!(all.len(), 3, "{all:?}");
        assert_eq!(granted(Phase::Autonomous, Domain::Security), [read]);
    }
}
