//! The rights that a run needs as the context's user. `kind-config/least` grants these and no others:
//! the cluster-wide ones, and a ClusterRole that the run binds to its user in its own namespace.

use std::time::Duration;

use alertstorm_agent::names::{Names, role};
use alertstorm_model::investigation::{Domain, IdentityKind};
use alertstorm_model::scenario::Scenario;
use kube::Client;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::environment::{ClusterError, Options};
use crate::bootstrap::create_one;
use crate::manifests::binding;
use crate::objects;

/// The ClusterRole with the rights that a run needs in its namespace.
pub(super) const IN_NAMESPACE: &str = "alertstorm-run";
/// The RoleBinding of [`IN_NAMESPACE`] to the context's user.
const BINDING: &str = "alertstorm-run";
/// The API server's authorizer takes notice of a new RoleBinding by then.
const BOUND_WITHIN: Duration = Duration::from_secs(20);

/// A right: API group, resource, verbs.
type Right = (&'static str, &'static str, &'static [&'static str]);

const RBAC: &str = "rbac.authorization.k8s.io";

/// Rights on objects that belong to no namespace.
const CLUSTER_WIDE: [Right; 3] = [
    ("", "namespaces", &["get", "list", "create", "delete"]),
    (RBAC, "clusterroles", &["get", "create", "delete"]),
    (RBAC, "clusterrolebindings", &["get", "create", "delete"]),
];

/// Additional rights for `--priority-level`.
const FOR_FLOW_SCHEMA: [Right; 1] =
    [("flowcontrol.apiserver.k8s.io", "flowschemas", &["get", "create", "delete"])];

/// Rights in the run's namespace. Among them is everything that its Roles grant, as the API server
/// lets nobody grant more than he has.
const INSIDE: [Right; 11] = [
    ("", "configmaps", &["get", "create", "patch"]),
    ("", "serviceaccounts", &["get", "create", "delete"]),
    ("", "serviceaccounts/token", &["create"]),
    ("", "limitranges", &["get", "create"]),
    ("", "pods", &["list", "watch"]),
    ("", "pods/log", &["get"]),
    ("batch", "jobs", &["list", "watch", "create", "delete", "deletecollection"]),
    ("coordination.k8s.io", "leases", &["get", "create", "patch", "watch"]),
    ("networking.k8s.io", "networkpolicies", &["get", "create"]),
    (RBAC, "roles", &["get", "create"]),
    (RBAC, "rolebindings", &["get", "create", "delete"]),
];

/// Additional rights for shards.
const FOR_SHARDS: [Right; 4] = [
    ("", "configmaps", &["delete"]),
    ("batch", "jobs", &["get"]),
    (RBAC, "roles", &["patch"]),
    (RBAC, "rolebindings", &["patch"]),
];

/// What holds the addresses of the API server for the agents' NetworkPolicy, in the namespace
/// `default`: a Service and an EndpointSlice named `kubernetes`. Not needed with `--api-server-at`.
const ADDRESSES: [(&str, &str); 2] = [("", "services"), ("discovery.k8s.io", "endpointslices")];

/// One right, as the API server's authorizer is asked for it.
struct Asked<'a> {
    group: &'a str,
    resource: &'a str,
    subresource: &'a str,
    verb: &'a str,
    name: &'a str,
    namespace: &'a str,
}

impl Asked<'_> {
    async fn is_granted(&self, client: &Client) -> Result<bool, ClusterError> {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {
                "group": self.group, "resource": self.resource, "subresource": self.subresource,
                "verb": self.verb, "name": self.name, "namespace": self.namespace,
            }},
        });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        Ok(objects::post(client, path, &review).await?["status"]["allowed"] == true)
    }
}

impl std::fmt::Display for Asked<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        for (mark, of) in [("/", self.subresource), (".", self.group), (" ", self.name)] {
            if !of.is_empty() {
                write!(f, "{mark}{of}")?;
            }
        }
        if self.namespace.is_empty() { Ok(()) } else { write!(f, " in {}", self.namespace) }
    }
}

async fn lacking_of(
    client: &Client,
    rights: impl Iterator<Item = Right>,
    namespace: &str,
) -> Result<Vec<String>, ClusterError> {
    let mut lacking = Vec::new();
    for (group, resource, verbs) in rights {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        for verb in verbs {
            let asked = Asked { group, resource, subresource, verb, name: "", namespace };
            if !asked.is_granted(client).await? {
                lacking.push(asked.to_string());
            }
        }
    }
    Ok(lacking)
}

/// Those of the rights in the run's namespace that the user lacks.
async fn lacking_inside(
    client: &Client,
    options: &Options,
    scenario: &Scenario,
    names: &Names,
) -> Result<Vec<String>, ClusterError> {
    let namespace = names.namespace();
    let for_shards = FOR_SHARDS.into_iter().filter(|_| options.shard_image.is_some());
    let mut lacking = lacking_of(client, INSIDE.into_iter().chain(for_shards), namespace).await?;
    if scenario.identity == IdentityKind::PerInvestigation {
        // The controller binds the agents' Roles, by name.
        for &home in Domain::ALL {
            let name = &role(scenario.phase, home);
            let resource = "roles";
            let (verb, subresource, group) = ("bind", "", RBAC);
            let asked = Asked { group, resource, subresource, verb, name, namespace };
            if !asked.is_granted(client).await? {
                lacking.push(asked.to_string());
            }
        }
    }
    Ok(lacking)
}

/// How the context's user gets its rights in the run's namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inside {
    /// It has them everywhere.
    Granted,
    /// It binds [`IN_NAMESPACE`] to itself there.
    ByBinding,
}

