//! Manifests of agents: RBAC from the table of [`Phase`], and the limits and the NetworkPolicy of
//! their pods. A run applies them, `alertstorm render` writes them to files for GitOps.

use alertstorm_agent::names::{Names, application_object, role};
use alertstorm_model::controller::job;
use alertstorm_model::investigation::{Domain, IdentityKind, InvestigationId};
use alertstorm_model::phase::{Action, Phase, Verb};
use alertstorm_model::scenario::knobs::Job;
use serde_json::{Value, json};

use crate::reach::Reach;

/// The API group of roles and bindings, with its version.
pub const RBAC: &str = "rbac.authorization.k8s.io/v1";

/// The API group of FlowSchemas, with its version.
pub const FLOW_CONTROL: &str = "flowcontrol.apiserver.k8s.io/v1";

/// The label selector of the objects of all runs. A run's own have [`Names::label`] too.
pub const OURS: &str = "app.kubernetes.io/managed-by=alertstorm";

/// An object with the label of [`OURS`]; `rest` is merged into its top level.
pub fn object(kind: &str, api: &str, name: &str, rest: Value) -> Value {
    let mut object = json!({
        "apiVersion": api,
        "kind": kind,
        "metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "alertstorm"}},
    });
    if let (Value::Object(object), Value::Object(rest)) = (&mut object, rest) {
        object.extend(rest);
    }
    object
}

/// A RoleBinding or ClusterRoleBinding; `role` is the kind and the name of the role.
pub fn binding(kind: &str, name: &str, role: (&str, &str), subject: Value) -> Value {
    let role_ref = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": role.0, "name": role.1});
    object(kind, RBAC, name, json!({"roleRef": role_ref, "subjects": [subject]}))
}

/// A ServiceAccount as the subject of a binding.
pub fn account(name: &str, namespace: &str) -> Value {
    json!({"kind": "ServiceAccount", "name": name, "namespace": namespace})
}

/// A ServiceAccount whose token is not mounted into pods by default.
pub fn service_account(name: &str) -> Value {
    object("ServiceAccount", "v1", name, json!({"automountServiceAccountToken": false}))
}

/// The RBAC rules of an agent on `home` in `phase`.
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

/// The Roles of agents in a phase, one for each domain.
pub fn agent_roles(phase: Phase) -> Vec<Value> {
    let of = |&home: &Domain| {
        object("Role", RBAC, &role(phase, home), json!({"rules": agent_rules(phase, home)}))
    };
    Domain::ALL.iter().map(of).collect()
}

/// The shared ServiceAccount of each domain, and its RoleBinding.
pub fn shared_accounts(phase: Phase, namespace: &str) -> Vec<Value> {
    let shared = IdentityKind::SharedAgent;
    let of = |&home: &Domain| {
        let name = job::service_account(shared, phase, home, InvestigationId(0));
        let role = role(phase, home);
        let subject = account(&name, namespace);
        [service_account(&name), binding("RoleBinding", &role, ("Role", &role), subject)]
    };
    Domain::ALL.iter().flat_map(of).collect()
}

/// The namespace of agents, with the pod security standard `restricted`.
pub fn namespace(name: &str) -> Value {
    let mut namespace = object("Namespace", "v1", name, json!({}));
    for mode in ["enforce", "audit", "warn"] {
        let label = format!("pod-security.kubernetes.io/{mode}");
        namespace["metadata"]["labels"][label] = json!("restricted");
    }
    namespace
}

/// Denies ingress, and allows egress to the named servers only.
pub fn network_policy(reach: &Reach) -> Value {
    object(
        "NetworkPolicy",
        "networking.k8s.io/v1",
        "agents",
        json!({"spec": {
            "podSelector": {},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [],
            "egress": reach.rules(),
        }}),
    )
}

/// Default requests and limits of containers, and the maximum: those of an agent.
pub fn limit_range(job: &Job) -> Value {
    let request = json!({
        "cpu": format!("{}m", job.cpu_request_millis),
        "memory": job.memory_request.0.to_string(),
    });
    let memory = json!({"memory": job.memory_limit.0.to_string()});
    object(
        "LimitRange",
        "v1",
        "agents",
        json!({"spec": {"limits": [{
            "type": "Container",
            "defaultRequest": request,
            "default": memory,
            "max": memory,
        }]}}),
    )
}

/// The quota of a namespace for `agents` concurrent agents.
pub fn resource_quota(job: &Job, agents: u32) -> Value {
    let agents = u64::from(agents);
    object(
        "ResourceQuota",
        "v1",
        "agents",
        json!({"spec": {"hard": {
            "pods": agents.to_string(),
            "requests.cpu": format!("{}m", u64::from(job.cpu_request_millis) * agents),
            "requests.memory": (job.memory_request.0 * agents).to_string(),
            "limits.memory": (job.memory_limit.0 * agents).to_string(),
        }}}),
    )
}

/// Assigns requests of the namespace's ServiceAccounts to the priority level `level`.
pub fn flow_schema(level: &str, names: &Names) -> Value {
    let group = format!("system:serviceaccounts:{}", names.namespace());
    object(
        "FlowSchema",
        FLOW_CONTROL,
        &names.flow_schema(),
        json!({"spec": {
            "priorityLevelConfiguration": {"name": level},
            "matchingPrecedence": 5000,
            "distinguisherMethod": {"type": "ByUser"},
            "rules": [{
                "subjects": [{"kind": "Group", "group": {"name": group}}],
                "resourceRules": [{
                    "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"],
                    "clusterScope": true,
                }],
            }],
        }}),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rbac_grants_an_agent_what_the_phase_table_allows_and_nothing_else() {
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

    #[test]
    fn the_network_policy_allows_no_ingress_and_egress_by_named_rules_only() {
        let closed = network_policy(&Reach::default());
        assert_eq!(closed["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
        assert_eq!(closed["spec"]["ingress"], json!([]));
        assert_eq!(closed["spec"]["egress"], json!([]));
        let vault = vec!["172.18.0.3:8200".parse().unwrap()];
        let reach = Reach { vault, ..Reach::default() };
        assert_eq!(network_policy(&reach)["spec"]["egress"], json!(reach.rules()));
    }
}
