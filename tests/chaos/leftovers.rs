//! What a run left behind: objects in Kubernetes, Vault and PostgreSQL, processes and files.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use alertstorm_platform::objects::{CLUSTER_WIDE, collection};
use serde_json::Value;

use crate::place::Place;
use crate::servers::Servers;

/// Everything outside of namespaces that a run could leave on a kept platform, and the files of its
/// folder. What was there before a run is subtracted by the caller.
pub fn on_kept(servers: &Servers<'_>) -> BTreeSet<String> {
    let name = |item: &Value| item["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let mut all = BTreeSet::new();
    for kind in CLUSTER_WIDE {
        let items = servers.items(&collection(kind, ""));
        all.extend(items.iter().map(|item| format!("{kind} {}", name(item))));
    }
    let nodes = servers.items("/api/v1/nodes");
    all.extend(nodes.iter().map(|node| format!("Node {}", name(node))));
    for path in ["sys/mounts", "sys/auth"] {
        let answer = servers.ask_vault(async |vault| vault.read(path).await);
        let mounts = answer.data.as_object().cloned().unwrap_or_default();
        all.extend(
            mounts.keys().filter(|key| key.ends_with('/')).map(|key| format!("{path} {key}")),
        );
    }
    for path in ["sys/policies/acl", "auth/token/accessors"] {
        let keys = servers.ask_vault(async |vault| vault.list(path).await);
        all.extend(keys.into_iter().map(|key| format!("{path} {key}")));
    }
    all.extend(servers.sql("SELECT 'role ' || rolname FROM pg_roles"));
    all.extend(servers.sql("SELECT 'database ' || datname FROM pg_database"));
    all
}

/// The processes that run with a path of the place in their arguments, and are none of `kept`.
pub fn processes(place: &Place, kept: &[i32]) -> Vec<String> {
    let path = place.path().display().to_string();
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let command = |folder: &Path| {
        let pid: i32 = folder.file_name()?.to_str()?.parse().ok()?;
        let text = fs::read(folder.join("cmdline")).ok()?;
        let text = String::from_utf8_lossy(&text).replace('\0', " ");
        (text.contains(&path) && !kept.contains(&pid)).then(|| format!("process {pid} {text}"))
    };
    entries.filter_map(|entry| command(&entry.path())).collect()
}

/// The folders of platforms.
pub fn platforms(place: &Place) -> Vec<String> {
    let folders = fs::read_dir(place.state()).into_iter().flatten().flatten();
    folders.map(|folder| format!("folder {}", folder.path().display())).collect()
}
