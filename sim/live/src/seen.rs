//! What the harness reads of Jobs and pods. An object has a hundred fields, and most of its bytes are
//! `managedFields`; what nobody reads is skipped while the JSON is parsed.

use std::borrow::Cow;
use std::net::Ipv4Addr;

use alertstorm_model::investigation::Domain;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::ContainerState;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Resource;
use serde::Deserialize;

use crate::reporter::Finished;

/// The name of the agent's container. A pod may have others, which an admission webhook added.
pub const AGENT_CONTAINER: &str = "agent";

/// A Job.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "RawJob")]
pub struct SeenJob {
    /// Name, uid, resource version, and the times of creation and deletion.
    pub metadata: ObjectMeta,
    /// How it finished, by its conditions; `None` while it is not finished.
    pub finished: Option<Finished>,
}

/// A pod of the run.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "RawPod")]
pub struct SeenPod {
    /// Name, namespace, uid, resource version, and the times of creation and deletion.
    pub metadata: ObjectMeta,
    /// From its label; `None` if it has none, or not one of the run's.
    pub domain: Option<Domain>,
    /// `spec.nodeName`: its node, once it is scheduled.
    pub node: Option<String>,
    /// `spec.serviceAccountName`.
    pub account: Option<String>,
    /// `status.phase`.
    pub phase: Option<String>,
    /// `status.reason`: why it was evicted.
    pub reason: Option<String>,
    /// `status.podIP`.
    pub ip: Option<Ipv4Addr>,
    /// The state of the agent's container.
    pub container: Option<ContainerState>,
}