/// Checks the rights of the context's user.
///
/// # Errors
/// [`ClusterError::Rights`] if some are missing.
pub(super) async fn check(
    client: &Client,
    options: &Options,
    scenario: &Scenario,
    names: &Names,
) -> Result<Inside, ClusterError> {
    let flow = FOR_FLOW_SCHEMA.into_iter().filter(|_| options.priority_level.is_some());
    let wide = CLUSTER_WIDE.into_iter().chain(flow);
    let mut lacking = lacking_of(client, wide, "").await?;
    let review = Asked {
        group: RBAC,
        resource: "clusterroles",
        subresource: "",
        verb: "bind",
        name: "system:auth-delegator",
        namespace: "",
    };
    if !review.is_granted(client).await? {
        lacking.push(review.to_string());
    }
    let addresses = ADDRESSES.into_iter().filter(|_| options.egress.api_server.is_empty());
    for (group, resource) in addresses {
        let (verb, subresource, name, namespace) = ("get", "", "kubernetes", "default");
        let asked = Asked { group, resource, subresource, verb, name, namespace };
        if !asked.is_granted(client).await? {
            lacking.push(asked.to_string());
        }
    }
    let within = lacking_inside(client, options, scenario, names).await?;
    let mut how = Inside::Granted;
    if !within.is_empty() {
        let bind = Asked { name: IN_NAMESPACE, ..review };
        let namespace = names.namespace();
        let create =
            Asked { verb: "create", resource: "rolebindings", name: "", namespace, ..bind };
        if bind.is_granted(client).await? && create.is_granted(client).await? {
            how = Inside::ByBinding;
        } else {
            lacking.extend(within);
        }
    }
    if lacking.is_empty() { Ok(how) } else { Err(ClusterError::Rights(lacking)) }
}

/// Binds [`IN_NAMESPACE`] to the context's user in the run's namespace, and waits until it has the
/// rights there.
///
/// # Errors
/// [`ClusterError::Rights`] if the ClusterRole does not grant all of them.
pub(super) async fn bind(
    client: &Client,
    options: &Options,
    scenario: &Scenario,
    names: &Names,
) -> Result<(), ClusterError> {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let user: Value = objects::post(client, path, &review).await?;
    let subject = json!({
        "apiGroup": RBAC, "kind": "User", "name": user["status"]["userInfo"]["username"],
    });
    let of = binding("RoleBinding", BINDING, ("ClusterRole", IN_NAMESPACE), subject);
    create_one(client, of, names).await?;
    let until = Instant::now() + BOUND_WITHIN;
    loop {
        let lacking = lacking_inside(client, options, scenario, names).await?;
        if lacking.is_empty() {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(ClusterError::Rights(lacking));
        }
        sleep(Duration::from_millis(200)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use alertstorm_model::phase::Phase;

    use super::*;

    /// Each right of a published ClusterRole: verb, resource with its group, and name.
    fn published(name: &str) -> BTreeSet<String> {
        let text = include_str!("../../../../../kind-config/least/rbac.yaml");
        let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
        let of =
            |object: &&Value| object["kind"] == "ClusterRole" && object["metadata"]["name"] == name;
        let role = documents.iter().find(of).unwrap();
        let texts = |value: &Value| -> Vec<String> {
            let all = value.as_array().into_iter().flatten();
            all.map(|text| text.as_str().unwrap().to_owned()).collect()
        };
        let mut all = BTreeSet::new();
        for rule in role["rules"].as_array().unwrap() {
            let names = match &rule["resourceNames"] {
                Value::Null => vec![String::new()],
                names => texts(names),
            };
            for resource in texts(&rule["resources"]) {
                for verb in texts(&rule["verbs"]) {
                    for group in texts(&rule["apiGroups"]) {
                        all.extend(names.iter().map(|name| line(&verb, &group, &resource, name)));
                    }
                }
            }
        }
        all
    }

    fn line(verb: &str, group: &str, resource: &str, name: &str) -> String {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Asked { group, resource, subresource, verb, name, namespace: "" }.to_string()
    }

    fn checked<'a>(rights: impl Iterator<Item = &'a Right>) -> BTreeSet<String> {
        let lines = |(group, resource, verbs): &Right| -> Vec<String> {
            verbs.iter().map(|verb| line(verb, group, resource, "")).collect()
        };
        rights.flat_map(lines).collect()
    }

    #[test]
    fn the_published_roles_grant_what_a_run_checks_and_nothing_else() {
        let mut inside = checked(INSIDE.iter().chain(&FOR_SHARDS));
        for &phase in Phase::ALL {
            for &home in Domain::ALL {
                inside.insert(line("bind", RBAC, "roles", &role(phase, home)));
            }
        }
        assert_eq!(published(IN_NAMESPACE), inside);

        let mut wide = checked(CLUSTER_WIDE.iter().chain(&FOR_FLOW_SCHEMA));
        for name in ["system:auth-delegator", IN_NAMESPACE] {
            wide.insert(line("bind", RBAC, "clusterroles", name));
        }
        wide.extend(ADDRESSES.map(|(group, resource)| line("get", group, resource, "kubernetes")));
        // The binding of `alertstorm-run`, and the Leases that `clean` reads.
        wide.extend(checked([(RBAC, "rolebindings", &["get", "create"][..])].iter()));
        wide.extend(checked([("coordination.k8s.io", "leases", &["get"][..])].iter()));
        assert_eq!(published("alertstorm-harness"), wide);
    }
}
