//! The configuration of a kind cluster: its nodes, and the flags of its control plane as kubeadm
//! patches in both versions that kind uses (v1beta3 up to Kubernetes 1.35, v1beta4 from 1.36).

use std::path::Path;

use alertstorm_model::scenario::Scenario;
use alertstorm_model::scenario::knobs::Flags;
use serde_json::{Map, Value, json};

/// Mount path of the folder of the audit log in the control plane's node.
const TRAIL: &str = "/var/log/alertstorm";
/// Name of the API server's audit log in that folder.
pub const TRAIL_FILE: &str = "audit.log";
/// Name of the audit policy in that folder.
pub const POLICY_FILE: &str = "policy.yaml";
/// Maximum number of worker nodes on one machine.
pub const WORKERS_MAX: u32 = 3;

/// Number of worker nodes for a scenario; 0 if it has one node, which is the control plane.
pub fn workers(scenario: &Scenario) -> u32 {
    match scenario.cluster.nodes.get() {
        1 => 0,
        nodes => nodes.min(WORKERS_MAX),
    }
}

/// Flags of a component, by name and value.
type Args = Vec<(String, String)>;

fn flags(own: Vec<(&str, String)>, extra: &Flags) -> Args {
    let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
    own.chain(extra.iter().map(|(name, value)| (name.clone(), value.0.clone()))).collect()
}

/// The configuration of a cluster for a scenario. `trail` is the host's folder of the audit log.
/// `extra` is merged into it: mappings by key, patches are appended, and `nodes` is replaced.
pub fn cluster(scenario: &Scenario, trail: &Path, extra: Option<Value>) -> Value {
    let mut config = json!({
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "networking": {"apiServerAddress": "127.0.0.1"},
        "kubeadmConfigPatches": patches(scenario),
        "nodes": [{"role": "control-plane"}],
    });
    if let Some(nodes) = config["nodes"].as_array_mut() {
        nodes.extend((0..workers(scenario)).map(|_| json!({"role": "worker"})));
    }
    if let Some(extra) = extra {
        merge(&mut config, extra);
    }
    let mount = json!({"hostPath": trail, "containerPath": TRAIL});
    for node in config["nodes"].as_array_mut().into_iter().flatten() {
        if node["role"] == "control-plane" {
            match node["extraMounts"].as_array_mut() {
                Some(mounts) => mounts.push(mount.clone()),
                None => node["extraMounts"] = json!([mount]),
            }
        }
    }
    config
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                let patches = key == "kubeadmConfigPatches";
                match (into.get_mut(&key), value) {
                    (Some(Value::Array(into)), Value::Array(more)) if patches => into.extend(more),
                    (Some(into @ Value::Object(_)), value @ Value::Object(_)) => merge(into, value),
                    (_, value) => drop(into.insert(key, value)),
                }
            }
        }
        (into, from) => *into = from,
    }
}

