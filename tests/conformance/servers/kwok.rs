//! Hollow nodes that play KWOK's stages with KWOK's calls.

use std::collections::BTreeMap;

use alertstorm_model::event::Fact;
use alertstorm_model::investigation::Outcome;

use super::LOCAL;
use crate::arm::Arm;
use crate::promises;

/// The calls of the nodes for each of the runtimes: by verb and resource, without the heartbeats.
fn calls(runtime: &str) -> BTreeMap<String, u64> {
    // Until the run's end, so that the garbage collector reads no pods.
    let set = [("cluster.node.runtime", runtime), ("controller.job.ttl_after_finished", "1h")];
    let ran = LOCAL.run(promises::BUSY, &set);
    promises::accounts_for_all(&ran);
    let sample = ran.measures.last_sample.expect("a sample");
    let of_nodes = ["pods", "pods/status", "serviceaccounts/token", "configmaps"];
    let called = sample.api_calls.iter().filter(|calls| of_nodes.contains(&&*calls.resource));
    called.map(|calls| (format!("{} {}", calls.verb, calls.resource), calls.count)).collect()
}

/// A patch for each of the two stages, and neither a read before it nor a token; the Job controller
/// creates the pod, and patches its finalizer away.
#[test]
#[ignore = "needs the servers of `alertstorm setup local`"]
fn nodes_of_kwok_make_kwoks_calls() {
    let kwok = calls("kwok");
    let of = |calls: &BTreeMap<String, u64>, call: &str| calls.get(call).copied().unwrap_or(0);
    assert_eq!(of(&kwok, "patch pods/status"), 2 * 12, "{kwok:?}");
    assert_eq!(of(&kwok, "get pods"), 0, "{kwok:?}");
    // The control plane makes some of these calls for itself: tokens of its controllers, and a
    // ConfigMap of its own.
    for call in ["get configmaps", "create serviceaccounts/token"] {
        assert!(of(&kwok, call) < 12, "{kwok:?}");
    }
    let kubelet = calls("kubelet");
    assert!(of(&kubelet, "create serviceaccounts/token") >= 2 * 12, "{kubelet:?}");
    assert!(of(&kubelet, "get pods") >= 12, "{kubelet:?}");
}

/// As in the twin: every pod completes, no agent runs, and Vault issues nothing.
#[test]
#[ignore = "needs the servers of `alertstorm setup local`"]
fn with_kwok_every_pod_completes_and_no_agent_runs() {
    let outcomes = |arm: Arm| {
        let ran = arm.run(promises::BUSY, &[("cluster.node.runtime", "kwok")]);
        promises::accounts_for_all(&ran);
        let acted = |fact: &Fact| matches!(fact, Fact::Acted { .. } | Fact::LeaseIssued { .. });
        assert!(!ran.events.iter().any(|event| acted(&event.fact)));
        ran.measures.outcome(Outcome::Resolved)
    };
    assert_eq!((outcomes(Arm::TWIN), outcomes(LOCAL)), (12, 12));
}

/// KWOK's watch shows a pod as Running before its end is patched, also after a restart of the API
/// server.
#[test]
#[ignore = "needs the servers of `alertstorm setup local`"]
fn stages_of_kwok_survive_an_outage_of_the_api_server() {
    let set = [
        ("cluster.node.runtime", "kwok"),
        ("faults", "[{fault: api-server-down, at: 2s, for: 3s}]"),
    ];
    let ran = LOCAL.run(promises::PATIENT, &set);
    promises::accounts_for_all(&ran);
    assert_eq!(ran.measures.outcome(Outcome::Resolved), 8);
}
