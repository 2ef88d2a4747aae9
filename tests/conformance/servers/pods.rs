//! A node that runs the agents of pods as tasks, each from its pod's own environment and tokens: for
//! runs on somebody else's cluster, where the local servers have no kubelets.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alertstorm_agent::journal::Writer;
use alertstorm_agent::names::application_object;
use alertstorm_agent::{Acted, AgentReport, Places, Task, World, trust, vault};
use alertstorm_model::investigation::Outcome;
use alertstorm_model::phase::{Refuser, Verb};
use alertstorm_model::quantity::Bytes;
use alertstorm_model::time::Time;
use alertstorm_platform::connection::Lanes;
use alertstorm_platform::{Platform, call, objects};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// The node's name.
const NODE: &str = "visited";
/// How often its pods are listed.
const LIST_EVERY: Duration = Duration::from_millis(200);
/// How often its status is reported.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// The environment of one agent.
struct Pod {
    started: Instant,
    journal: Mutex<Writer>,
    lanes: Lanes,
    token: String,
    task: Arc<Task>,
}

impl World for Pod {
    fn now(&self) -> Time {
        Time(self.started.elapsed().as_nanos() as u64)
    }

    fn report(&self, report: AgentReport) {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        journal.add((self.now(), report)).expect("the journal");
    }

    async fn on_kubernetes(&self, verb: Verb) -> Acted {
        let namespace = self.task.names.namespace();
        let client = self.lanes.client("test", &self.token, namespace).expect("a client");
        let folder = objects::collection("ConfigMap", namespace);
        let path = format!("{folder}/{}", application_object(verb));
        let done = match verb.writes() {
            true => {
                let change = json!({"data": {"changed": self.now().0.to_string()}});
                objects::merge(&client, &path, &change).await.map(drop)
            }
            false => objects::get(&client, &path).await.map(drop),
        };
        match done {
            Ok(()) => Acted::Done,
            Err(error) if call::is_forbidden(&error) => Acted::Refused(Refuser::Rbac),
            Err(error) => panic!("{error}"),
        }
    }

    fn hold(&self, memory: Bytes) -> bool {
        memory <= self.task.memory_limit
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Runs the node until the future is dropped.
pub async fn run(platform: Platform, folder: PathBuf) {
    let admin = platform.admin.clone();
    let lanes = {
        let tls = trust::only(&platform.ca).expect("a CA");
        Lanes::new("test", &platform.api_server, &tls, 100).expect("an address")
    };
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": NODE, "labels": {"kubernetes.io/hostname": NODE}},
    });
    objects::post(&admin, "/api/v1/nodes", &node).await.expect("a node");
    let mut running: BTreeMap<String, watch::Sender<bool>> = BTreeMap::new();
    let mut tasks: JoinSet<String> = JoinSet::new();
    let mut reported: Option<Instant> = None;
    loop {
        if reported.is_none_or(|at| at.elapsed() > REPORT_EVERY) {
            report(&platform).await;
            reported = Some(Instant::now());
        }
        let path = format!("/api/v1/pods?fieldSelector=spec.nodeName={NODE}");
        let listed = objects::get(&admin, &path).await.expect("a list").unwrap_or_default();
        for pod in listed["items"].as_array().into_iter().flatten() {
            let uid = text(&pod["metadata"]["uid"]);
            let deleted = !pod["metadata"]["deletionTimestamp"].is_null();
            if let Some(stop) = running.get(&uid) {
                stop.send_replace(deleted);
                continue;
            }
            let ended = matches!(text(&pod["status"]["phase"]).as_str(), "Succeeded" | "Failed");
            let (stop, stopped) = watch::channel(deleted);
            running.insert(uid, stop);
            let (platform, lanes) = (platform.clone(), lanes.clone());
            let (pod, folder) = (pod.clone(), folder.clone());
            tasks.spawn(async move { of_pod(platform, lanes, pod, ended, folder, stopped).await });
        }
        while tasks.try_join_next().is_some_and(|ended| ended.is_ok()) {}
        sleep(LIST_EVERY).await;
    }
}

async fn report(platform: &Platform) {
    let now = jiff_now(platform).await;
    let condition = |kind: &str, status: &str| {
        json!({"type": kind, "status": status, "reason": "Test", "message": "a test",
               "lastHeartbeatTime": now, "lastTransitionTime": now})
    };
    let resources = json!({"cpu": "8", "memory": "64Gi", "pods": "110"});
    let status = json!({"status": {
        "capacity": resources, "allocatable": resources,
        "conditions": [condition("Ready", "True"), condition("MemoryPressure", "False"),
                       condition("DiskPressure", "False"), condition("PIDPressure", "False")],
    }});
    let path = format!("/api/v1/nodes/{NODE}/status");
    objects::merge(&platform.admin, &path, &status).await.expect("the node's status");
}

