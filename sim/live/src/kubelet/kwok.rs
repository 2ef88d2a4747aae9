//! KWOK in place of a kubelet, with its `fast` stages: a bound pod is patched to Running, then to its
//! end, and a pod that is to be deleted is deleted (KWOK v0.8.0: kustomize/stage/pod/fast, and
//! pkg/kwok/controllers/pod_controller.go). The state in a watch event decides the next stage.

use std::collections::BTreeMap;
use std::sync::Arc;

use alertstorm_model::event::Fact;
use alertstorm_model::investigation::Outcome;
use alertstorm_platform::call;
use alertstorm_platform::connection::PatchKind;
use alertstorm_platform::identity::investigation_of;
use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::node::{Kubelet, PATIENCE};
use super::pod::{delete_now, failed};
use crate::seen::SeenPod;
use crate::watch::PodChange;

/// A stage of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// `pod-ready`.
    Run,
    /// `pod-complete`.
    Complete,
    /// `pod-delete`.
    Delete,
}

/// The stage for a pod in this state.
fn stage_of(pod: &SeenPod) -> Option<Stage> {
    if pod.metadata.deletion_timestamp.is_some() {
        return Some(Stage::Delete);
    }
    match pod.phase.as_deref() {
        Some("Pending") => Some(Stage::Run),
        Some("Running") => Some(Stage::Complete),
        _ => None,
    }
}

/// The last stage of each pod, by its name.
#[derive(Default)]
pub(super) struct Stages(BTreeMap<String, Stage>);

impl Stages {
    /// The stage to play after a change of a pod, if it was not played yet.
    pub fn next(&mut self, change: &PodChange) -> Option<Stage> {
        match change {
            PodChange::Is(pod) => {
                let (name, stage) = (pod.name_any(), stage_of(pod)?);
                let before = self.0.insert(name.clone(), stage);
                if before.is_some_and(|before| before >= stage) {
                    self.0.extend(before.map(|before| (name, before)));
                    return None;
                }
                Some(stage)
            }
            PodChange::Gone(pod) => {
                self.0.remove(&pod.name_any());
                None
            }
            PodChange::All(names) => {
                self.0.retain(|name, _| names.contains(name));
                None
            }
        }
    }
}

/// Plays a stage of a pod, once one of KWOK's workers is free.
pub(super) async fn play(kubelet: Arc<Kubelet>, pod: Box<SeenPod>, stage: Stage) {
    let Some(id) = investigation_of(&pod.name_any()) else { return };
    let Ok(_worker) = kubelet.shared.kwok_workers.acquire().await else { return };
    let status = match stage {
        Stage::Run => running(&kubelet),
        Stage::Complete => {
            let outcome = Outcome::Resolved;
            kubelet.shared.agent_reports.reporter.fact(id, Fact::Ended { outcome });
            complete()
        }
        Stage::Delete => return delete_now(&kubelet, &pod).await,
    };
    let (path, patch) = (kubelet.pod(&pod.name_any()) + "/status", json!({"status": status}));
    let done =
        call::patiently(PATIENCE, || kubelet.caller.patch(&path, PatchKind::Strategic, &patch));
    failed(&kubelet, "update the status of", &pod.name_any(), done.await);
}

/// The container's status, as KWOK writes it.
fn container(ready: bool, state: &Value) -> Value {
    json!([{
        "name": "agent", "image": "alertstorm/agent", "ready": ready, "restartCount": 0, "state": state,
    }])
}

fn running(kubelet: &Kubelet) -> Value {
    let now = Timestamp::now().to_string();
    let ip = kubelet.shared.pod_ip().to_string();
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": now});
    json!({
        "phase": "Running",
        "startTime": now,
        "hostIP": "127.0.0.1",
        "hostIPs": [{"ip": "127.0.0.1"}],
        "podIP": ip,
        "podIPs": [{"ip": ip}],
        "conditions": [
            condition("Initialized"), condition("Ready"), condition("ContainersReady"),
        ],
        "containerStatuses": container(true, &json!({"running": {"startedAt": now}})),
    })
}

fn complete() -> Value {
    let now = Timestamp::now().to_string();
    let state = json!({"terminated": {
        "exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now,
    }});
    json!({"phase": "Succeeded", "containerStatuses": container(false, &state)})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(phase: Option<&str>, deleted: bool) -> PodChange {
        let mut pod = SeenPod { phase: phase.map(str::to_owned), ..SeenPod::default() };
        pod.metadata.name = Some("inv-0000001-0123abcd-x7k2p".to_owned());
        let deletion = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        pod.metadata.deletion_timestamp = if deleted { deletion } else { None };
        PodChange::Is(Box::new(pod))
    }

    #[test]
    fn each_stage_of_a_pod_is_played_once_and_in_order() {
        let mut stages = Stages::default();
        let pending = pod(Some("Pending"), false);
        assert_eq!(stages.next(&pending), Some(Stage::Run));
        // Another change before the patch is answered.
        assert_eq!(stages.next(&pending), None);
        let running = pod(Some("Running"), false);
        assert_eq!(stages.next(&running), Some(Stage::Complete));
        assert_eq!(stages.next(&pending), None, "an older state");
        assert_eq!(stages.next(&running), None);
        assert_eq!(stages.next(&pod(Some("Succeeded"), false)), None);
        assert_eq!(stages.next(&pod(Some("Succeeded"), true)), Some(Stage::Delete));
        assert_eq!(stages.next(&pod(Some("Succeeded"), true)), None);
        let PodChange::Is(gone) = pending.clone() else { unreachable!() };
        assert_eq!(stages.next(&PodChange::Gone(gone)), None);
        assert_eq!(stages.next(&pending), Some(Stage::Run), "a pod of the same name");
        assert_eq!(stages.next(&PodChange::All(Vec::new())), None);
        assert_eq!(stages.next(&pending), Some(Stage::Run));
    }

    #[test]
    fn a_pod_that_ran_before_its_node_lost_its_power_is_completed() {
        assert_eq!(Stages::default().next(&pod(Some("Running"), false)), Some(Stage::Complete));
        assert_eq!(Stages::default().next(&pod(Some("Failed"), false)), None);
    }
}
