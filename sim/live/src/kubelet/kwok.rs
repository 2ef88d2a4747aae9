//! KWOK in place of a kubelet, with its `fast` stages: a bound pod is patched to Running, then to its
//! end, and a pod that is to be deleted is deleted (KWOK v0.8.0: kustomize/stage/pod/fast, and
//! pkg/kwok/controllers/pod_controller.go). The state in a watch event decides the next stage. A stage
//! that the API server does not accept is played again after a pause (`shouldRetry` there).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use alertstorm_model::event::Fact;
use alertstorm_model::investigation::Outcome;
use alertstorm_model::kubelet::kwok_pause;
use alertstorm_platform::call;
use alertstorm_platform::connection::{Caller, PatchKind};
use alertstorm_platform::identity::investigation_of;
use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::node::Kubelet;
use super::pod::{failed, remove};
use crate::reporter::{Reporter, duration};
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

impl Stage {
    const fn what(self) -> &'static str {
        match self {
            Self::Run | Self::Complete => "update the status of",
            Self::Delete => "delete",
        }
    }
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

/// Plays a stage of a pod, and plays it again as long as the API server does not accept it.
pub(super) async fn play(kubelet: Arc<Kubelet>, pod: Box<SeenPod>, stage: Stage) {
    let name = pod.name_any();
    let (path, ip) = (kubelet.pod(&name), kubelet.shared.pod_ip());
    let player = Player {
        caller: &kubelet.caller,
        workers: &kubelet.shared.kwok_workers,
        reporter: &kubelet.shared.agent_reports.reporter,
    };
    let played = player.play(&path, &pod, stage, ip).await;
    failed(&kubelet, stage.what(), &name, played);
}

/// What plays stages.
struct Player<'a> {
    caller: &'a Caller,
    /// KWOK's workers that are free.
    workers: &'a Semaphore,
    reporter: &'a Reporter,
}

impl Player<'_> {
    /// Plays a stage until the API server accepts it, or refuses it for good. An attempt occupies a
    /// worker; during the pauses between attempts other stages have it.
    async fn play(
        &self,
        path: &str,
        pod: &SeenPod,
        stage: Stage,
        ip: Ipv4Addr,
    ) -> Result<(), kube::Error> {
        let Some(id) = investigation_of(&pod.name_any()) else { return Ok(()) };
        for failures in 0.. {
            // The workers are not closed while the run lasts.
            let Ok(worker) = self.workers.acquire().await else { return Ok(()) };
            let attempt = self.attempt(path, pod, stage, ip).await;
            drop(worker);
            match attempt {
                Err(error) if call::is_transient(&error) => {
                    self.reporter.failed("a stage of a pod", &call::describe(&error));
                    let pause = duration(kwok_pause(failures));
                    // In place of KWOK's jitter of up to 20 %.
                    sleep(pause + pause.mul_f64(0.2 * (id.0 % 100) as f64 / 100.0)).await;
                }
                done => {
                    if stage == Stage::Complete && done.is_ok() {
                        self.reporter.fact(id, Fact::Ended { outcome: Outcome::Resolved });
                    }
                    return done;
                }
            }
        }
        Ok(())
    }

    async fn attempt(
        &self,
        path: &str,
        pod: &SeenPod,
        stage: Stage,
        ip: Ipv4Addr,
    ) -> Result<(), kube::Error> {
        let status = match stage {
            Stage::Run => running(ip),
            Stage::Complete => complete(),
            Stage::Delete => return remove(self.caller, path, pod).await,
        };
        let (path, patch) = (format!("{path}/status"), json!({"status": status}));
        self.caller.patch(&path, PatchKind::Strategic, &patch).await
    }
}

/// The container's status, as KWOK writes it.
fn container(ready: bool, state: &Value) -> Value {
    json!([{
        "name": "agent", "image": "alertstorm/agent", "ready": ready, "restartCount": 0, "state": state,
    }])
}

fn running(ip: Ipv4Addr) -> Value {
    let now = Timestamp::now().to_string();
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
    use std::sync::Mutex;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::reporter::{Clock, Observation};

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
        assert_eq!(stages.next(&PodChange::All(Default::default())), None);
        assert_eq!(stages.next(&pending), Some(Stage::Run));
    }

    /// Plays the last stage against an API server that answers with these codes, one after the other.
    /// Returns the result, the seconds of the requests, and the outcomes that were reported by the
    /// second request.
    async fn completed(codes: &'static [u16]) -> (Result<(), kube::Error>, Vec<u64>, [usize; 2]) {
        let (reporter, mut inbox) = Reporter::new(Clock::default());
        let (began, seen) = (Instant::now(), Arc::new(Mutex::new(Vec::new())));
        let workers = Arc::new(Semaphore::new(1));
        let (requests, free) = (Arc::clone(&seen), Arc::clone(&workers));
        let service = tower::service_fn(move |_: http::Request<kube::client::Body>| {
            assert_eq!(free.available_permits(), 0, "an attempt occupies a worker");
            let mut requests = requests.lock().unwrap();
            let code = codes[requests.len()];
            requests.push(began.elapsed().as_secs());
            async move {
                let body = kube::client::Body::empty();
                Ok::<_, std::io::Error>(http::Response::builder().status(code).body(body).unwrap())
            }
        });
        let caller: Caller = kube::Client::new(service, "a").into();
        let player = Player { caller: &caller, workers: &workers, reporter: &reporter };
        let PodChange::Is(running) = pod(Some("Running"), false) else { unreachable!() };
        let mut ended = || {
            let messages = std::iter::from_fn(|| inbox.try_recv());
            messages.filter(|message| matches!(message, Observation::Fact(_))).count()
        };
        let played = player.play("/a", &running, Stage::Complete, Ipv4Addr::LOCALHOST);
        let mut played = Box::pin(played);
        // Past the first attempt, within the first pause.
        let early = tokio::time::timeout(Duration::from_millis(900), &mut played).await;
        if early.is_err() {
            assert_eq!(workers.available_permits(), 1, "a pause occupies no worker");
        }
        let before = ended();
        let done = match early {
            Ok(done) => done,
            Err(_) => played.await,
        };
        let times = seen.lock().unwrap().clone();
        (done, times, [before, ended()])
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_ends_when_the_server_accepted_it_and_a_refused_stage_is_played_again() {
        let (done, times, ended) = completed(&[503, 429, 200]).await;
        done.unwrap();
        // The pauses of 1 s and 2 s are up to 20 % longer.
        assert_eq!((times, ended), (vec![0, 1, 3], [0, 1]));
        let (done, times, ended) = completed(&[200]).await;
        done.unwrap();
        assert_eq!((times, ended), (vec![0], [1, 0]));
        let (done, times, ended) = completed(&[422]).await;
        done.unwrap_err();
        assert_eq!((times, ended), (vec![0], [0, 0]));
    }

    #[test]
    fn a_pod_that_ran_before_its_node_lost_its_power_is_completed() {
        assert_eq!(Stages::default().next(&pod(Some("Running"), false)), Some(Stage::Complete));
        assert_eq!(Stages::default().next(&pod(Some("Failed"), false)), None);
    }
}
