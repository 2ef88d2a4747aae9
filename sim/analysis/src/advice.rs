//! Advice: the knob that moves a component.

use alertstorm_model::event::Component;
use alertstorm_model::scenario::Scenario;
use alertstorm_model::scenario::knobs::{Positive, count};

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
        | Component::VaultDown
        | Component::Unexplained => return None,
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
