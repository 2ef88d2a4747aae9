//! The life of a pod on a hollow node: volumes, sandbox and container start, the agent, status
//! updates, deletion.

use std::net::Ipv4Addr;
use std::sync::Arc;

use alertstorm_agent::{Places, Task};
use alertstorm_model::alert::Alert;
use alertstorm_model::event::Fact;
use alertstorm_model::investigation::{InvestigationId, Outcome, Severity};
use alertstorm_model::kubelet::AGENT_START;
use alertstorm_model::seed::{Purpose, Stream};
use alertstorm_model::time::Time;
use alertstorm_platform::call;
use alertstorm_platform::connection::{Caller, PatchKind};
use alertstorm_platform::identity::investigation_of;
use jiff::Timestamp;
use kube::ResourceExt;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::node::{Kubelet, PATIENCE};
use super::resident::Resident;
use super::volume::{Identity, mounted};
use crate::reporter::{Observation, Reporter, duration};
use crate::seen::SeenPod;

/// A pod and its investigation.
struct Subject {
    pod: Box<SeenPod>,
    alert: Alert,
    ip: Ipv4Addr,
}

/// The state of the container.
enum Container {
    Running { started: Timestamp },
    Ended { started: Option<Timestamp>, outcome: Outcome },
}

/// Runs a pod until it is deleted. `stop` is set when its deletion is requested.
pub(super) async fn run(kubelet: Arc<Kubelet>, pod: Box<SeenPod>, mut stop: watch::Receiver<bool>) {
    let Some(alert) = alert_of(&pod) else { return };
    // A pod keeps its IP, also after a power loss.
    let ip = pod.ip.unwrap_or_else(|| kubelet.shared.pod_ip());
    let subject = Subject { ip, alert, pod };
    let (name, phase) = (subject.pod.name_any(), subject.pod.phase.as_deref());
    tracing::debug!(pod = name, node = kubelet.name, phase, %ip, "pod taken over");
    match phase {
        Some("Succeeded" | "Failed") => {}
        Some("Running") => {
            // Its container ran before the node lost its power.
            let outcome = Outcome::Evicted;
            kubelet.shared.agent_reports.reporter.fact(alert.id, Fact::Ended { outcome });
            let ended = Container::Ended { started: None, outcome };
            Box::pin(report(&kubelet, &subject, &ended)).await;
        }
        // Boxed, so that a pod that has ended does not have room for an agent until its deletion.
        _ => Box::pin(start(&kubelet, &subject, stop.clone())).await,
    }
    stopped(&mut stop).await;
    Box::pin(delete_now(&kubelet, &subject.pod)).await;
}

/// The alert of the pod's Job, from the pod's name and labels. An agent needs only its id and
/// domain.
fn alert_of(pod: &SeenPod) -> Option<Alert> {
    let (id, domain) = (investigation_of(&pod.name_any())?, pod.domain?);
    Some(Alert { id, intended: Time::ZERO, domain, severity: Severity::Low, fingerprint: 0 })
}

/// Waits until the pod is to be stopped.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // If the sender is dropped, this task is aborted, too.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Starts the pod's container, runs its agent, and reports its status up to its end.
async fn start(kubelet: &Arc<Kubelet>, subject: &Subject, mut stop: watch::Receiver<bool>) {
    let reporter = &kubelet.shared.agent_reports.reporter;
    let (id, pod) = (subject.alert.id, &subject.pod);
    let prepared = tokio::select! {
        prepared = prepare(kubelet, subject) => Some(prepared),
        () = stopped(&mut stop) => None,
    };
    let Some(identity) = prepared else {
        // Its deletion was requested before its container started.
        let outcome = Outcome::Evicted;
        reporter.fact(id, Fact::Ended { outcome });
        return report(kubelet, subject, &Container::Ended { started: None, outcome }).await;
    };
    let started = Timestamp::now();
    kubelet.event(pod, "Started", "Container started");
    let terminate = stop.clone();
    let agent = async {
        sleep(duration(AGENT_START)).await;
        let task = Task::new(&kubelet.shared.plan, &subject.alert, &kubelet.shared.names);
        let (places, world) = environment(kubelet, subject, identity);
        alertstorm_agent::run(&task, &places, &world, terminate).await
    };
    let mut power = Power { reporter: reporter.clone(), id, on: true };
    // The kubelet finds the running container at the next relist, while the agent works.
    let relist = kubelet.next_relist();
    let running = async {
        sleep_until(relist).await;
        report(kubelet, subject, &Container::Running { started }).await;
    };
    let outcome = work(agent, running, relist, |outcome| {
        power.on = false;
        reporter.fact(id, Fact::Ended { outcome });
    })
    .await;
    sleep_until(kubelet.next_relist()).await;
    report(kubelet, subject, &Container::Ended { started: Some(started), outcome }).await;
}

