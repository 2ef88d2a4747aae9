//! The life of a pod on a hollow node: volumes, sandbox and container start, the agent, status
//! updates, deletion.

use std::net::Ipv4Addr;
use std::sync::Arc;

use alertstorm_agent::{Places, Task};
use alertstorm_model::alert::Alert;
use alertstorm_model::event::Fact;
use alertstorm_model::investigation::{Domain, InvestigationId, Outcome, Severity};
use alertstorm_model::kubelet::AGENT_START;
use alertstorm_model::scenario::knobs::NodeRuntime;
use alertstorm_model::seed::{Purpose, Stream};
use alertstorm_model::time::Time;
use alertstorm_platform::call;
use alertstorm_platform::identity::investigation_of;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::node::{Kubelet, PATIENCE};
use super::resident::Resident;
use super::volume::{Identity, mounted};
use crate::reporter::{Observation, Reporter, duration};

/// A pod and its investigation.
struct Subject {
    pod: Pod,
    alert: Alert,
    ip: Ipv4Addr,
}

/// The state of the container.
enum Container {
    Running { started: Timestamp },
    Ended { started: Option<Timestamp>, outcome: Outcome },
}

/// Runs a pod until it is deleted. `stop` is set when its deletion is requested.
pub(super) async fn run(kubelet: Arc<Kubelet>, pod: Pod, stop: watch::Receiver<bool>) {
    let Some(alert) = alert_of(&pod) else { return };
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    // A pod keeps its IP, also after a power loss.
    let given = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()?.parse().ok());
    let ip = given.unwrap_or_else(|| kubelet.shared.pod_ip());
    let subject = Subject { ip, alert, pod: pod.clone() };
    tracing::debug!(pod = pod.name_any(), node = kubelet.name, phase, %ip, "pod taken over");
    match phase {
        Some("Succeeded" | "Failed") => delete(&kubelet, &subject, stop).await,
        Some("Running") => {
            // Its container ran before the node lost its power.
            let outcome = Outcome::Evicted;
            kubelet.shared.agent_reports.reporter.fact(alert.id, Fact::Ended { outcome });
            report(&kubelet, &subject, &Container::Ended { started: None, outcome }).await;
            delete(&kubelet, &subject, stop).await;
        }
        _ if kubelet.shared.plan.scenario().cluster.node.runtime == NodeRuntime::Kwok => {
            kwok(&kubelet, &subject).await;
        }
        _ => start(&kubelet, &subject, stop).await,
    }
}

/// The alert of the pod's Job, from the pod's name and labels. An agent needs only its id and
/// domain.
fn alert_of(pod: &Pod) -> Option<Alert> {
    let id = investigation_of(&pod.name_any())?;
    let domain: Domain = pod.labels().get("alertstorm.dev/domain")?.parse().ok()?;
    Some(Alert { id, intended: Time::ZERO, domain, severity: Severity::Low, fingerprint: 0 })
}

/// Waits until the pod is to be stopped.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // If the sender is dropped, this task is aborted, too.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Starts the pod's container, runs its agent, and reports the status.
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
        report(kubelet, subject, &Container::Ended { started: None, outcome }).await;
        return delete(kubelet, subject, stop).await;
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
    tokio::pin!(agent);
    let mut power = Power { reporter: reporter.clone(), id, on: true };
    // The kubelet finds the running container at the next relist, while the agent works.
    let relist = kubelet.next_relist();
    let running = async {
        sleep_until(relist).await;
        report(kubelet, subject, &Container::Running { started }).await;
    };
    tokio::pin!(running);
    let mut reported = false;
    let outcome = loop {
        tokio::select! {
            outcome = &mut agent => break outcome,
            () = &mut running, if !reported => reported = true,
        }
    };
    power.on = false;
    reporter.fact(id, Fact::Ended { outcome });
    sleep_until(kubelet.next_relist()).await;
    report(kubelet, subject, &Container::Ended { started: Some(started), outcome }).await;
    delete(kubelet, subject, stop).await;
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
    let identity = mounted(&kubelet.client, kubelet.throttle.as_ref(), pod, reporter).await;
    sleep_until(started_at).await;
    identity
}

/// KWOK's `fast` stages: the pod runs and completes immediately, with a PATCH for each.
async fn kwok(kubelet: &Arc<Kubelet>, subject: &Subject) {
    let started = Timestamp::now();
    let running = Container::Running { started };
    patch(kubelet, subject, &running).await;
    let outcome = Outcome::Resolved;
    kubelet.shared.agent_reports.reporter.fact(subject.alert.id, Fact::Ended { outcome });
    patch(kubelet, subject, &Container::Ended { started: Some(started), outcome }).await;
}

/// Updates the pod's status: a GET and a PATCH, as a kubelet does.
async fn report(kubelet: &Kubelet, subject: &Subject, container: &Container) {
    let (pods, name) = (kubelet.pods(), subject.pod.name_any());
    let read = call::patiently(PATIENCE, || async {
        kubelet.turn().await;
        pods.get(&name).await
    });
    match read.await {
        // The pod was deleted, or replaced by another one of the same name.
        Err(error) if call::is_gone(&error) => {}
        Ok(found) if found.uid() != subject.pod.uid() => {}
        _ => patch(kubelet, subject, container).await,
    }
}

/// Patches the pod's status.
async fn patch(kubelet: &Kubelet, subject: &Subject, container: &Container) {
    let (pods, name) = (kubelet.pods(), subject.pod.name_any());
    let status = status(subject, container);
    tracing::debug!(pod = name, phase = status["status"]["phase"].as_str(), "pod phase");
    let done = call::patiently(PATIENCE, || async {
        kubelet.turn().await;
        pods.patch_status(&name, &PatchParams::default(), &Patch::Strategic(&status)).await
    });
    match done.await {
        Err(error) if !call::is_gone(&error) => {
            let text = format!(
                "failed to update the status of the pod {name}: {}",
                call::describe(&error)
            );
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

/// Waits until the deletion of the ended pod is requested, and then removes it from the API server
/// with a grace period of zero.
async fn delete(kubelet: &Arc<Kubelet>, subject: &Subject, mut stop: watch::Receiver<bool>) {
    stopped(&mut stop).await;
    let (pods, name) = (kubelet.pods(), subject.pod.name_any());
    let mut params = DeleteParams::default().grace_period(0);
    params.preconditions = Some(Preconditions { uid: subject.pod.uid(), resource_version: None });
    let done = call::patiently(PATIENCE, || async {
        kubelet.turn().await;
        pods.delete(&name, &params).await
    });
    match done.await {
        Err(error) if !call::is_gone(&error) && !call::is_conflict(&error) => {
            let text = format!("failed to delete the pod {name}: {}", call::describe(&error));
            kubelet.shared.agent_reports.reporter.send(Observation::Remark(text));
        }
        _ => {}
    }
}
