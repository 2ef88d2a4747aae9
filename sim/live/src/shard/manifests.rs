//! The Kubernetes objects of a fleet: the Indexed Job of its shards, their ConfigMaps and their
//! Role.

use alertstorm_platform::manifests::{RBAC, account, binding, object};
use alertstorm_platform::provider::images;
use std::num::NonZeroU32;

use serde_json::{Value, json};

use super::wire::Orders;

/// The shards of a run.
#[derive(Clone, Debug)]
pub struct Shards {
    /// Their number.
    pub count: NonZeroU32,
    /// The image with this program.
    pub image: String,
    /// The plan's files: path below [`PLAN_FOLDER`], and content.
    pub files: Vec<(String, String)>,
}

/// Where the plan's files are mounted in a shard's pod.
pub const PLAN_FOLDER: &str = "/plan";

/// The name of the Job, of the ConfigMap with the plan, and of the Role.
pub const NAME: &str = "alertstorm-shards";
/// The file of the [`Orders`] in the plan's folder.
pub const ORDERS: &str = "orders.json";
/// Where a shard's token and the certificate authority of the API server are mounted.
pub const TOKENS: &str = "/var/run/tokens";
/// The label of a fleet's pods.
pub const LABEL: &str = "alertstorm.dev/part";
/// A shard whose pods die more often than this is not replaced again (`backoffLimitPerIndex`).
pub const DEATHS_MAX: u32 = 4;
/// Bytes that a ConfigMap's `data` may have: `MaxSecretSize` in Kubernetes.
pub const PLAN_MAX: usize = 1 << 20;

/// The name of the ConfigMap with the fleet's answers to a shard.
pub fn begin_name(shard: u32) -> String {
    format!("{NAME}-begin-{shard}")
}

/// The ConfigMaps that a successor's memory may be split over.
pub const PARTS_MAX: usize = 32;
/// Bytes of each part: below [`PLAN_MAX`].
pub const PART_MAX: usize = 900 << 10;

/// The name of the ConfigMap with a part of the memory of a shard's successor.
pub fn part_name(shard: u32, part: usize) -> String {
    format!("{NAME}-begin-{shard}-part-{part}")
}

/// A text in parts of at most `size` bytes, which end between characters.
pub fn parts(mut text: &str, size: usize) -> Vec<&str> {
    let mut all = Vec::new();
    while !text.is_empty() {
        let end = (0..=size.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
        // A character has at most four bytes.
        let (part, rest) = text.split_at(end.filter(|end| *end > 0).unwrap_or(text.len()));
        all.push(part);
        text = rest;
    }
    all
}

/// The ConfigMap's key for the n-th file. File names may contain `/`, which keys must not.
fn key(number: usize) -> String {
    format!("file-{number}")
}

/// Every object but the Job, in the order of creation.
pub fn around(shards: &Shards, orders: &Orders) -> Result<Vec<Value>, serde_json::Error> {
    let mut data = serde_json::Map::new();
    data.insert(ORDERS.to_owned(), serde_json::to_string(orders)?.into());
    for (number, (_, text)) in shards.files.iter().enumerate() {
        data.insert(key(number), text.as_str().into());
    }
    let parts = |shard| (0..PARTS_MAX).map(move |part| part_name(shard, part));
    let answers = |shard| std::iter::once(begin_name(shard)).chain(parts(shard));
    let answers: Vec<String> = (0..shards.count.get()).flat_map(answers).collect();
    // A shard has the controller's privileges, and may also read the fleet's answers.
    let rules = json!({"rules": [{
        "apiGroups": [""], "resources": ["configmaps"], "resourceNames": answers,
        "verbs": ["get"],
    }]});
    let subject = account("alertstorm-backend", orders.names.namespace());
    Ok(vec![
        object("ConfigMap", "v1", NAME, json!({"data": data})),
        object("Role", RBAC, NAME, rules),
        binding("RoleBinding", NAME, ("Role", NAME), subject),
    ])
}

/// The ConfigMap with the answer to a shard's pod.
pub fn begin(shard: u32, pod: &str, answer: String) -> Value {
    object("ConfigMap", "v1", &begin_name(shard), json!({"data": {pod: answer}}))
}

/// The ConfigMap with a part of the memory for a shard's pod.
pub fn part(shard: u32, number: usize, pod: &str, text: &str) -> Value {
    object("ConfigMap", "v1", &part_name(shard, number), json!({"data": {pod: text}}))
}

/// The Indexed Job. `memory_limit` is in bytes.
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
            "imagePullPolicy": images::pull_policy(&shards.image),
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
                // More than an agent's, because a shard that waits for a core measures wrong
                // delays.
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
                // The kubelet renews it at 80 % of its life, and the shard reads it again.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_split_between_characters_and_joined_without_loss() {
        let text = "aé".repeat(700);
        for size in [4, 5, 1_000, 10_000] {
            let parts = parts(&text, size);
            assert!(parts.iter().all(|part| part.len() <= size), "{size}");
            assert_eq!(parts.concat(), text);
        }
        assert!(parts("", 5).is_empty());
    }
}