/// Runs a container while the kubelet reports that it runs, from `relist` on. A status update that is
/// under way when the container ends is finished first, so that no request is left half-way. Both are
/// dropped then: a pod that waits for its deletion keeps nothing of them.
async fn work<T: Copy>(
    container: impl Future<Output = T>,
    report: impl Future<Output = ()>,
    relist: Instant,
    ended: impl FnOnce(T),
) -> T {
    let mut container = Box::pin(container);
    let mut report = Box::pin(report);
    let mut is_reported = false;
    let outcome = loop {
        tokio::select! {
            outcome = &mut container => break outcome,
            () = &mut report, if !is_reported => is_reported = true,
        }
    };
    drop(container);
    ended(outcome);
    if !is_reported && Instant::now() >= relist {
        report.await;
    }
    outcome
}

/// The servers that the agent connects to, and its other environment.
fn environment(
    kubelet: &Kubelet,
    subject: &Subject,
    identity: Identity,
) -> (Places, Arc<Resident>) {
    let shared = &kubelet.shared;
    let places = Places {
        vault: shared.vault.clone(),
        postgres: shared.postgres.clone(),
        from: Some(subject.ip),
        token: identity.vault,
    };
    let world = Resident {
        shared: Arc::clone(shared),
        id: subject.alert.id,
        pod: subject.pod.name_any(),
        token: identity.kubernetes,
    };
    (places, Arc::new(world))
}

/// Reports an agent as evicted if it is dropped while the agent runs: then its node has lost its
/// power, and no status update follows.
struct Power {
    reporter: Reporter,
    id: InvestigationId,
    on: bool,
}

impl Drop for Power {
    fn drop(&mut self) {
        if self.on {
            self.reporter.fact(self.id, Fact::Ended { outcome: Outcome::Evicted });
        }
    }
}

/// Pulls the image, reads the volumes, and starts sandbox and container.
async fn prepare(kubelet: &Arc<Kubelet>, subject: &Subject) -> Identity {
    let knobs = &kubelet.shared.plan.scenario().cluster.node;
    let seed = kubelet.shared.plan.scenario().seed;
    let (now, pod) = (Instant::now(), &subject.pod);
    let mut stream = Stream::new(seed, Purpose::PodStart, subject.alert.id.0);
    let image = async {
        match knobs.image_present {
            true => now,
            false => now + duration(knobs.image_pull.dist.draw(&mut stream)),
        }
    };
    let image_at = *kubelet.image.get_or_init(|| image).await;
    let start = duration(knobs.sandbox_start.dist.draw(&mut stream))
        + duration(knobs.container_start.dist.draw(&mut stream));
    let started_at = image_at.max(now) + start;
    kubelet.event(pod, "Pulled", "Container image already present on machine");
    kubelet.event(pod, "Created", "Container created");
    let reporter = &kubelet.shared.agent_reports.reporter;
    let identity = mounted(&kubelet.caller, kubelet.throttle.as_ref(), pod, reporter).await;
    sleep_until(started_at).await;
    identity
}

/// Whose object it is.
#[derive(Deserialize)]
struct Identified {
    metadata: Uid,
}

#[derive(Deserialize)]
struct Uid {
    uid: Option<String>,
}

/// Updates the pod's status: a GET and a PATCH, as a kubelet does.
async fn report(kubelet: &Kubelet, subject: &Subject, container: &Container) {
    let path = kubelet.pod(&subject.pod.name_any());
    let read = call::patiently(PATIENCE, || async {
        kubelet.turn().await;
        kubelet.caller.get::<Identified>(&path).await
    });
    match read.await {
        // The pod was deleted, or replaced by another one of the same name.
        Err(error) if call::is_gone(&error) => {}
        Ok(found) if found.metadata.uid != subject.pod.uid() => {}
        _ => patch(kubelet, subject, container).await,
    }
}

