//! The last phase: deletes what the run created. It runs also if an earlier phase failed.

use std::sync::Arc;
use std::time::Duration;

use alertstorm_model::scenario::Plan;
use alertstorm_platform::call;
use alertstorm_platform::identity::node_name;
use alertstorm_platform::provider::{Progress, Provider};
use k8s_openapi::api::core::v1::Node;
use kube::api::DeleteParams;
use kube::{Api, Client};
use tokio::task::JoinSet;

use super::error::TeardownError;
use crate::shard::fleet;

/// How long requests to the API server are retried.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a run has created so far. Each phase records an object here before it creates it.
pub(super) struct Made {
    pub plan: Arc<Plan>,
    pub provider: Arc<dyn Provider>,
    /// The administrator's client, once the platform is available.
    pub admin: Option<Client>,
    /// Hollow kubelets, watches, and timers of faults.
    pub tasks: JoinSet<()>,
    /// The number of hollow nodes that may be registered.
    pub hollow_nodes: usize,
    /// Whether shards may be deployed.
    pub sharded: bool,
}

impl Made {
    /// The state before the first phase.
    pub fn new(plan: Arc<Plan>, provider: Arc<dyn Provider>) -> Self {
        let tasks = JoinSet::new();
        Self { plan, provider, admin: None, tasks, hollow_nodes: 0, sharded: false }
    }

    /// Stops all tasks and deletes everything. All steps are tried, even if one of them fails.
    pub async fn teardown(mut self, progress: Progress<'_>) -> Vec<TeardownError> {
        self.tasks.shutdown().await;
        let Some(admin) = self.admin.take() else { return Vec::new() };
        let mut failed = Vec::new();
        if self.sharded {
            progress("removing the shards");
            failed.extend(fleet::clear(&admin).await.map_err(TeardownError::Shards).err());
        }
        // The rest is in the run's namespace and mounts, which the provider deletes.
        if self.provider.is_kept() {
            progress("removing the hollow nodes from the kept platform");
            failed.extend(self.delete_nodes(admin).await.err());
        }
        for error in &failed {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            tracing::error!(%error, cause, "teardown");
        }
        failed
    }

    async fn delete_nodes(&self, admin: Client) -> Result<(), TeardownError> {
        let api: Api<Node> = Api::all(admin);
        for name in (0..self.hollow_nodes).map(node_name) {
            let params = DeleteParams::default();
            let deleted = call::patiently(PATIENCE, || async {
                call::deleted(api.delete(&name, &params).await)
            });
            deleted.await.map_err(|source| TeardownError::Node { name: name.clone(), source })?;
        }
        Ok(())
    }
}
