//! The rights that `kind-config/least` grants, beside those that runs used by the API server's audit
//! log.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::common::root;

/// Granted for what these runs do not do.
const RARE: [&str; 14] = [
    // `--priority-level`. A `get` before creation sees objects of others.
    "create flowschemas.flowcontrol.apiserver.k8s.io",
    "delete flowschemas.flowcontrol.apiserver.k8s.io",
    // Shards.
    "delete configmaps",
    "get jobs.batch",
    "patch roles.rbac.authorization.k8s.io",
    "patch rolebindings.rbac.authorization.k8s.io",
    // Alerts that are cancelled.
    "delete jobs.batch",
    // A journal that is longer than a termination message.
    "get pods/log",
    // After a creation whose response was lost.
    "get limitranges",
    "get networkpolicies.networking.k8s.io",
    "get rolebindings.rbac.authorization.k8s.io",
    "get roles.rbac.authorization.k8s.io",
    "get serviceaccounts",
    "get configmaps",
];

/// Used for tokens that their agents did not return, and to check the roles of an environment that
/// exists.
const RARE_IN_VAULT: [&str; 3] = [
    "update auth/token/lookup-accessor",
    "update auth/token/revoke-accessor",
    "read auth/alertstorm-*",
];

/// A verb and a resource with its subresource and API group, as in `get pods/log` or
/// `create jobs.batch`.
fn right(verb: &str, resource: &str, group: &str) -> String {
    let dot = if group.is_empty() { "" } else { "." };
    format!("{verb} {resource}{dot}{group}")
}

fn texts<'a>(of: &'a Value, field: &str) -> impl Iterator<Item = &'a str> {
    of[field].as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// The granted rights that no request needed, except for [`RARE`].
pub fn unused(audit_log: &Path, namespaces: &[&str]) -> Vec<String> {
    let used = used(audit_log, namespaces);
    let unused = granted().into_iter().filter(|right| !used.contains(right));
    unused.filter(|right| !RARE.contains(&right.as_str())).collect()
}

/// The rights that the two ClusterRoles grant. A `bind` is no request of its own, and is left out.
fn granted() -> BTreeSet<String> {
    let text = fs::read_to_string(root().join("kind-config/least/rbac.yaml")).expect("rbac.yaml");
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).expect("rbac.yaml");
    let mut all = BTreeSet::new();
    for rule in documents.iter().flat_map(|document| document["rules"].as_array()).flatten() {
        for group in texts(rule, "apiGroups") {
            for resource in texts(rule, "resources") {
                let verbs = texts(rule, "verbs").filter(|verb| *verb != "bind");
                all.extend(verbs.map(|verb| right(verb, resource, group)));
            }
        }
    }
    all
}

/// The rights that requests of these namespaces' ServiceAccounts needed, by the API server's audit log.
fn used(audit_log: &Path, namespaces: &[&str]) -> BTreeSet<String> {
    let text = fs::read_to_string(audit_log).expect("the audit log");
    let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let of_account = |event: &Value| {
        let user = event["user"]["username"].as_str()?.strip_prefix("system:serviceaccount:")?;
        user.split_once(':').map(|(namespace, _)| namespaces.contains(&namespace))
    };
    let requests = events.filter(|event| of_account(event) == Some(true)).filter_map(|event| {
        let of = &event["objectRef"];
        let field = |name: &str| of[name].as_str().unwrap_or_default();
        let resource = match field("subresource") {
            "" => field("resource").to_owned(),
            sub => format!("{}/{sub}", field("resource")),
        };
        Some(right(event["verb"].as_str()?, &resource, field("apiGroup")))
    });
    requests.collect()
}

/// The capabilities in `vault-policy.hcl` that no request of a token with it needed, as in
/// `delete sys/mounts/alertstorm-*`, except for [`RARE_IN_VAULT`]. Vault's trail does not contain which requests needed `sudo`.
pub fn unused_in_vault(audit_log: &Path, policy: &str) -> Vec<String> {
    let text = fs::read_to_string(audit_log).expect("the audit log");
    let entries = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let with_policy = |entry: &Value| texts(&entry["auth"], "policies").any(|name| name == policy);
    let requests: BTreeSet<(String, String)> = entries
        .filter(|entry| entry["type"] == "request" && with_policy(entry))
        .map(|entry| {
            let field = |name: &str| entry["request"][name].as_str().expect("a text").to_owned();
            (field("operation"), field("path"))
        })
        .collect();
    let file = root().join("kind-config/least/vault-policy.hcl");
    let rules = fs::read_to_string(file).expect("the policy");
    let mut unused = Vec::new();
    for rule in rules.lines().filter_map(|line| line.strip_prefix("path \"")) {
        let (path, capabilities) = rule.split_once("\" { capabilities = ").expect("a rule");
        let capabilities: Vec<String> =
            serde_json::from_str(capabilities.trim_end_matches('}').trim()).expect("capabilities");
        let matches = |of: &str| match path.strip_suffix('*') {
            Some(prefix) => of.starts_with(prefix),
            None => of.trim_end_matches('/') == path,
        };
        for capability in capabilities.iter().filter(|capability| *capability != "sudo") {
            if !requests.iter().any(|(operation, of)| operation == capability && matches(of)) {
                unused.push(format!("{capability} {path}"));
            }
        }
    }
    unused.retain(|right| !RARE_IN_VAULT.contains(&right.as_str()));
    unused
}