/// Patches the pod's status.
async fn patch(kubelet: &Kubelet, subject: &Subject, container: &Container) {
    let name = subject.pod.name_any();
    let path = kubelet.pod(&name) + "/status";
    let status = status(subject, container);
    tracing::debug!(pod = name, phase = status["status"]["phase"].as_str(), "pod phase");
    let done = call::patiently(PATIENCE, || async {
        kubelet.turn().await;
        kubelet.caller.patch(&path, PatchKind::Strategic, &status).await
    });
    failed(kubelet, "update the status of", &name, done.await);
}

/// Reports that something could not be done with a pod, unless the pod does not exist any more.
pub(super) fn failed(kubelet: &Kubelet, what: &str, pod: &str, done: Result<(), kube::Error>) {
    match done {
        Err(error) if !call::is_gone(&error) => {
            let text = format!("failed to {what} the pod {pod}: {}", call::describe(&error));
            kubelet.shared.agent_reports.reporter.send(Observation::Remark(text));
        }
        _ => {}
    }
}

fn status(subject: &Subject, container: &Container) -> Value {
    let now = Timestamp::now().to_string();
    let condition = |kind: &str, status: bool| {
        json!({"type": kind, "status": if status { "True" } else { "False" },
               "lastTransitionTime": now})
    };
    let (phase, ready, state) = match container {
        Container::Running { started } => {
            ("Running", true, json!({"running": {"startedAt": started.to_string()}}))
        }
        Container::Ended { started, outcome } => {
            let (phase, code, reason) = match outcome {
                outcome if outcome.concluded() => ("Succeeded", 0, "Completed"),
                Outcome::OomKilled => ("Failed", 137, "OOMKilled"),
                Outcome::Evicted | Outcome::DeadlineExceeded => ("Failed", 143, "Error"),
                _ => ("Failed", 1, "Error"),
            };
            let mut terminated = json!({
                "exitCode": code, "reason": reason, "finishedAt": now,
                // The content of the termination message.
                "message": json!({"outcome": outcome}).to_string(),
            });
            if let Some(started) = started {
                terminated["startedAt"] = json!(started.to_string());
            }
            (phase, false, json!({"terminated": terminated}))
        }
    };
    json!({
        "metadata": {"uid": subject.pod.uid()},
        "status": {
            "phase": phase,
            "hostIP": "127.0.0.1",
            "podIP": subject.ip.to_string(),
            "podIPs": [{"ip": subject.ip.to_string()}],
            "startTime": subject.pod.creation_timestamp().map(|time| time.0.to_string()),
            "conditions": [
                condition("PodReadyToStartContainers", ready),
                condition("Initialized", true),
                condition("Ready", ready),
                condition("ContainersReady", ready),
                condition("PodScheduled", true),
            ],
            "containerStatuses": [{
                "name": "agent", "image": "alertstorm/agent", "imageID": "", "ready": ready,
                "started": ready, "restartCount": 0, "state": state,
            }],
        },
    })
}

/// Removes a pod from the API server, and tries it again as a kubelet does.
async fn delete_now(kubelet: &Kubelet, pod: &SeenPod) {
    let name = pod.name_any();
    let path = kubelet.pod(&name);
    let done = call::patiently(PATIENCE, || async {
        kubelet.turn().await;
        remove(&kubelet.caller, &path, pod).await
    });
    failed(kubelet, "delete", &name, done.await);
}

/// Deletes a pod with a grace period of zero. One that was deleted already and replaced by another one
/// of its name (409) counts as deleted.
pub(super) async fn remove(caller: &Caller, path: &str, pod: &SeenPod) -> Result<(), kube::Error> {
    let options = json!({
        "apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
        "preconditions": {"uid": pod.uid()},
    });
    match caller.delete(path, &options).await {
        Err(error) if call::is_conflict(&error) => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_status_update_under_way_is_finished_when_the_container_ends() {
        for (relist_ms, expected) in [(10, true), (1_000, false)] {
            let relist = Instant::now() + Duration::from_millis(relist_ms);
            let (reported, ended) = (Cell::new(false), Cell::new(false));
            let report = async {
                sleep_until(relist).await;
                sleep(Duration::from_millis(200)).await;
                assert!(ended.get(), "the agent's end does not wait for the update");
                reported.set(true);
            };
            let container = async {
                sleep(Duration::from_millis(100)).await;
                7
            };
            assert_eq!(work(container, report, relist, |_| ended.set(true)).await, 7);
            assert_eq!(reported.get(), expected);
        }
    }
}
