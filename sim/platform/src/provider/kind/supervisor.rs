//! Watches the servers of a kind cluster while a run lasts: starts sidecar containers again that died,
//! finds components of the control plane that their kubelet restarted, and nodes that are not ready.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::Client;
use serde_json::Value;
use testcontainers::bollard::Docker;
use tokio::time::{Instant, sleep, timeout};

use super::error::KindError;
use super::nodes::COMPONENTS;
use crate::provider::Program;

/// Interval of the supervisor.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Delay before a container that died is started again, as for processes of the local provider.
const RESTART_AFTER: Duration = Duration::from_secs(1);
/// The API server is asked at every N-th look.
const ASK_EVERY: u32 = 4;
/// A request to the API server is given up after this long.
const ASK_WITHIN: Duration = Duration::from_secs(5);
/// After an outage of the scenario, restarts of its component are due to it for this long.
const SETTLED_AFTER: Duration = Duration::from_secs(60);
/// The pods of the control plane.
const PLANE: &str = "/api/v1/namespaces/kube-system/pods?labelSelector=tier%3Dcontrol-plane";

#[derive(Debug, Default)]
struct Inner {
    /// Servers that a fault of the scenario keeps down.
    held: BTreeSet<Program>,
    /// When such a fault last ended.
    released: BTreeMap<Program, Instant>,
    /// `restartCount` of each component's container.
    restarts: BTreeMap<Program, u64>,
    not_ready: BTreeSet<String>,
    deaths: Vec<Program>,
    remarks: Vec<String>,
}

/// What the supervisor found; clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Found(Arc<Mutex<Inner>>);

impl Found {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on a server is down on purpose.
    pub fn hold(&self, program: Program) {
        self.lock().held.insert(program);
    }

    /// It is started again.
    pub fn release(&self, program: Program) {
        let mut inner = self.lock();
        inner.held.remove(&program);
        inner.released.insert(program, Instant::now());
    }

    /// Servers that died since the last call.
    pub fn take_deaths(&self) -> Vec<Program> {
        std::mem::take(&mut self.lock().deaths)
    }

    /// Remarks since the last call.
    pub fn take_remarks(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().remarks)
    }

    fn is_held(&self, program: Program) -> bool {
        self.lock().held.contains(&program)
    }

    fn died(&self, program: Program) {
        tracing::warn!(program = program.file(), "died, and is started again");
        self.lock().deaths.push(program);
    }

    /// Compares the counts of restarts with the last ones.
    fn pods_are(&self, pods: &Value) {
        let mut died = Vec::new();
        let mut inner = self.lock();
        for program in COMPONENTS {
            let prefix = format!("{}-", program.file());
            let items = pods["items"].as_array().into_iter().flatten();
            let mut named = items.filter(|pod| {
                pod["metadata"]["name"].as_str().is_some_and(|name| name.starts_with(&prefix))
            });
            let Some(pod) = named.next() else { continue };
            let status = &pod["status"]["containerStatuses"][0];
            let Some(count) = status["restartCount"].as_u64() else { continue };
            let before = inner.restarts.insert(program, count);
            let released = inner.released.get(&program);
            let on_purpose = inner.held.contains(&program)
                || released.is_some_and(|at| at.elapsed() < SETTLED_AFTER);
            if before.is_some_and(|before| before < count) && !on_purpose {
                died.push(program);
            }
        }
        drop(inner);
        died.into_iter().for_each(|program| self.died(program));
    }

    /// Compares the nodes' readiness with the last one.
    fn nodes_are(&self, nodes: &Value) {
        let mut inner = self.lock();
        for node in nodes["items"].as_array().into_iter().flatten() {
            let name = node["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let conditions = node["status"]["conditions"].as_array().into_iter().flatten();
            let mut ready = conditions.filter(|of| of["type"] == "Ready");
            let is_ready = ready.next().is_some_and(|of| of["status"] == "True");
            let changed = match is_ready {
                true => inner.not_ready.remove(&name),
                false => inner.not_ready.insert(name.clone()),
            };
            if changed {
                let how = if is_ready { "is ready again" } else { "is not ready" };
                tracing::warn!(name, "a node {how}");
                inner.remarks.push(format!("the node {name} {how}"));
            }
        }
    }
}

