//! The environment of an agent that a hollow kubelet runs as a task.

use std::sync::Arc;
use std::time::Duration;

use alertstorm_agent::names::application_object;
use alertstorm_agent::{Acted, AgentReport, World};
use alertstorm_model::investigation::InvestigationId;
use alertstorm_model::phase::{Refuser, Verb};
use alertstorm_model::quantity::Bytes;
use alertstorm_model::time::Time;
use alertstorm_platform::call;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::shared::Shared;

/// How long an agent retries a request to the API server.
const PATIENCE: Duration = Duration::from_secs(5);

/// The environment of one agent.
pub(super) struct Resident {
    pub shared: Arc<Shared>,
    pub id: InvestigationId,
    /// The pod's name.
    pub pod: String,
    /// The ServiceAccount token for the API server.
    pub token: String,
}

impl World for Resident {
    fn now(&self) -> Time {
        self.shared.agent_reports.reporter.now()
    }

    fn report(&self, report: AgentReport) {
        self.shared.agent_reports.receive(self.id, &self.pod, self.now(), report);
    }

    async fn on_kubernetes(&self, verb: Verb) -> Acted {
        let Ok(client) = self.shared.clients.agent(&self.pod, &self.token) else {
            tracing::warn!(pod = self.pod, "the token of the pod cannot be sent");
            return Acted::Failed;
        };
        let api: Api<ConfigMap> = Api::default_namespaced(client);
        let name = application_object(verb);
        let done = call::patiently(PATIENCE, || async {
            if verb.writes() {
                let change = json!({"data": {"changed": self.now().0.to_string()}});
                api.patch(name, &PatchParams::default(), &Patch::Merge(&change)).await.map(drop)
            } else {
                api.get(name).await.map(drop)
            }
        });
        match done.await {
            Ok(()) => Acted::Done,
            Err(error) if call::is_forbidden(&error) => Acted::Refused(Refuser::Rbac),
            Err(error) => {
                let (pod, error) = (&self.pod, call::describe(&error));
                tracing::debug!(pod, error, "an action on the API server failed");
                Acted::Failed
            }
        }
    }

    fn hold(&self, memory: Bytes) -> bool {
        memory <= self.shared.plan.scenario().controller.job.memory_limit
    }
}
