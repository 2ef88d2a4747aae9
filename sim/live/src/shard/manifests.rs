//! The objects of a fleet: the Indexed Job of its shards, and what they read.

use alertstorm_platform::NAMESPACE;
use alertstorm_platform::manifests::{RBAC, account, binding, object};
use std::num::NonZeroU32;

use serde_json::{Value, json};

use super::wire::Orders;

/// How many shards a run has, and their image.
#[derive(Clone, Debug)]
pub struct Shards {
    /// How many.
    pub count: NonZeroU32,
    /// The image of this program, as the cluster's nodes have it.
    pub image: String,
    /// What a shard runs: files below the folder of its plan, by name.
    pub files: Vec<(String, String)>,
}

/// Where a shard finds its plan, in its pod.
pub const PLAN_FOLDER: &str = "/plan";

/// The name of the Job, its ConfigMap and its rights.
pub const NAME: &str = "alertstorm-shards";
/// The file of the orders in a shard's plan folder.
pub const ORDERS: &str = "orders.json";
/// Where a shard's token and the authority of the API server are.
pub const TOKENS: &str = "/var/run/tokens";
/// The label of a fleet's pods.
pub const LABEL: &str = "alertstorm.dev/part";
/// A shard that dies so often is given up (`backoffLimitPerIndex`).
pub const DEATHS_MAX: u32 = 4;
/// A ConfigMap holds no more (the API server's limit on `data`).
pub const PLAN_MAX: usize = 1 << 20;

/// The ConfigMap in which a shard finds the fleet's answer.
pub fn begin_name(shard: u32) -> String {
    format!("{NAME}-begin-{shard}")
}

/// The key of the n-th file of the plan: names of files are no keys.
fn key(number: usize) -> String {
    format!("file-{number}")
}

/// Everything but the Job, in an order in which it can be made.
pub fn around(shards: &Shards, orders: &Orders) -> Result<Vec<Value>, serde_json::Error> {
    let mut data = serde_json::Map::new();
    data.insert(ORDERS.to_owned(), serde_json::to_string(orders)?.into());
    for (number, (_, text)) in shards.files.iter().enumerate() {
        data.insert(key(number), text.as_str().into());
    }
    let answers: Vec<String> = (0..shards.count.get()).map(begin_name).collect();
    // What a load generator does is the controller's; only where its orders are is its own.
    let rules = json!({"rules": [{
        "apiGroups": [""], "resources": ["configmaps"], "resourceNames": answers,
        "verbs": ["get"],
    }]});
    let subject = account("alertstorm-backend", NAMESPACE);
    Ok(vec![
        object("ConfigMap", "v1", NAME, json!({"data": data})),
        object("Role", RBAC, NAME, rules),
        binding("RoleBinding", NAME, ("Role", NAME), subject),
    ])
}

/// The answer to the pods of a shard, by their names.
pub fn begin(shard: u32, answers: &serde_json::Map<String, Value>) -> Value {
    object("ConfigMap", "v1", &begin_name(shard), json!({"data": answers}))
}

/// The Indexed Job.
pub fn job(shards: &Shards, memory_limit: u64) -> Value {
    let mut files = vec![json!({"key": ORDERS, "path": ORDERS})];
    for (number, (name, _)) in shards.files.iter().enumerate() {
        files.push(json!({"key": key(number), "path": name}));
    }
    let labels = json!({"app.kubernetes.io/managed-by": "alertstorm", LABEL: "shard"});
    let request = memory_limit.min(128 << 20).to_string();
    let spec = json!({
        "restartPolicy": "Never",
        "serviceAccountName": "alertstorm-backend",
        "automountServiceAccountToken": false,
        "enableServiceLinks": true,
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [{
            "name": "shard",
            "image": shards.image,
            "args": ["shard", PLAN_FOLDER],
            "env": [{
                "name": "POD_NAME",
                "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}},
            }],
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]},
            },
            "resources": {
                // More than an agent has: what measures must not wait.
                "requests": {"cpu": "200m", "memory": request},
                "limits": {"memory": memory_limit.to_string()},
            },
            "volumeMounts": [
                {"name": "plan", "mountPath": PLAN_FOLDER, "readOnly": true},
                {"name": "tokens", "mountPath": TOKENS, "readOnly": true},
            ],
        }],
        "volumes": [
            {"name": "plan", "configMap": {"name": NAME, "items": files}},
            {"name": "tokens", "projected": {"sources": [
                // Longer than a run: a shard reads it once.
                {"serviceAccountToken": {"path": "kubernetes", "expirationSeconds": 86_400}},
                {"configMap": {
                    "name": "kube-root-ca.crt",
                    "items": [{"key": "ca.crt", "path": "ca.crt"}],
                }},
            ]}},
        ],
    });
    let count = shards.count.get();
    object(
        "Job",
        "batch/v1",
        NAME,
        json!({"spec": {
            "completionMode": "Indexed",
            "completions": count,
            "parallelism": count,
            "backoffLimitPerIndex": DEATHS_MAX,
            "template": {"metadata": {"labels": labels}, "spec": spec},
        }}),
    )
}
