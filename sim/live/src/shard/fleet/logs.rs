//! Logs of shards' pods, line by line as they are written. A log that was read before, because the
//! API server was away, tells nothing twice; a line that is missing is told.

use std::collections::BTreeSet;
use std::time::Duration;

use alertstorm_platform::NAMESPACE;
use futures::{AsyncBufReadExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams};
use kube::{Api, Client, ResourceExt};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::super::manifests::LABEL;
use super::super::wire::{Line, ShardMessage};

/// How often it is looked for new pods.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The label of an Indexed Job's pods.
const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// What was heard of a shard.
#[derive(Debug)]
pub enum PodLogEvent {
    /// It said something.
    Line {
        /// Its pod.
        pod: String,
        /// Which it is.
        shard: u32,
        /// What.
        message: ShardMessage,
    },
    /// Lines are missing.
    Lost {
        /// Whose.
        pod: String,
        /// How many.
        lines: u64,
    },
    /// Its pod has ended, and all that it said was heard.
    End {
        /// Its pod.
        pod: String,
        /// Which it is.
        shard: u32,
    },
}

fn shard_of(pod: &Pod) -> Option<u32> {
    pod.labels().get(INDEX)?.parse().ok()
}

/// Whether a pod's container has begun.
fn has_begun(pod: &Pod) -> bool {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let state = statuses.and_then(|all| all.first()).and_then(|status| status.state.as_ref());
    state.is_some_and(|state| state.running.is_some() || state.terminated.is_some())
}

fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Follows the logs of every pod of the fleet until it is aborted.
pub async fn follow(client: Client, events: UnboundedSender<PodLogEvent>) {
    let api: Api<Pod> = Api::namespaced(client, NAMESPACE);
    let params = ListParams::default().labels(LABEL);
    let mut known = BTreeSet::new();
    let mut readers = JoinSet::new();
    loop {
        // An API server that is away is asked again.
        let listed = api.list(&params).await;
        let listed =
            listed.inspect_err(|error| tracing::warn!(%error, "could not list the shards"));
        for pod in listed.into_iter().flat_map(|list| list.items) {
            if let Some(shard) = shard_of(&pod).filter(|_| has_begun(&pod))
                && known.insert(pod.name_any())
            {
                readers.spawn(read(api.clone(), pod.name_any(), shard, events.clone()));
            }
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Reads one log to its end.
async fn read(api: Api<Pod>, pod: String, shard: u32, events: UnboundedSender<PodLogEvent>) {
    let mut next = 0;
    let mut last_time = false;
    loop {
        let params = LogParams { follow: !last_time, ..LogParams::default() };
        if let Ok(log) = api.log_stream(&pod, &params).await {
            let mut lines = log.lines();
            while let Ok(Some(text)) = lines.try_next().await {
                // What is cut off, or was said by a program that panics, is no line.
                let Ok(Line { n, message }) = serde_json::from_str(&text) else { continue };
                if n < next {
                    continue;
                }
                if n > next {
                    let _ = events.send(PodLogEvent::Lost { pod: pod.clone(), lines: n - next });
                }
                next = n + 1;
                let _ = events.send(PodLogEvent::Line { pod: pod.clone(), shard, message });
            }
        }
        if last_time {
            let _ = events.send(PodLogEvent::End { pod, shard });
            return;
        }
        // The log is at its end where the pod is; else the connection was.
        match api.get_opt(&pod).await {
            Ok(Some(pod)) => last_time = has_ended(&pod),
            Ok(None) => last_time = true,
            Err(error) => tracing::warn!(%error, shard, "could not look at the shard's pod"),
        }
        sleep(LOOK_EVERY).await;
    }
}
