//! The bottleneck: the component whose wait holds the largest share of the critical path, and the
//! knob that moves it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::{Component, Wait};
use crate::investigation::Stage;
use crate::scenario::Scenario;
use crate::scenario::knobs::{Positive, count};
use crate::time::Span;

/// Sums of the waits on the way to a stage.
#[derive(Clone, Debug)]
struct Path {
    investigations: u64,
    total: Span,
    waits: [Span; Component::COUNT],
}

impl Default for Path {
    fn default() -> Self {
        Self { investigations: 0, total: Span::ZERO, waits: [Span::ZERO; Component::COUNT] }
    }
}

/// The waits of all investigations, on the way to their credentials and to the Job's end.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    ready: Path,
    finished: Path,
}

/// A component's share of the critical path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PathShare {
    /// The component.
    pub component: Component,
    /// Its share of all time from the alert to the end of the path, 0 to 1.
    pub share: f64,
    /// Seconds an investigation, on the mean.
    pub mean_s: f64,
}

impl Paths {
    pub(super) fn add(&mut self, until: Stage, total: Span, waits: &[Wait]) {
        let path = match until {
            Stage::CredentialsReady => &mut self.ready,
            _ => &mut self.finished,
        };
        path.investigations += 1;
        path.total += total;
        for wait in waits {
            path.waits[wait.component.index()] += wait.span;
        }
    }

    /// The path that counts: to the credentials where agents need any, else to the Job's end.
    fn decisive(&self) -> (&Path, Stage) {
        if self.ready.investigations > 0 {
            (&self.ready, Stage::CredentialsReady)
        } else {
            (&self.finished, Stage::JobFinished)
        }
    }

    /// Where the path that counts ends.
    pub fn until(&self) -> Stage {
        self.decisive().1
    }

    /// Shares of the components, the largest first; those without a wait are left out.
    pub fn shares(&self) -> Vec<PathShare> {
        let (path, _) = self.decisive();
        let share = |component: Component| {
            let wait = path.waits[component.index()].as_secs_f64();
            let share = wait / path.total.as_secs_f64().max(1e-9);
            let mean_s = wait / path.investigations.max(1) as f64;
            PathShare { component, share, mean_s }
        };
        let mut shares: Vec<_> = Component::ALL.iter().map(|c| share(*c)).collect();
        shares.retain(|share| share.share > 0.0);
        shares.sort_by(|a, b| b.share.total_cmp(&a.share));
        shares
    }
}

/// A knob, its value and the next one to try.
#[derive(Clone, Debug)]
pub struct Knob {
    /// Its path in the scenario.
    pub path: &'static str,
    /// Its value.
    pub from: String,
    /// The value to try.
    pub to: String,
    /// The scenario with the value to try.
    pub moved: Scenario,
}

impl Knob {
    /// The last word of the path.
    pub fn name(&self) -> &'static str {
        self.path.rsplit('.').next().unwrap_or(self.path)
    }
}

/// The knob that moves a component, where there is one.
pub fn knob(component: Component, scenario: &Scenario) -> Option<Knob> {
    let mut moved = scenario.clone();
    let manager = &mut moved.cluster.control_plane.controller_manager;
    let (path, from, to) = match component {
        Component::Concurrency => {
            let (from, to) = doubled(&mut moved.controller.concurrency);
            ("controller.concurrency", from, to)
        }
        Component::CostBudget => {
            let budget = moved.controller.cost_budget.as_mut()?;
            let (from, to) = scaled(&mut budget.usd, 2.0);
            ("controller.cost_budget.usd", from, to)
        }
        Component::BackendClient => {
            let (from, to) = doubled(&mut moved.controller.client.connections);
            ("controller.client.connections", from, to)
        }
        Component::ApiSeats => {
            let apiserver = &mut moved.cluster.control_plane.apiserver;
            let (from, to) = doubled(&mut apiserver.max_requests_inflight);
            ("cluster.control_plane.apiserver.max_requests_inflight", from, to)
        }
        Component::ControlPlaneCpu => {
            let (from, to) = doubled(&mut moved.cluster.control_plane.cores);
            ("cluster.control_plane.cores", from, to)
        }
        Component::JobControllerBucket => {
            let (from, to) = scaled(&mut manager.kube_api_qps, 2.5);
            ("cluster.control_plane.controller_manager.kube_api_qps", from, to)
        }
        Component::JobControllerWorkers => {
            let (from, to) = doubled(&mut manager.concurrent_job_syncs);
            ("cluster.control_plane.controller_manager.concurrent_job_syncs", from, to)
        }
        Component::SchedulerBucket => {
            let (from, to) = scaled(&mut moved.cluster.control_plane.scheduler.kube_api_qps, 2.0);
            ("cluster.control_plane.scheduler.kube_api_qps", from, to)
        }
        Component::NodeCapacity => {
            let (from, to) = doubled(&mut moved.cluster.nodes);
            ("cluster.nodes", from, to)
        }
        Component::KubeletBucket => {
            let (from, to) = scaled(&mut moved.cluster.node.kube_api_qps, 2.0);
            ("cluster.node.kube_api_qps", from, to)
        }
        Component::ImagePull => {
            moved.cluster.node.image_present = true;
            ("cluster.node.image_present", "false".to_owned(), "true".to_owned())
        }
        Component::VaultCpu => {
            let (from, to) = doubled(&mut moved.vault.cores);
            ("vault.cores", from, to)
        }
        Component::VaultDatabaseLock => {
            let (from, to) = doubled(&mut moved.vault.secrets.database.configs);
            ("vault.secrets.database.configs", from, to)
        }
        Component::Postgres => {
            let (from, to) = doubled(&mut moved.postgres.cores);
            ("postgres.cores", from, to)
        }
        Component::ControllerDown
        | Component::ApiServerDown
        | Component::Etcd
        | Component::JobSyncBatch
        | Component::ControllerManagerDown
        | Component::SchedulerCycle
        | Component::SchedulerDown
        | Component::PodStart
        | Component::VaultDown => return None,
    };
    Some(Knob { path, from, to, moved })
}

fn doubled(n: &mut std::num::NonZeroU32) -> (String, String) {
    let from = n.get();
    *n = count(from.saturating_mul(2));
    (from.to_string(), n.to_string())
}

fn scaled(n: &mut Positive, by: f64) -> (String, String) {
    let from = n.0;
    n.0 = from * by;
    (from.to_string(), n.0.to_string())
}