fn patches(scenario: &Scenario) -> Vec<String> {
    let plane = &scenario.cluster.control_plane;
    let (server, manager, scheduler) =
        (&plane.apiserver, &plane.controller_manager, &plane.scheduler);
    let seconds = |nanos: u64| format!("{}s", nanos / 1_000_000_000);
    // Metrics are read through the API server's proxy, which sends no credentials.
    let open = || {
        vec![
            ("bind-address", "0.0.0.0".to_owned()),
            ("authorization-always-allow-paths", "/healthz,/livez,/readyz,/metrics".to_owned()),
            // There is one replica of each.
            ("leader-elect", "false".to_owned()),
        ]
    };
    let api_server = flags(
        vec![
            ("audit-policy-file", format!("{TRAIL}/{POLICY_FILE}")),
            ("audit-log-path", format!("{TRAIL}/{TRAIL_FILE}")),
            ("audit-log-maxsize", "100000".to_owned()),
            ("max-requests-inflight", server.max_requests_inflight.to_string()),
            ("max-mutating-requests-inflight", server.max_mutating_requests_inflight.to_string()),
            ("profiling", "false".to_owned()),
        ],
        &server.flags,
    );
    let mut own = open();
    own.extend([
        ("kube-api-qps", manager.kube_api_qps.0.to_string()),
        ("kube-api-burst", manager.kube_api_burst.to_string()),
        ("concurrent-job-syncs", manager.concurrent_job_syncs.to_string()),
        ("concurrent-ttl-after-finished-syncs", manager.concurrent_ttl_syncs.to_string()),
        ("concurrent-gc-syncs", manager.concurrent_gc_syncs.to_string()),
        ("node-monitor-grace-period", seconds(manager.node_monitor_grace_period.0)),
        ("profiling", "false".to_owned()),
    ]);
    let manager = flags(own, &manager.flags);
    let mut own = open();
    own.extend([
        ("kube-api-qps", scheduler.kube_api_qps.0.to_string()),
        ("kube-api-burst", scheduler.kube_api_burst.to_string()),
        ("profiling", "false".to_owned()),
    ]);
    let scheduler = flags(own, &scheduler.flags);
    let etcd = flags(
        vec![
            ("listen-metrics-urls", "http://0.0.0.0:2381".to_owned()),
            ("quota-backend-bytes", plane.etcd.quota.0.to_string()),
        ],
        &plane.etcd.flags,
    );
    let volume = json!([{"name": "trail", "hostPath": TRAIL, "mountPath": TRAIL}]);
    let of = |version: &str, args: fn(&Args) -> Value| {
        json!({
            "kind": "ClusterConfiguration",
            "apiVersion": format!("kubeadm.k8s.io/{version}"),
            "apiServer": {"extraArgs": args(&api_server), "extraVolumes": volume},
            "controllerManager": {"extraArgs": args(&manager)},
            "scheduler": {"extraArgs": args(&scheduler)},
            "etcd": {"local": {"extraArgs": args(&etcd)}},
        })
        .to_string()
    };
    vec![of("v1beta4", listed), of("v1beta3", mapped)]
}

/// A component's arguments in v1beta4: a list of names and values.
fn listed(args: &Args) -> Value {
    args.iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
}

/// A component's arguments in v1beta3: a mapping.
fn mapped(args: &Args) -> Value {
    let pairs = args.iter().map(|(name, value)| (name.clone(), json!(value)));
    Value::Object(pairs.collect::<Map<String, Value>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alertstorm_model::scenario::{self, NoFiles, Override};

    fn scenario(set: &[Override]) -> Scenario {
        let text = "question: none\nalerts: [{flood: 1, over: 1s}]\n";
        scenario::load(text, "test.yaml", set, &NoFiles).unwrap().scenario().clone()
    }

    #[test]
    fn a_users_configuration_is_merged_and_the_audit_mount_stays() {
        let scenario = scenario(&[]);
        let extra = json!({
            "networking": {"disableDefaultCNI": true},
            "kubeadmConfigPatches": ["kind: KubeletConfiguration"],
            "nodes": [{"role": "control-plane", "image": "one"}, {"role": "worker"}],
        });
        let config = cluster(&scenario, Path::new("/trail"), Some(extra));
        assert_eq!(config["networking"]["apiServerAddress"], "127.0.0.1");
        assert_eq!(config["networking"]["disableDefaultCNI"], true);
        assert_eq!(config["kubeadmConfigPatches"].as_array().unwrap().len(), 3);
        assert_eq!(config["nodes"].as_array().unwrap().len(), 2);
        assert_eq!(config["nodes"][0]["image"], "one");
        assert_eq!(config["nodes"][0]["extraMounts"][0]["hostPath"], "/trail");
        assert!(config["nodes"][1]["extraMounts"].is_null());
    }

    #[test]
    fn the_scenarios_knobs_become_flags_of_the_control_plane() {
        let path = "cluster.control_plane.controller_manager.kube_api_qps".to_owned();
        let patches = patches(&scenario(&[Override { path, value: "55".to_owned() }]));
        assert!(patches[0].contains(r#"{"name":"kube-api-qps","value":"55"}"#), "{}", patches[0]);
        assert!(patches[1].contains(r#""kube-api-qps":"55""#), "{}", patches[1]);
    }
}
