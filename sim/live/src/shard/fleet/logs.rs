//! Follows the logs of shards' pods. After a lost connection a log is read again from its
//! beginning: lines that were read before are dropped, and missing lines are reported.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::{AsyncBufReadExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams};
use kube::{Api, Client, ResourceExt};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::super::manifests::LABEL;
use super::super::wire::{Line, ShardMessage};

/// The period of listing pods.
const LIST_EVERY: Duration = Duration::from_millis(250);
/// The label with the index of an Indexed Job's pod.
const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// An event of the log of a shard's pod.
#[derive(Debug)]
pub enum PodLogEvent {
    /// A message.
    Line {
        /// The pod's name.
        pod: String,
        /// The shard's index.
        shard: u32,
        /// The message.
        message: ShardMessage,
    },
    /// Lines are missing.
    Lost {
        /// The pod's name.
        pod: String,
        /// Their number.
        lines: u64,
    },
    /// The pod has ended, and its whole log was read.
    End {
        /// The pod's name.
        pod: String,
        /// The shard's index.
        shard: u32,
    },
}

fn shard_of(pod: &Pod) -> Option<u32> {
    pod.labels().get(INDEX)?.parse().ok()
}

/// Whether a pod's container has started, so that there is a log.
fn has_started(pod: &Pod) -> bool {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let state = statuses.and_then(|all| all.first()).and_then(|status| status.state.as_ref());
    state.is_some_and(|state| state.running.is_some() || state.terminated.is_some())
}

fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Follows the log of every pod of the fleet until it is aborted.
pub async fn follow(client: Client, events: UnboundedSender<PodLogEvent>) {
    let api: Api<Pod> = Api::default_namespaced(client);
    let params = ListParams::default().labels(LABEL);
    let mut known = BTreeSet::new();
    let mut readers = JoinSet::new();
    loop {
        let listed = api.list(&params).await;
        let listed =
            listed.inspect_err(|error| tracing::warn!(%error, "failed to list the shards' pods"));
        for pod in listed.into_iter().flat_map(|list| list.items) {
            if let Some(shard) = shard_of(&pod).filter(|_| has_started(&pod))
                && known.insert(pod.name_any())
            {
                readers.spawn(read(api.clone(), pod.name_any(), shard, events.clone()));
            }
        }
        sleep(LIST_EVERY).await;
    }
}

/// Reads the log of one pod to its end.
async fn read(api: Api<Pod>, pod: String, shard: u32, events: UnboundedSender<PodLogEvent>) {
    let mut next = 0;
    let mut last_time = false;
    loop {
        let params = LogParams { follow: !last_time, ..LogParams::default() };
        let opened = api.log_stream(&pod, &params).await;
        let opened = opened
            .inspect_err(|error| tracing::warn!(%error, pod, "could not open the shard's log"));
        if let Ok(log) = opened {
            tracing::debug!(shard, pod, "reading the shard's log");
            let mut lines = log.lines();
            loop {
                let text = match lines.try_next().await {
                    Ok(Some(text)) => text,
                    Ok(None) => break,
                    Err(error) => {
                        tracing::warn!(%error, pod, "the shard's log was cut off");
                        break;
                    }
                };
                // A line may be cut off by a lost connection, or be the output of a panic.
                let Ok(Line { n, message }) = serde_json::from_str(&text) else { continue };
                if n < next {
                    continue;
                }
                if n > next {
                    tracing::warn!(pod, lines = n - next, "lines of the shard's log are lost");
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
        // If the pod has ended, the log is read once more, completely. Else the connection was
        // lost.
        match api.get_opt(&pod).await {
            Ok(Some(pod)) => last_time = has_ended(&pod),
            Ok(None) => last_time = true,
            Err(error) => {
                tracing::warn!(%error, shard, "failed to read the state of the shard's pod")
            }
        }
        sleep(LIST_EVERY).await;
    }
}