impl SeenPod {
    /// Whether the agent's container is running or has run. The phase is `Running` as soon as any
    /// container is, so it counts only where the state of the agent's is not known.
    pub fn has_run(&self) -> bool {
        match &self.container {
            Some(state) => {
                state.running.is_some()
                    || state.terminated.as_ref().is_some_and(|end| end.started_at.is_some())
            }
            None => self.phase.as_deref() == Some("Running"),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawMeta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    labels: RawLabels,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawLabels {
    #[serde(rename = "alertstorm.dev/domain")]
    domain: Option<String>,
}

impl RawMeta {
    fn into_meta(self) -> ObjectMeta {
        ObjectMeta {
            name: self.name,
            namespace: self.namespace,
            uid: self.uid,
            resource_version: self.resource_version,
            creation_timestamp: self.creation_timestamp,
            deletion_timestamp: self.deletion_timestamp,
            ..ObjectMeta::default()
        }
    }
}

#[derive(Deserialize)]
struct RawJob {
    metadata: RawMeta,
    #[serde(default)]
    status: RawJobStatus,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawJobStatus {
    conditions: Vec<RawCondition>,
}

#[derive(Deserialize)]
struct RawCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    #[serde(default)]
    reason: Option<String>,
}

impl From<RawJob> for SeenJob {
    fn from(raw: RawJob) -> Self {
        let finished = finished(&raw.status.conditions);
        Self { metadata: raw.metadata.into_meta(), finished }
    }
}

fn finished(conditions: &[RawCondition]) -> Option<Finished> {
    let of = |kind: &str| conditions.iter().find(|c| c.kind == kind && c.status == "True");
    if of("Complete").is_some() {
        return Some(Finished::Complete);
    }
    let failed = of("Failed")?;
    Some(match failed.reason.as_deref() {
        Some("DeadlineExceeded") => Finished::DeadlineExceeded,
        _ => Finished::Failed,
    })
}

#[derive(Deserialize)]
struct RawPod {
    metadata: RawMeta,
    #[serde(default)]
    spec: RawSpec,
    #[serde(default)]
    status: RawPodStatus,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawSpec {
    node_name: Option<String>,
    service_account_name: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawPodStatus {
    phase: Option<String>,
    reason: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    container_statuses: Vec<RawContainer>,
}

#[derive(Deserialize)]
struct RawContainer {
    #[serde(default)]
    name: String,
    #[serde(default)]
    state: Option<ContainerState>,
}

impl From<RawPod> for SeenPod {
    fn from(raw: RawPod) -> Self {
        let RawPod { metadata, spec, status } = raw;
        Self {
            domain: metadata.labels.domain.as_deref().and_then(|name| name.parse().ok()),
            metadata: metadata.into_meta(),
            node: spec.node_name,
            account: spec.service_account_name,
            phase: status.phase,
            reason: status.reason,
            ip: status.pod_ip.and_then(|ip| ip.parse().ok()),
            container: status
                .container_statuses
                .into_iter()
                .find(|container| container.name == AGENT_CONTAINER)
                .and_then(|agent| agent.state),
        }
    }
}

/// Names a type as a kind of the API server, for kube's lists and watches.
macro_rules! is_resource {
    ($type:ty, $group:literal, $kind:literal, $plural:literal) => {
        impl Resource for $type {
            type DynamicType = ();
            type Scope = NamespaceResourceScope;

            fn kind((): &()) -> Cow<'_, str> {
                $kind.into()
            }

            fn group((): &()) -> Cow<'_, str> {
                $group.into()
            }

            fn version((): &()) -> Cow<'_, str> {
                "v1".into()
            }

            fn plural((): &()) -> Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

is_resource!(SeenJob, "batch", "Job", "jobs");
is_resource!(SeenPod, "", "Pod", "pods");

#[cfg(test)]
mod tests {
    use k8s_openapi::api::batch::v1::Job;
    use k8s_openapi::api::core::v1::Pod;
    use kube::ResourceExt;
    use kube::core::WatchEvent;
    use serde_json::{Value, json};

    use super::*;

    /// What a managed object has beside the fields that are read.
    fn metadata() -> Value {
        json!({
            "name": "inv-0000012-0123abcd-x7k2p", "namespace": "alertstorm-a1", "uid": "u-1",
            "resourceVersion": "77", "generation": 3, "creationTimestamp": "2026-01-01T00:00:00Z",
            "deletionTimestamp": "2026-01-01T00:01:00Z", "deletionGracePeriodSeconds": 30,
            "labels": {"alertstorm.dev/domain": "database", "a": "b"}, "finalizers": ["c"],
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "d", "uid": "e"}],
            "managedFields": [{"manager": "f", "operation": "Update", "apiVersion": "v1",
                "fieldsType": "FieldsV1", "fieldsV1": {"f:status": {"f:phase": {}, "k:{\"g\":1}": {".": {}}}}}],
        })
    }

    fn pod() -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": metadata(),
            "spec": {"nodeName": "node-0003", "serviceAccountName": "agent-shadow-database",
                     "containers": [{"name": "agent", "image": "h", "env": [{"name": "i", "value": "\"}"}]}]},
            "status": {
                "phase": "Failed", "podIP": "127.64.0.9", "podIPs": [{"ip": "127.64.0.9"}],
                "reason": "Evicted", "conditions": [{"type": "Ready", "status": "False"}],
                "containerStatuses": [{
                    "name": "agent", "image": "h", "imageID": "", "ready": false, "restartCount": 0,
                    "state": {"terminated": {"exitCode": 1, "reason": "Error", "message": "{}",
                              "startedAt": "2026-01-01T00:00:03Z", "finishedAt": "2026-01-01T00:00:09Z"}},
                }],
            },
        })
    }

    #[test]
    fn a_pod_is_read_as_the_whole_type_reads_it() {
        let seen: SeenPod = serde_json::from_value(pod()).unwrap();
        let whole: Pod = serde_json::from_value(pod()).unwrap();
        assert_eq!(seen.name_any(), whole.name_any());
        assert_eq!((seen.namespace(), seen.uid()), (whole.namespace(), whole.uid()));
        assert_eq!(seen.resource_version(), whole.resource_version());
        assert_eq!(seen.creation_timestamp(), whole.creation_timestamp());
        assert_eq!(seen.metadata.deletion_timestamp, whole.metadata.deletion_timestamp);
        assert_eq!(seen.domain, Some(Domain::Database));
        let (spec, status) = (whole.spec.unwrap(), whole.status.unwrap());
        assert_eq!(
            (seen.node.clone(), seen.account.clone()),
            (spec.node_name, spec.service_account_name)
        );
        assert_eq!((seen.phase.clone(), seen.reason.clone()), (status.phase, status.reason));
        assert_eq!(seen.ip, status.pod_ip.and_then(|ip| ip.parse().ok()));
        assert_eq!(seen.container, status.container_statuses.unwrap().remove(0).state);
        assert!(seen.has_run());
    }

