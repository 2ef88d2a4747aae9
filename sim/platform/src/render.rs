//! `alertstorm render`: the manifests, Vault policies and Vault roles of a phase in an environment,
//! as files for GitOps. A run applies the same.

use std::collections::BTreeMap;

use alertstorm_agent::names::{Names, RunId, role};
use alertstorm_model::investigation::{Domain, IdentityKind};
use alertstorm_model::phase::Phase;
use alertstorm_model::scenario::Scenario;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::manifests::{
    Reach, agent_roles, limit_range, namespace, network_policy, resource_quota, shared_accounts,
};
use crate::objects;
use crate::vault::{login_role, policy};

/// The capacity of an environment.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// Maximum number of concurrent agents.
    pub agents: u32,
}

/// The environments, by name.
///
/// # Errors
/// If the table that is compiled in is not valid YAML; a test reads it.
pub fn environments() -> Result<BTreeMap<RunId, Environment>, serde_saphyr::Error> {
    serde_saphyr::from_str(include_str!("../../../kind-config/environments.yaml"))
}

/// The objects of a phase in an environment: file name and documents.
pub fn manifests(
    scenario: &Scenario,
    phase: Phase,
    environment: &RunId,
    limits: Environment,
) -> Vec<(&'static str, Vec<Value>)> {
    let names = Names::of_environment(environment, phase);
    let name = names.namespace();
    let job = &scenario.controller.job;
    let mut files = vec![
        ("serviceaccounts-and-bindings.yaml", shared_accounts(phase, name)),
        ("roles.yaml", agent_roles(phase)),
        ("networkpolicy.yaml", vec![network_policy(Reach::default())]),
        ("limits.yaml", vec![limit_range(job), resource_quota(job, limits.agents)]),
    ];
    for object in files.iter_mut().flat_map(|(_, objects)| objects) {
        object["metadata"]["namespace"] = json!(name);
    }
    files.insert(0, ("namespace.yaml", vec![namespace(name)]));
    for object in files.iter_mut().flat_map(|(_, objects)| objects) {
        objects::mark(object, &names);
    }
    let resources: Vec<&str> = files.iter().map(|(file, _)| *file).collect();
    let kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "resources": resources,
    });
    files.push(("kustomization.yaml", vec![kustomization]));
    files
}

