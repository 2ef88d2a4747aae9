//! The investigation controller's requests to the API server: Jobs and, with one identity per
//! investigation, ServiceAccounts and RoleBindings.

use std::sync::Arc;

use alertstorm_agent::Task;
use alertstorm_agent::names::{Names, RUN_LABEL, role};
use alertstorm_model::alert::Alert;
use alertstorm_model::controller::job::{self, JobTemplate};
use alertstorm_model::event::Fact;
use alertstorm_model::investigation::{IdentityKind, InvestigationId};
use alertstorm_model::scenario::{Part, Plan};
use alertstorm_platform::bootstrap::own_binding;
use alertstorm_platform::call;
use alertstorm_platform::connection::Caller;
use alertstorm_platform::identity;
use alertstorm_platform::objects::collection;
use alertstorm_platform::provider::images;
use alertstorm_platform::{Agents, PodSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PropagationPolicy};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::Semaphore;

use crate::reporter::{Observation, Reporter};
use crate::seen::{AGENT_CONTAINER, SeenJob};
use crate::throttle::Throttle;

/// How long a request is retried. The controller then receives the failure and retries by itself.
const PATIENCE: Duration = Duration::from_secs(20);

/// The image's name in hollow pods, where no container runs.
const HOLLOW_IMAGE: &str = "alertstorm/agent";

/// The controller's client: a number of connections and a token bucket.
pub struct Jobs {
    plan: Arc<Plan>,
    names: Names,
    backend: Caller,
    agents: Agents,
    reporter: Reporter,
    connections: Semaphore,
    bucket: Option<Throttle>,
    part: Part,
}

/// The label of a shard's objects; its value is the shard's index.
const SHARD: &str = "alertstorm.dev/shard";

/// The Job as JSON.
fn object(template: &JobTemplate, image: &str, env: &Value) -> Value {
    let seconds = |span: alertstorm_model::time::Span| span.0.div_ceil(1_000_000_000);
    let labels: serde_json::Map<String, Value> =
        template.labels.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
    let token = |path: &str, audience: Option<&str>| json!({"serviceAccountToken": {"path": path, "audience": audience, "expirationSeconds": 3607}});
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": template.name, "labels": labels},
        "spec": {
            "backoffLimit": template.backoff_limit,
            "activeDeadlineSeconds": seconds(template.active_deadline),
            "ttlSecondsAfterFinished": seconds(template.ttl_after_finished),
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "restartPolicy": "Never",
                    "serviceAccountName": template.service_account,
                    "automountServiceAccountToken": false,
                    "enableServiceLinks": false,
                    "securityContext": {
                        "runAsNonRoot": true,
                        "runAsUser": 65532,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [{
                        "name": AGENT_CONTAINER,
                        "image": image,
                        "imagePullPolicy": images::pull_policy(image),
                        "env": env,
                        "securityContext": {
                            "allowPrivilegeEscalation": false,
                            "readOnlyRootFilesystem": true,
                            "capabilities": {"drop": ["ALL"]},
                        },
                        "resources": {
                            "requests": {
                                "cpu": format!("{}m", template.cpu_request_millis),
                                "memory": template.memory_request.0.to_string(),
                            },
                            "limits": {"memory": template.memory_limit.0.to_string()},
                        },
                        "volumeMounts": [{
                            "name": "tokens", "mountPath": "/var/run/tokens", "readOnly": true,
                        }],
                    }],
                    "volumes": [{"name": "tokens", "projected": {"sources": [
                        token("vault", Some(template.token_audience)),
                        token("kubernetes", None),
                        {"configMap": {
                            "name": "kube-root-ca.crt",
                            "items": [{"key": "ca.crt", "path": "ca.crt"}],
                        }},
                    ]}}],
                },
            },
        },
    })
}

/// 409 counts as success: an earlier attempt created the object, and its response was lost.
fn created(done: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match done {
        Err(error) if !call::is_conflict(&error) => Err(error),
        _ => Ok(()),
    }
}

impl Jobs {
    /// A client for the controller of `plan`; in a shard for its part only.
    pub fn new(
        plan: Arc<Plan>,
        names: Names,
        backend: Caller,
        agents: Agents,
        reporter: Reporter,
        part: Part,
    ) -> Arc<Self> {
        let knobs = &plan.scenario().controller.client;
        let connections = Semaphore::new(knobs.connections.get() as usize);
        let bucket = knobs.kube_api_qps.map(|qps| Throttle::new(qps.0, knobs.kube_api_burst.get()));
        Arc::new(Self { names, backend, agents, reporter, connections, bucket, plan, part })
    }

    /// The label selector of the run's objects, or of the shard's.
    pub fn selector(&self) -> String {
        let Some(first) = self.plan.alerts().next() else { return String::new() };
        let template = self.template(&first);
        let narrow = ["alertstorm.dev/plan", SHARD];
        let own = template.labels.iter().filter(|(name, _)| narrow.contains(name));
        let own: Vec<String> = own.map(|(name, value)| format!("{name}={value}")).collect();
        own.join(",")
    }

    fn template(&self, alert: &Alert) -> JobTemplate {
        let mut template = job::template(&self.plan, alert);
        template.labels.push((RUN_LABEL, self.names.id().to_string()));
        if self.part.of().get() > 1 {
            template.labels.push((SHARD, self.part.index().to_string()));
        }
        template
    }

