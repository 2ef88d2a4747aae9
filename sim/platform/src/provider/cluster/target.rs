//! Selects the cluster from the kubeconfig and checks the rights of its user.

use http::Request;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

use super::environment::{ClusterError, Options};
use crate::platform::NAMESPACE;

/// A context whose name, cluster or server contains one of these looks like production.
const PRODUCTION: [&str; 3] = ["prod", "prd", "live"];

/// The selected context, with a client, the URL and the CA certificate of its API server.
pub(super) struct Target {
    pub name: String,
    pub api_server: String,
    pub ca: String,
    pub client: Client,
}

impl Target {
    pub async fn find(options: &Options) -> Result<Self, ClusterError> {
        let kubeconfig = Kubeconfig::read()?;
        let current = kubeconfig.current_context.clone();
        let name = options.context.clone().or(current).unwrap_or_default();
        let context = kubeconfig.contexts.iter().find(|context| context.name == name);
        let Some(context) = context else {
            let known: Vec<&str> = kubeconfig.contexts.iter().map(|c| c.name.as_str()).collect();
            let known = known.join(", ");
            return Err(ClusterError::NoContext { name, known });
        };
        let cluster = context.context.as_ref().map(|context| context.cluster.clone());
        let chosen = KubeConfigOptions { context: Some(name.clone()), ..Default::default() };
        let config = Config::from_custom_kubeconfig(kubeconfig, &chosen).await?;
        let api_server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let words = [name.as_str(), cluster.as_deref().unwrap_or_default(), &api_server];
        if options.context.is_none() && looks_like_production(&words) {
            return Err(ClusterError::Production(name));
        }
        let Some(authority) = config.root_cert.clone() else {
            let why = "the kubeconfig has no CA certificate of the API server";
            return Err(ClusterError::Unsupported(why));
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

/// A certificate in PEM format.
fn pem(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).filter_map(|l| str::from_utf8(l).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// A right: API group, resource, verbs, and whether it is namespaced.
type Right = (&'static str, &'static str, &'static [&'static str], bool);

/// Additional rights for shards.
const FOR_SHARDS: [Right; 4] = [
    ("batch", "jobs", &["create", "get", "delete"], true),
    ("", "configmaps", &["delete"], true),
    ("", "pods", &["get"], true),
    ("", "pods/log", &["get"], true),
];

/// The rights that a run needs as the context's user.
const NEEDED: [Right; 13] = [
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

/// Those of the needed rights that the context's user lacks, as `VERB RESOURCE`.
pub(super) async fn lacking(
    client: &Client,
    options: &Options,
) -> Result<Vec<String>, ClusterError> {
    let mut lacking = Vec::new();
    let with_flow_schema = options.priority_level.is_some();
    let of_shards = FOR_SHARDS.into_iter().filter(|_| options.shard_image.is_some());
    let flow = |right: &Right| with_flow_schema || !right.0.starts_with("flowcontrol");
    for (group, resource, verbs, inside) in NEEDED.into_iter().filter(flow).chain(of_shards) {
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

async fn post(client: &Client, resource: &str, body: &Value) -> Result<Value, ClusterError> {
    let request = Request::post(format!("/apis/authorization.k8s.io/v1/{resource}"))
        .header("content-type", "application/json")
        .body(serde_json::to_vec(body)?)?;
    Ok(client.request(request).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_with_a_production_word_in_a_name_looks_like_production() {
        assert!(looks_like_production(&["gke_acme_eu-PROD-1", "", ""]));
        assert!(looks_like_production(&["admin", "cluster", "https://api.prd.acme.example"]));
        assert!(!looks_like_production(&[
            "kind-alertstorm",
            "kind-alertstorm",
            "https://127.0.0.1"
        ]));
    }
}
