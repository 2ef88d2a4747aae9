//! The dependency rules between crates.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand, PackageId};

/// What only the live crates may depend on.
const LIVE_ONLY: [&str; 5] = ["tokio", "kube", "k8s-openapi", "vaultrs", "testcontainers"];

/// Names of all normal dependencies of each package of the workspace, direct and indirect.
fn built_of() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = MetadataCommand::new().exec().expect("cargo metadata");
    let resolve = metadata.resolve.as_ref().expect("a resolved graph");
    let name = |id: &PackageId| metadata[id].name.to_string();
    let normal = |id: &PackageId| -> Vec<PackageId> {
        let node = resolve.nodes.iter().find(|node| node.id == *id).expect("a node");
        let used = node.deps.iter().filter(|dependency| {
            dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal)
        });
        used.map(|dependency| dependency.pkg.clone()).collect()
    };
    let mut all = BTreeMap::new();
    for id in &metadata.workspace_members {
        let mut seen = BTreeSet::new();
        let mut to_visit = normal(id);
        while let Some(next) = to_visit.pop() {
            if seen.insert(name(&next)) {
                to_visit.extend(normal(&next));
            }
        }
        all.insert(name(id), seen);
    }
    all
}

#[test]
fn pure_crates_depend_on_no_runtime_and_no_kubernetes_client() {
    let built_of = built_of();
    for package in
        ["alertstorm-model", "alertstorm-analysis", "alertstorm-twin", "alertstorm-reports"]
    {
        for forbidden in LIVE_ONLY {
            assert!(!built_of[package].contains(forbidden), "{package} is built of {forbidden}");
        }
    }
}

/// It is small, and what it does in Kubernetes is two calls.
#[test]
fn the_program_in_the_pod_depends_on_no_kubernetes_client() {
    let built_of = built_of();
    for forbidden in ["kube", "k8s-openapi", "testcontainers"] {
        assert!(!built_of["alertstorm-agent"].contains(forbidden), "{forbidden}");
    }
}

#[test]
fn each_crate_depends_only_on_those_to_its_left() {
    let built_of = built_of();
    let ours = |package: &str| -> Vec<&str> {
        let of = built_of[package].iter();
        of.filter(|name| name.starts_with("alertstorm")).map(String::as_str).collect()
    };
    assert!(ours("alertstorm-model").is_empty());
    assert_eq!(ours("alertstorm-analysis"), ["alertstorm-model"]);
    assert_eq!(ours("alertstorm-twin"), ["alertstorm-model"]);
    assert_eq!(ours("alertstorm-agent"), ["alertstorm-model"]);
    assert_eq!(ours("alertstorm-live"), ["alertstorm-agent", "alertstorm-model"]);
    assert_eq!(ours("alertstorm-reports"), ["alertstorm-analysis", "alertstorm-model"]);
}

#[test]
fn main_is_shorter_than_twenty_lines() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/sim/alertstorm/main.rs");
    let lines = std::fs::read_to_string(path).expect("main.rs").lines().count();
    assert!(lines < 20, "{lines} lines");
}