/// Vault's policies and login roles of a phase in an environment: file name and text.
pub fn vault_files(
    scenario: &Scenario,
    phase: Phase,
    environment: &RunId,
) -> Vec<(String, String)> {
    let names = Names::of_environment(environment, phase);
    let of = |&home: &Domain| {
        let name = role(phase, home);
        let shared = IdentityKind::SharedAgent;
        let login = login_role(&scenario.vault, shared, phase, home, &names);
        [
            (
                format!("policy-{}.hcl", names.policy(phase, home)),
                policy(scenario, phase, home, &names),
            ),
            (format!("role-{name}.json"), format!("{login:#}\n")),
        ]
    };
    Domain::ALL.iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use alertstorm_agent::names::application_object;
    use alertstorm_model::phase::{Action, Verb};
    use alertstorm_model::scenario::{self, NoFiles};
    use http::Request;
    use kube::Client;

    use super::*;
    use crate::bootstrap;
    use crate::provider::Provider;
    use crate::provider::local::Local;

    fn scenario() -> Scenario {
        let least = "alerts: [{flood: 1}]\n";
        scenario::load(least, "least", &[], &NoFiles).unwrap().scenario().clone()
    }

    const VERBS: [&str; 8] =
        ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];

    /// Group, resource and name: those that the phase table lists, and others.
    fn resources() -> Vec<(&'static str, &'static str, &'static str)> {
        let mut all: Vec<_> =
            Verb::ALL.iter().map(|verb| ("", "configmaps", application_object(*verb))).collect();
        all.extend([("", "configmaps", ""), ("", "configmaps", "kube-root-ca.crt")]);
        all.extend(
            [
                "pods",
                "pods/exec",
                "pods/log",
                "secrets",
                "serviceaccounts",
                "serviceaccounts/token",
                "services",
                "events",
                "persistentvolumeclaims",
            ]
            .map(|resource| ("", resource, "")),
        );
        all.extend([
            ("batch", "jobs", ""),
            ("apps", "deployments", ""),
            ("rbac.authorization.k8s.io", "roles", ""),
            ("rbac.authorization.k8s.io", "rolebindings", ""),
            ("networking.k8s.io", "networkpolicies", ""),
        ]);
        all
    }

    async fn may(client: &Client, namespace: &str, account: &str, attributes: Value) -> bool {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {
                "user": format!("system:serviceaccount:{namespace}:{account}"),
                "groups": ["system:serviceaccounts", "system:authenticated",
                           format!("system:serviceaccounts:{namespace}")],
                "resourceAttributes": attributes,
            },
        });
        let request = Request::post("/apis/authorization.k8s.io/v1/subjectaccessreviews")
            .header("content-type", "application/json")
            .body(serde_json::to_vec(&review).unwrap())
            .unwrap();
        let answer: Value = client.request(request).await.unwrap();
        answer["status"]["allowed"].as_bool().unwrap()
    }

    /// A real authorizer (SubjectAccessReview) allows what the phase table lists and nothing else,
    /// and a later phase allows all that an earlier one does.
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs the servers of `alertstorm setup local`"]
    async fn rbac_grants_what_the_phase_table_allows_and_later_phases_only_add() {
        let scenario = scenario();
        let local = Local::start(&scenario, false, &|_: &str| {}).await.unwrap();
        let client = local.platform().unwrap().admin;
        for &home in Domain::ALL {
            let mut before: BTreeSet<String> = BTreeSet::new();
            for &phase in Phase::ALL {
                let staging: RunId = "staging".parse().unwrap();
                let names = Names::of_environment(&staging, phase);
                let namespace = names.namespace();
                if home == Domain::ALL[0] {
                    let limits = environments().unwrap()[&staging];
                    let files = manifests(&scenario, phase, &staging, limits);
                    let ours = |object: &&Value| object["kind"] != "Kustomization";
                    for object in files.iter().flat_map(|(_, all)| all).filter(ours) {
                        bootstrap::create_one(&client, object.clone(), &names).await.unwrap();
                    }
                }
                let account = role(phase, home);
                let mut granted: BTreeSet<String> = BTreeSet::new();
                for verb in VERBS {
                    for (group, resource, name) in resources() {
                        let (resource, subresource) =
                            resource.split_once('/').unwrap_or((resource, ""));
                        let attributes = json!({
                            "namespace": namespace, "verb": verb, "group": group,
                            "resource": resource, "subresource": subresource, "name": name,
                        });
                        let expected = Verb::ALL.iter().any(|&of| {
                            let action = Action { verb: of, target: Domain::Application };
                            resource == "configmaps"
                                && name == application_object(of)
                                && verb == (if of.writes() { "patch" } else { "get" })
                                && phase.allows(home, action)
                        });
                        let allowed = may(&client, namespace, &account, attributes).await;
                        let what = format!("{verb} {group}/{resource}/{subresource} {name}");
                        assert_eq!(allowed, expected, "{account} may {what}");
                        if allowed {
                            granted.insert(what);
                        }
                    }
                }
                assert!(granted.is_superset(&before), "{account}: {granted:?} after {before:?}");
                before = granted;
            }
        }
        local.stop().unwrap();
    }

    #[test]
    fn manifests_exist_for_every_phase_in_every_environment() {
        let (scenario, environments) = (scenario(), environments().unwrap());
        assert!(environments.contains_key(&"staging".parse().unwrap()));
        for &phase in Phase::ALL {
            for (name, limits) in &environments {
                let files = manifests(&scenario, phase, name, *limits);
                let names = Names::of_environment(name, phase);
                assert_eq!(files[0].1[0]["metadata"]["name"], names.namespace());
                let quota = &files[4].1[1]["spec"]["hard"];
                assert_eq!(quota["pods"], limits.agents.to_string());
                assert_eq!(vault_files(&scenario, phase, name).len(), 2 * Domain::COUNT);
            }
        }
    }
}