    #[test]
    fn the_state_of_the_agents_container_is_read_wherever_it_stands() {
        let mut pod = pod();
        pod["status"]["phase"] = json!("Running");
        let agent = pod["status"]["containerStatuses"][0].clone();
        let sidecar = json!({"name": "proxy", "state": {"running": {"startedAt": null}}});
        pod["status"]["containerStatuses"] = json!([sidecar, agent]);
        let seen: SeenPod = serde_json::from_value(pod.clone()).unwrap();
        assert_eq!(seen.container.unwrap().terminated.unwrap().exit_code, 1);
        // The sidecar runs, and the agent's image is being pulled.
        pod["status"]["containerStatuses"][1]["state"] =
            json!({"waiting": {"reason": "ContainerCreating"}});
        let seen: SeenPod = serde_json::from_value(pod.clone()).unwrap();
        assert!(!seen.has_run());
        pod["status"]["containerStatuses"] = json!([sidecar]);
        let seen: SeenPod = serde_json::from_value(pod).unwrap();
        assert_eq!(seen.container, None);
    }

    #[test]
    fn a_pod_without_status_or_node_has_not_run() {
        let bare = json!({"metadata": {"name": "a"}, "spec": {"containers": []}});
        let seen: SeenPod = serde_json::from_value(bare).unwrap();
        assert!(!seen.has_run());
        assert_eq!((seen.domain, seen.node, seen.phase), (None, None, None));
    }

    #[test]
    fn a_job_is_finished_by_its_conditions() {
        let job = |conditions: Value| json!({"metadata": metadata(), "status": {"active": 1, "conditions": conditions}});
        let finished = |conditions: Value| {
            let whole: Job = serde_json::from_value(job(conditions.clone())).unwrap();
            let seen: SeenJob = serde_json::from_value(job(conditions)).unwrap();
            assert_eq!(seen.name_any(), whole.name_any());
            seen.finished
        };
        let condition = |kind: &str, status: &str, reason: &str| json!({"type": kind, "status": status, "reason": reason});
        assert_eq!(finished(json!([])), None);
        assert_eq!(finished(json!([condition("Complete", "False", "")])), None);
        let before = condition("SuccessCriteriaMet", "True", "CompletionsReached");
        assert_eq!(finished(json!([before])), None);
        let complete = json!([before, condition("Complete", "True", "CompletionsReached")]);
        assert_eq!(finished(complete), Some(Finished::Complete));
        let failed = |reason| finished(json!([condition("Failed", "True", reason)]));
        assert_eq!(failed("DeadlineExceeded"), Some(Finished::DeadlineExceeded));
        assert_eq!(failed("BackoffLimitExceeded"), Some(Finished::Failed));
    }

    #[test]
    fn events_of_a_watch_are_read() {
        let line = json!({"type": "MODIFIED", "object": pod()}).to_string();
        let event: WatchEvent<SeenPod> = serde_json::from_str(&line).unwrap();
        assert!(
            matches!(event, WatchEvent::Modified(pod) if pod.node.as_deref() == Some("node-0003"))
        );
        let bookmark = r#"{"type":"BOOKMARK","object":{"kind":"Pod","apiVersion":"v1","metadata":{"resourceVersion":"9"}}}"#;
        let event: WatchEvent<SeenPod> = serde_json::from_str(bookmark).unwrap();
        assert!(matches!(event, WatchEvent::Bookmark(_)));
    }
}
