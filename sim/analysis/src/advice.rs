//! Advice: the knob of a scenario that gives a bottleneck component more capacity.
//!
//! ```
//! use alertstorm_analysis::advice;
//! use alertstorm_model::event::Component;
//! use alertstorm_model::scenario::{NoFiles, load};
//!
//! let text = "alerts: [{flood: 10}]";
//! let plan = load(text, "example.yaml", &[], &NoFiles).expect("a valid scenario");
//! let knob = advice::knob(Component::VaultCpu, plan.scenario()).expect("a knob of Vault");
//! assert_eq!(knob.path, "vault.cores");
//! let changed = plan.with_knob(knob.path, &knob.to).expect("a valid plan");
//! assert!(changed.scenario().vault.cores > plan.scenario().vault.cores);
//! assert!(advice::knob(Component::Etcd, plan.scenario()).is_none());
//! ```

use alertstorm_model::event::Component;
use alertstorm_model::scenario::Scenario;
use alertstorm_model::scenario::knobs::Positive;

/// A knob with its current value and the value to try, for
/// [`alertstorm_model::scenario::Plan::with_knob`].
#[derive(Clone, Debug)]
pub struct Knob {
    /// Path in the scenario, such as `controller.concurrency`.
    pub path: &'static str,
    /// Current value, as a scenario writes it.
    pub from: String,
    /// Value to try, as a scenario writes it: twice the current one for most knobs.
    pub to: String,
}

impl Knob {
    /// The last segment of the path.
    pub fn name(&self) -> &'static str {
        self.path.rsplit('.').next().unwrap_or(self.path)
    }
}

/// The knob that gives a component more capacity. `None` if no knob does, or if the scenario leaves
/// the component out (a cost budget).
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
        // Its sync times are those of etcd's disk: `vault.storage` chooses the kind alone.
        | Component::VaultStorage
        | Component::VaultDown
        | Component::Unexplained
        | Component::AgentWork => return None,
    })
}

fn doubled(path: &'static str, from: std::num::NonZeroU32) -> Knob {
    let to = from.saturating_mul(std::num::NonZeroU32::MIN.saturating_add(1));
    Knob { path, from: from.to_string(), to: to.to_string() }
}

fn scaled(path: &'static str, Positive(from): Positive, by: f64) -> Knob {
    Knob { path, from: from.to_string(), to: (from * by).to_string() }
}
