//! `alertstorm render`: what a phase needs in an environment in Kubernetes, Vault and PostgreSQL, as
//! files for GitOps. A run creates the same, by the same functions.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use alertstorm_agent::names::{Names, RunId};
use alertstorm_agent::postgres::Address;
use alertstorm_agent::vault::VaultError;
use alertstorm_model::phase::Phase;
use alertstorm_model::scenario::Scenario;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::manifests::resource_quota;
use crate::objects::{CLUSTER_WIDE, kind_and_name, mark};
use crate::platform::{Identities, Surroundings};
use crate::reach::Reach;
use crate::{bootstrap, postgres, vault};

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

/// What is not known when files are rendered. `envsubst` replaces it when they are applied.
pub const PLACEHOLDERS: [(&str, &str); 8] = [
    ("${KUBERNETES_HOST}", "the URL of the API server from Vault"),
    ("${KUBERNETES_CA}", "its CA certificate in PEM format, each newline written as \\n"),
    ("${KUBERNETES_ISSUER}", "the issuer of ServiceAccount tokens (jwt only)"),
    ("${KUBERNETES_ACCOUNTS_KEY}", "their public key, like the certificate (jwt only)"),
    ("${VAULT_REVIEWER_JWT}", "a token of the ServiceAccount alertstorm-vault"),
    ("${POSTGRES_ADDRESS}", "host and port of PostgreSQL from Vault"),
    ("${POSTGRES_CA}", "the CA certificate of PostgreSQL, like the other"),
    ("${POSTGRES_VAULT_PASSWORD}", "the password of Vault's user, the same in both places"),
];

/// An address that stands for `${POSTGRES_ADDRESS}`: nothing has it (RFC 5737).
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 5432);

/// The scenario of a phase.
fn in_phase(scenario: &Scenario, phase: Phase) -> Scenario {
    Scenario { phase, ..scenario.clone() }
}

/// The objects of a phase in an environment, in an order in which they can be created: those that a
/// run creates, and a quota.
pub fn objects(
    scenario: &Scenario,
    phase: Phase,
    environment: &RunId,
    limits: Environment,
    reach: &Reach,
) -> Vec<Value> {
    let names = Names::of_environment(environment, phase);
    let scenario = in_phase(scenario, phase);
    let mut all = bootstrap::objects(&scenario, &Identities::Accounts, Some(reach), &names);
    all.push(resource_quota(&scenario.controller.job, limits.agents));
    for object in &mut all {
        mark(object, &names);
        let (kind, _) = kind_and_name(object);
        if !CLUSTER_WIDE.contains(&kind) {
            object["metadata"]["namespace"] = json!(names.namespace());
        }
    }
    all
}

/// The objects as files for Kustomize: file name and documents.
pub fn manifests(
    scenario: &Scenario,
    phase: Phase,
    environment: &RunId,
    limits: Environment,
    reach: &Reach,
) -> Vec<(&'static str, Vec<Value>)> {
    let mut files: Vec<(&str, Vec<Value>)> = Vec::new();
    for object in objects(scenario, phase, environment, limits, reach) {
        let name = match kind_and_name(&object).0 {
            "Namespace" => "namespace.yaml",
            "ServiceAccount" | "RoleBinding" => "serviceaccounts-and-bindings.yaml",
            "Role" => "roles.yaml",
            "NetworkPolicy" => "networkpolicy.yaml",
            "LimitRange" | "ResourceQuota" => "limits.yaml",
            "ConfigMap" => "configmaps.yaml",
            "Lease" => "lease.yaml",
            _ => "cluster-wide.yaml",
        };
        match files.iter_mut().find(|(file, _)| *file == name) {
            Some((_, objects)) => objects.push(object),
            None => files.push((name, vec![object])),
        }
    }
    let resources: Vec<&str> = files.iter().map(|(file, _)| *file).collect();
    let kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "resources": resources,
    });
    files.push(("kustomization.yaml", vec![kustomization]));
    files
}