    /// Waits for a token of the client's bucket.
    async fn take_token(&self) {
        if let Some(bucket) = &self.bucket {
            bucket.take().await;
        }
    }

    /// Creates an alert's Job and, before it, the investigation's identity if it has its own.
    pub async fn create(self: Arc<Self>, alert: Alert) {
        let Ok(_connection) = self.connections.acquire().await else {
            return;
        };
        self.reporter.fact(alert.id, Fact::JobSent);
        // Boxed, so that the thousands that wait for a connection do not have room for a request.
        let created = Box::pin(self.try_create(&alert)).await;
        if let Err(error) = &created {
            let text =
                format!("failed to create the Job of {}: {}", alert.id, call::describe(error));
            self.reporter.send(Observation::Remark(text));
        }
        let (id, at) = (alert.id, self.reporter.now());
        self.reporter.send(Observation::JobAnswered { id, at, created: created.is_ok() });
    }

    async fn try_create(&self, alert: &Alert) -> Result<(), kube::Error> {
        let template = self.template(alert);
        let job = match &self.agents {
            Agents::Hollow(_) => object(&template, HOLLOW_IMAGE, &json!([])),
            Agents::Pods(spec) => object(&template, &spec.image, &self.environment(alert, spec)?),
        };
        if self.plan.scenario().identity == IdentityKind::PerInvestigation {
            self.create_identity(alert, &template, &job["metadata"]["labels"]).await?;
        }
        self.create_object("Job", &job).await
    }

    async fn create_object(&self, kind: &str, object: &Value) -> Result<(), kube::Error> {
        let path = collection(kind, self.names.namespace());
        let create = || async {
            self.take_token().await;
            created(self.backend.create(&path, object).await)
        };
        call::patiently(PATIENCE, create).await
    }

    /// The environment variables of an agent's container.
    fn environment(&self, alert: &Alert, spec: &PodSpec) -> Result<Value, kube::Error> {
        let task = Task::new(&self.plan, alert, &self.names);
        let task = serde_json::to_string(&task).map_err(kube::Error::SerdeError)?;
        let places = json!({
            "vault": spec.vault, "vault_ca": spec.vault_ca,
            "vault_namespace": spec.vault_namespace, "postgres": spec.postgres,
        });
        Ok(json!([
            {"name": "ALERTSTORM_TASK", "value": task},
            {"name": "ALERTSTORM_PLACES", "value": places.to_string()},
        ]))
    }

    async fn create_identity(
        &self,
        alert: &Alert,
        template: &JobTemplate,
        labels: &Value,
    ) -> Result<(), kube::Error> {
        let name = &template.service_account;
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": name, "labels": labels},
            "automountServiceAccountToken": false,
        });
        let role = role(self.plan.scenario().phase, alert.domain);
        self.create_object("ServiceAccount", &account).await?;
        let binding = own_binding(name, &role, labels, &self.names);
        self.create_object("RoleBinding", &binding).await
    }

    /// Deletes the identity of a finished investigation, if it has its own.
    pub async fn end_identity(self: Arc<Self>, alert: Alert) {
        if self.plan.scenario().identity != IdentityKind::PerInvestigation {
            return;
        }
        let name = job::template(&self.plan, &alert).service_account;
        let accounts: Api<ServiceAccount> = Api::default_namespaced(self.backend.client().clone());
        let bindings: Api<RoleBinding> = Api::default_namespaced(self.backend.client().clone());
        let params = DeleteParams::default();
        let binding = call::patiently(PATIENCE, || async {
            self.take_token().await;
            call::deleted(bindings.delete(&name, &params).await)
        });
        let binding = binding.await;
        let account = call::patiently(PATIENCE, || async {
            self.take_token().await;
            call::deleted(accounts.delete(&name, &params).await)
        });
        if let Err(error) = binding.and(account.await) {
            let text = format!(
                "failed to delete the identity of {}: {}",
                alert.id,
                call::describe(&error)
            );
            self.reporter.send(Observation::Remark(text));
        }
    }

    /// Deletes the Job of an investigation.
    pub async fn delete(self: Arc<Self>, alert: Alert) {
        let name = job::template(&self.plan, &alert).name;
        let api: Api<SeenJob> = Api::default_namespaced(self.backend.client().clone());
        let params = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        let done = call::patiently(PATIENCE, || async {
            self.take_token().await;
            api.delete(&name, &params).await
        });
        match done.await {
            Err(error) if !call::is_gone(&error) => {
                let text = format!("failed to delete the Job {name}: {}", call::describe(&error));
                self.reporter.send(Observation::Remark(text));
            }
            _ => {}
        }
    }

    /// Lists the Jobs of a selector for a controller that starts: true if the Job is finished.
    pub async fn list(&self, selector: &str) -> Result<Vec<(InvestigationId, bool)>, kube::Error> {
        let api: Api<SeenJob> = Api::default_namespaced(self.backend.client().clone());
        let params = ListParams::default().labels(selector);
        let jobs = call::patiently(PATIENCE, || async { api.list(&params).await }).await?;
        let found = jobs.items.iter().filter_map(|job| {
            let name = job.metadata.name.as_deref()?;
            let id = identity::investigation_of(name)?;
            Some((id, job.finished.is_some()))
        });
        Ok(found.collect())
    }
}