/// The time as the API server writes it, from an object that it created just now.
async fn jiff_now(platform: &Platform) -> String {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let answer = objects::post(&platform.admin, path, &review).await.expect("an answer");
    text(&answer["metadata"]["creationTimestamp"])
}

async fn of_pod(
    platform: Platform,
    lanes: Lanes,
    pod: Value,
    ended: bool,
    folder: PathBuf,
    mut stop: watch::Receiver<bool>,
) -> String {
    let (namespace, name) = (text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["name"]));
    let path = format!("{}/{name}", objects::collection("Pod", &namespace));
    // A pod whose deletion was requested before it started has nothing to run.
    if !ended && !*stop.borrow() {
        let outcome = container(&platform, &lanes, &pod, &folder, stop.clone()).await;
        tracing::debug!(name, ?outcome, "the agent of a pod has ended");
    }
    let _ = stop.wait_for(|stop| *stop).await;
    let now = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
                     "preconditions": {"uid": pod["metadata"]["uid"]}});
    objects::delete_with(&platform.admin, &path, &now).await.expect("the pod's deletion");
    name
}

/// Runs the pod's only container, and reports its status.
async fn container(
    platform: &Platform,
    lanes: &Lanes,
    pod: &Value,
    folder: &std::path::Path,
    stop: watch::Receiver<bool>,
) -> Outcome {
    let (namespace, name) = (text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["name"]));
    let account = text(&pod["spec"]["serviceAccountName"]);
    let env = pod["spec"]["containers"][0]["env"].as_array().cloned().unwrap_or_default();
    let variable = |wanted: &str| -> Value {
        let of = env.iter().find(|one| one["name"] == wanted).expect("a variable");
        serde_json::from_str(&text(&of["value"])).expect("JSON")
    };
    let task: Task = serde_json::from_value(variable("ALERTSTORM_TASK")).expect("a task");
    let around = variable("ALERTSTORM_PLACES");
    let token = async |audiences: Value| {
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"audiences": audiences, "expirationSeconds": 3607, "boundObjectRef": {
                "apiVersion": "v1", "kind": "Pod", "name": name, "uid": pod["metadata"]["uid"]}}});
        let accounts = objects::collection("ServiceAccount", &namespace);
        let path = format!("{accounts}/{account}/token");
        let answer = objects::post(&platform.admin, &path, &request).await.expect("a token");
        text(&answer["status"]["token"])
    };
    let places = Places {
        vault: vault::Address {
            namespace: None,
            url: text(&around["vault"]),
            tls: trust::only(&text(&around["vault_ca"])).expect("a CA"),
        },
        postgres: serde_json::from_value(around["postgres"].clone()).expect("an address"),
        from: None,
        token: token(json!(["vault"])).await,
    };
    let message = folder.join(format!("{}.journal", text(&pod["metadata"]["uid"])));
    let task = Arc::new(task);
    let world = Arc::new(Pod {
        started: Instant::now(),
        journal: Mutex::new(Writer::begin(&message).expect("a journal")),
        lanes: lanes.clone(),
        token: token(json!([])).await,
        task: Arc::clone(&task),
    });
    let started = jiff_now(platform).await;
    let state = json!({"running": {"startedAt": started}});
    status(platform, pod, "Running", true, state).await;
    let outcome = alertstorm_agent::run(&task, &places, &world, stop).await;
    if outcome != Outcome::Crashed {
        let mut journal = world.journal.lock().unwrap_or_else(PoisonError::into_inner);
        journal.end(outcome).expect("the journal");
    }
    let (phase, code) = if outcome.concluded() { ("Succeeded", 0) } else { ("Failed", 1) };
    let journal = std::fs::read_to_string(&message).expect("the journal");
    let state = json!({"terminated": {
        "exitCode": code, "reason": if code == 0 { "Completed" } else { "Error" },
        "startedAt": started, "finishedAt": jiff_now(platform).await, "message": journal,
    }});
    status(platform, pod, phase, false, state).await;
    outcome
}

async fn status(platform: &Platform, pod: &Value, phase: &str, ready: bool, state: Value) {
    let (namespace, name) = (text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["name"]));
    let condition =
        |kind: &str, is: bool| json!({"type": kind, "status": if is { "True" } else { "False" }});
    let change = json!({"status": {
        "phase": phase,
        "conditions": [condition("PodScheduled", true), condition("Ready", ready),
                       condition("ContainersReady", ready), condition("Initialized", true)],
        "containerStatuses": [{
            "name": "agent", "image": "agent", "imageID": "", "ready": ready, "restartCount": 0,
            "state": state,
        }],
    }});
    let path = format!("{}/{name}/status", objects::collection("Pod", &namespace));
    if let Err(error) = objects::merge(&platform.admin, &path, &change).await {
        assert!(call::is_gone(&error), "{error}");
    }
}