/// Vault's configuration of a phase in an environment: the writes that a run makes, path and body, in
/// their order.
///
/// # Errors
/// Never: nothing is sent.
pub fn vault_writes(
    scenario: &Scenario,
    phase: Phase,
    environment: &RunId,
) -> Result<Vec<(String, Value)>, VaultError> {
    let names = Names::of_environment(environment, phase);
    let text = |name: &str| name.to_owned();
    let around = Surroundings {
        api_server: text("${KUBERNETES_HOST}"),
        api_server_ca: text("${KUBERNETES_CA}"),
        accounts_key: text("${KUBERNETES_ACCOUNTS_KEY}"),
        issuer: text("${KUBERNETES_ISSUER}"),
        postgres: Address::plain(NOWHERE),
        postgres_user: (names.vault_user(), text("${POSTGRES_VAULT_PASSWORD}")),
        audit: None,
    };
    let scenario = in_phase(scenario, phase);
    let mut all = vault::listed(&scenario, &around, "${VAULT_REVIEWER_JWT}", &names)?;
    for (_, body) in &mut all {
        if let Some(url) = body["connection_url"].as_str() {
            let url = url.replace(&NOWHERE.to_string(), "${POSTGRES_ADDRESS}");
            body["connection_url"] = url.replace("sslmode=disable", "sslmode=verify-full").into();
            body["tls_ca"] = "${POSTGRES_CA}".into();
        }
    }
    Ok(all)
}

/// Vault's configuration as files: a policy as HCL, any other write as JSON, and a script that applies
/// them in their order.
///
/// # Errors
/// Never: nothing is sent.
pub fn vault_files(
    scenario: &Scenario,
    phase: Phase,
    environment: &RunId,
) -> Result<Vec<(String, String)>, VaultError> {
    let mut files = Vec::new();
    let mut script = String::from(
        "#!/bin/sh\n# Applies these files to the Vault of VAULT_ADDR. Needs `vault` and `envsubst`, and these \
         variables:\n",
    );
    for (name, what) in PLACEHOLDERS {
        let name = name.trim_start_matches("${").trim_end_matches('}');
        script.push_str(&format!("#   {name}: {what}\n"));
    }
    script.push_str(
        "set -eu\ncd \"$(dirname \"$0\")\"\nwrite() { envsubst <\"$2\" | vault write \"$1\" -; }\n",
    );
    for (number, (path, body)) in
        vault_writes(scenario, phase, environment)?.into_iter().enumerate()
    {
        if let Some(name) = path.strip_prefix("sys/policies/acl/") {
            let file = format!("policy-{name}.hcl");
            script.push_str(&format!("vault policy write {name} {file}\n"));
            files.push((file, body["policy"].as_str().unwrap_or_default().to_owned()));
        } else {
            let file = format!("{number:02}-{}.json", path.replace('/', "-"));
            script.push_str(&format!("write {path} {file}\n"));
            files.push((file, format!("{body:#}\n")));
        }
    }
    files.push(("apply.sh".to_owned(), script));
    Ok(files)
}

/// The statements for PostgreSQL of a phase in an environment: file name and text. The first file is
/// for the database `postgres`, the second for the agents' own.
pub fn postgres_files(phase: Phase, environment: &RunId) -> Vec<(String, String)> {
    let names = Names::of_environment(environment, phase);
    let roles = postgres::roles_and_database(&names, "${POSTGRES_VAULT_PASSWORD}");
    let roles = format!(
        "-- As a superuser: envsubst <1-roles.sql | psql -d postgres\n{};\n",
        roles.join(";\n")
    );
    let evidence = format!(
        "-- As a superuser: psql -d {} -f 2-evidence.sql\n{}",
        names.database(),
        postgres::evidence(&names)
    );
    vec![("1-roles.sql".to_owned(), roles), ("2-evidence.sql".to_owned(), evidence)]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use alertstorm_agent::names::{application_object, role};
    use alertstorm_model::investigation::{Domain, IdentityKind};
    use alertstorm_model::phase::{Action, Verb};
    use alertstorm_model::scenario::{self, NoFiles};
    use http::Request;
    use kube::Client;

    use super::*;
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
        // The accounts of agents that share one are rendered.
        let scenario = Scenario { identity: IdentityKind::SharedAgent, ..scenario() };
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
                    let files = manifests(&scenario, phase, &staging, limits, &Reach::default());
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
                let files = manifests(&scenario, phase, name, *limits, &Reach::default());
                let names = Names::of_environment(name, phase);
                assert_eq!(files[0].1[0]["metadata"]["name"], names.namespace());
                let of = |(file, _): &&(&str, Vec<Value>)| *file == "limits.yaml";
                let quota = &files.iter().find(of).unwrap().1[1]["spec"]["hard"];
                assert_eq!(quota["pods"], limits.agents.to_string());
            }
        }
    }
}
