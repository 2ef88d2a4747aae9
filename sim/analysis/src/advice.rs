//! Advice: the knob that moves a component.

use alertstorm_model::event::Component;
use alertstorm_model::scenario::Scenario;
use alertstorm_model::scenario::knobs::Positive;

/// A knob and the next value to try, for [`alertstorm_model::scenario::Plan::with_knob`].
#[derive(Clone, Debug)]
pub struct Knob {
    /// Its dotted path in the scenario.
    pub path: &'static str,
    /// Its value, as a scenario writes it.
    pub from: String,
    /// The value to try, as a scenario writes it.
    pub to: String,
}

impl Knob {
    /// The last word of the path.
    pub fn name(&self) -> &'static str {
        self.path.rsplit('.').next().unwrap_or(self.path)
    }
}

/// The knob that moves a component; none where the component has no knob.
pub fn knob(component: Component, scenario: &Scenario) -> Option<Knob> {
    let plane = &scenario.cluster.control_plane;
    let manager = &plane.controller_manager;
    let controller = &scenario.controller;
    Some(match component {
        Component::Concurrency => doubled("controller.concurrency", controller.concurrency),
        Component::CostBudget => {
            scaled("controller.cost_budget.usd", controller.cost_budget.as_ref()?.usd, 2.0)
        }
        Component::BackendClient => {
            doubled("controller.client.connections", controller.client.connections)
        }
        Component::ApiSeats => doubled(
            "cluster.control_plane.apiserver.max_requests_inflight",
            plane.apiserver.max_requests_inflight,
        ),
        Component::ControlPlaneCpu => doubled("cluster.control_plane.cores", plane.cores),
        Component::JobControllerBucket => scaled(
            "cluster.control_plane.controller_manager.kube_api_qps",
            manager.kube_api_qps,
            2.5,
        ),
        Component::JobControllerWorkers => doubled(
            "cluster.control_plane.controller_manager.concurrent_job_syncs",
            manager.concurrent_job_syncs,
        ),
        Component::SchedulerBucket => scaled(
            "cluster.control_plane.scheduler.kube_api_qps",
            plane.scheduler.kube_api_qps,
            2.0,
        ),
        Component::NodeCapacity => doubled("cluster.nodes", scenario.cluster.nodes),
        Component::KubeletBucket => {
            scaled("cluster.node.kube_api_qps", scenario.cluster.node.kube_api_qps, 2.0)
        }
        Component::ImagePull => Knob {
            path: "cluster.node.image_present",
            from: "false".to_owned(),
            to: "true".to_owned(),
        },
        Component::VaultCpu => doubled("vault.cores", scenario.vault.cores),
        Component::VaultDatabaseLock => {
            doubled("vault.secrets.database.configs", scenario.vault.secrets.database.configs)
        }
        Component::Postgres => doubled("postgres.cores", scenario.postgres.cores),
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
    })
}

fn doubled(path: &'static str, from: std::num::NonZeroU32) -> Knob {
    let to = from.saturating_mul(std::num::NonZeroU32::MIN.saturating_add(1));
    Knob { path, from: from.to_string(), to: to.to_string() }
}

fn scaled(path: &'static str, Positive(from): Positive, by: f64) -> Knob {
    Knob { path, from: from.to_string(), to: (from * by).to_string() }
}