/// A container that is started again if it dies.
pub(super) struct Sidecar {
    /// What runs in it.
    pub program: Program,
    /// Its id.
    pub id: String,
}

/// Watches the servers until it is aborted. `generation` counts the starts of Vault, whose storage
/// is in memory.
pub(super) async fn supervise(
    sidecars: [Sidecar; 2],
    admin: Client,
    found: Found,
    generation: Arc<AtomicU64>,
) {
    let mut looks = 0_u32;
    loop {
        for sidecar in &sidecars {
            if let Err(error) = revive(sidecar, &found, &generation).await {
                tracing::warn!(program = sidecar.program.file(), %error, "could not be started again");
            }
        }
        if looks.is_multiple_of(ASK_EVERY) {
            ask(&admin, &found).await;
        }
        looks = looks.wrapping_add(1);
        sleep(LOOK_EVERY).await;
    }
}

/// Starts a container again if it has died.
async fn revive(sidecar: &Sidecar, found: &Found, generation: &AtomicU64) -> Result<(), KindError> {
    // At the end of the run its container is removed.
    if found.is_held(sidecar.program) {
        return Ok(());
    }
    let docker = Docker::connect_with_defaults()?;
    let is_dead = async || -> Result<bool, KindError> {
        let state = docker.inspect_container(&sidecar.id, None).await?.state;
        let runs = state.and_then(|state| state.running).unwrap_or(false);
        Ok(!runs && !found.is_held(sidecar.program))
    };
    if !is_dead().await? {
        return Ok(());
    }
    // The reader of the generation waits for Vault, which starts after its generation was counted.
    found.died(sidecar.program);
    sleep(RESTART_AFTER).await;
    // A fault of the scenario or the end of the run may have begun.
    if !is_dead().await? {
        return Ok(());
    }
    if sidecar.program == Program::Vault {
        generation.fetch_add(1, Ordering::SeqCst);
    }
    Ok(docker.start_container(&sidecar.id, None).await?)
}

async fn ask(admin: &Client, found: &Found) {
    let get = async |path: &str| -> Option<Value> {
        let request = http::Request::get(path).body(Vec::new()).ok()?;
        match timeout(ASK_WITHIN, admin.request::<Value>(request)).await {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(error)) => {
                tracing::debug!(%error, path, "the cluster's state is unknown");
                None
            }
            Err(_) => {
                tracing::debug!(path, "the API server does not answer");
                None
            }
        }
    };
    if let Some(pods) = get(PLANE).await {
        found.pods_are(&pods);
    }
    if let Some(nodes) = get("/api/v1/nodes").await {
        found.nodes_are(&nodes);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pods(etcd: u64, scheduler: u64) -> Value {
        let pod = |name: &str, count: u64| {
            json!({"metadata": {"name": name},
                   "status": {"containerStatuses": [{"restartCount": count}]}})
        };
        json!({"items": [pod("etcd-a", etcd), pod("kube-scheduler-a", scheduler)]})
    }

    #[test]
    fn a_component_that_its_kubelet_restarted_has_died_unless_the_scenario_stopped_it() {
        let found = Found::default();
        // A cluster that is used again has restarts of earlier runs.
        found.pods_are(&pods(3, 1));
        assert_eq!(found.take_deaths(), []);
        found.pods_are(&pods(4, 1));
        assert_eq!(found.take_deaths(), [Program::Etcd]);
        found.hold(Program::Scheduler);
        found.pods_are(&pods(4, 2));
        found.release(Program::Scheduler);
        found.pods_are(&pods(4, 3));
        assert_eq!(found.take_deaths(), []);
    }

    #[test]
    fn a_node_that_is_not_ready_is_reported_once_and_again_when_it_is() {
        let node = |ready: &str| {
            json!({"items": [{"metadata": {"name": "worker"},
                "status": {"conditions": [{"type": "Ready", "status": ready}]}}]})
        };
        let found = Found::default();
        for ready in ["True", "Unknown", "Unknown", "True", "True"] {
            found.nodes_are(&node(ready));
        }
        assert_eq!(
            found.take_remarks(),
            ["the node worker is not ready", "the node worker is ready again"]
        );
    }
}
