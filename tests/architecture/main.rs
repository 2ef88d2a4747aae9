//! The dependency rules: between crates by `cargo metadata`, between files by their `use` lines.

mod modules;

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, PackageId};
use modules::Crate;

/// Allowed only in the crates of real servers.
const LIVE_ONLY: [&str; 5] = ["tokio", "kube", "k8s-openapi", "vaultrs", "testcontainers"];

/// The one file of the twin in which components meet; every circle there passes through it.
const WORLD: (&str, &str) = ("alertstorm-twin", "world.rs");

/// The modules of the model in layers: a module uses only those before it.
const MODEL_LAYERS: [&str; 18] = [
    "input",
    "words",
    "time",
    "quantity",
    "seed",
    "dist",
    "spread",
    "digest",
    "investigation",
    "kubelet",
    "phase",
    "agent",
    "alert",
    "scenario",
    "controller",
    "delivery",
    "event",
    "lib",
];

fn metadata() -> Metadata {
    MetadataCommand::new().exec().expect("cargo metadata")
}

/// Names of all crates that each package of the workspace is built from.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = metadata();
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

/// The library and the programs of a package, each as a crate.
fn crates_of(package: &Package) -> Vec<Crate> {
    let built = package.targets.iter().filter(|target| target.is_lib() || target.is_bin());
    built.map(|target| Crate::read(target.src_path.as_std_path())).collect()
}

#[test]
fn pure_crates_depend_on_no_runtime_and_no_kubernetes() {
    let dependencies = dependencies();
    for package in
        ["alertstorm-model", "alertstorm-analysis", "alertstorm-twin", "alertstorm-reports"]
    {
        for forbidden in LIVE_ONLY {
            assert!(!dependencies[package].contains(forbidden), "{package} depends on {forbidden}");
        }
    }
}

/// The agent's image stays small; it makes only two kinds of requests to Kubernetes.
#[test]
fn the_agent_depends_on_no_kubernetes_client() {
    let dependencies = dependencies();
    for forbidden in ["kube", "k8s-openapi", "testcontainers"] {
        assert!(!dependencies["alertstorm-agent"].contains(forbidden), "{forbidden}");
    }
}

#[test]
fn each_crate_depends_only_on_those_to_its_left() {
    let dependencies = dependencies();
    let ours = |package: &str| -> Vec<&str> {
        let of = dependencies[package].iter();
        of.filter(|name| name.starts_with("alertstorm")).map(String::as_str).collect()
    };
    assert!(ours("alertstorm-model").is_empty());
    assert_eq!(ours("alertstorm-analysis"), ["alertstorm-model"]);
    assert_eq!(ours("alertstorm-twin"), ["alertstorm-model"]);
    assert_eq!(ours("alertstorm-agent"), ["alertstorm-model"]);
    assert_eq!(ours("alertstorm-platform"), ["alertstorm-agent", "alertstorm-model"]);
    let below_live = ["alertstorm-agent", "alertstorm-model", "alertstorm-platform"];
    assert_eq!(ours("alertstorm-live"), below_live);
    assert_eq!(ours("alertstorm-reports"), ["alertstorm-analysis", "alertstorm-model"]);
}

#[test]
fn no_circle_between_files() {
    let metadata = metadata();
    let mut circles = Vec::new();
    for package in metadata.workspace_packages() {
        for mut of_crate in crates_of(package) {
            if package.name.as_str() == WORLD.0 {
                of_crate.uses.remove(WORLD.1);
            }
            let found = of_crate.circles().into_iter();
            circles.extend(found.map(|circle| format!("{}: {circle:?}", package.name)));
        }
    }
    assert!(circles.is_empty(), "files that use each other:\n{}", circles.join("\n"));
}

#[test]
fn each_module_of_the_model_uses_only_those_in_layers_before_it() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/sim/model/src/lib.rs");
    let model = Crate::read(root.as_ref());
    let layer = |file: &str| {
        let module = file.split(['/', '.']).next();
        let found = MODEL_LAYERS.iter().position(|layer| Some(*layer) == module);
        found.unwrap_or_else(|| panic!("{file} is in no layer"))
    };
    for (file, used) in &model.uses {
        for used in used.iter().filter(|used| *used != "lib.rs") {
            assert!(layer(used) <= layer(file), "{file} uses {used}");
        }
    }
}

/// What verbs share has a module of its own outside of `cmd`.
#[test]
fn no_verb_uses_another_verb() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/sim/alertstorm/lib.rs");
    let program = Crate::read(root.as_ref());
    let verb = |file: &str| {
        let below = file.strip_prefix("cmd/")?;
        Some(below.split(['/', '.']).next()?.to_owned())
    };
    for (file, used) in &program.uses {
        let Some(own) = verb(file) else { continue };
        for used in used {
            assert!(verb(used).is_none_or(|other| other == own), "{file} uses {used}");
        }
    }
    assert!(program.uses.keys().filter_map(|file| verb(file)).count() > 20, "the verbs were read");
}

#[test]
fn main_is_shorter_than_twenty_lines() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/sim/alertstorm/main.rs");
    let lines = std::fs::read_to_string(path).expect("main.rs").lines().count();
    assert!(lines < 20, "{lines} lines");
}
