//! Watches of Jobs and pods. `kube::runtime` resumes a watch from the last resource version and
//! bookmarks, and lists again after 410 Gone; objects that a new list lacks are reported as
//! deleted.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use alertstorm_model::investigation::InvestigationId;
use alertstorm_platform::identity::investigation_of;
use futures::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::reporter::{Observation, Reporter, WatchEvent};
use crate::seen::{SeenJob, SeenPod};

/// Pauses before a failed watch is retried: 50 ms, doubled up to 1 s. They are short, because a
/// watch that is late adds to every latency of the run.
struct Pauses(Duration);

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = self.0;
        self.0 = (self.0 * 2).min(Duration::from_secs(1));
        Some(pause)
    }
}

impl Backoff for Pauses {
    fn reset(&mut self) {
        self.0 = Duration::from_millis(50);
    }
}

fn pod_event(id: InvestigationId, pod: &SeenPod) -> WatchEvent {
    WatchEvent::Pod { id, scheduled: pod.node.is_some(), has_run: pod.has_run() }
}

/// Watches the Jobs of a run until it is aborted.
pub async fn jobs(client: Client, namespace: String, selector: String, reporter: Reporter) {
    let api: Api<SeenJob> = Api::namespaced(client, &namespace);
    let mut known: BTreeMap<String, InvestigationId> = BTreeMap::new();
    let mut listed: BTreeMap<String, InvestigationId> = BTreeMap::new();
    let mut stream = pin!(follow(api, &selector));
    while let Some(event) = stream.next().await {
        let at = reporter.now();
        let send = |event: WatchEvent| reporter.send(Observation::Watch { event, at });
        match event {
            Ok(Event::Apply(job)) => {
                let Some(id) = investigation_of(&job.name_any()) else { continue };
                known.insert(job.name_any(), id);
                send(WatchEvent::Job { id, finished: job.finished });
            }
            Ok(Event::InitApply(job)) => {
                let Some(id) = investigation_of(&job.name_any()) else { continue };
                listed.insert(job.name_any(), id);
                send(WatchEvent::Job { id, finished: job.finished });
            }
            Ok(Event::Delete(job)) => {
                if let Some(id) = known.remove(&job.name_any()) {
                    send(WatchEvent::Job { id, finished: job.finished });
                    send(WatchEvent::JobDeleted(id));
                }
            }
            Ok(Event::Init) => {
                tracing::debug!("the watch of Jobs begins with a list");
                listed.clear();
            }
            Ok(Event::InitDone) => {
                tracing::debug!(listed = listed.len(), "the watch of Jobs is established");
                // These were deleted while the watch was down.
                for (name, id) in &known {
                    if !listed.contains_key(name) {
                        send(WatchEvent::JobDeleted(*id));
                    }
                }
                known = std::mem::take(&mut listed);
            }
            // The stream retries.
            Err(error) => reporter.failed("the watch of Jobs", &error),
        }
    }
}

/// Watches the pods of a run until it is aborted; `also` receives every change.
pub async fn pods(
    client: Client,
    namespace: String,
    selector: String,
    reporter: Reporter,
    also: impl Fn(PodChange) + Send,
) {
    let api: Api<SeenPod> = Api::namespaced(client, &namespace);
    let mut stream = pin!(follow(api, &selector));
    while let Some(event) = stream.next().await {
        let at = reporter.now();
        match event {
            Ok(Event::Apply(pod) | Event::InitApply(pod)) => {
                if let Some(id) = investigation_of(&pod.name_any()) {
                    reporter.send(Observation::Watch { event: pod_event(id, &pod), at });
                }
                also(PodChange::Is(Box::new(pod)));
            }
            Ok(Event::Delete(pod)) => also(PodChange::Gone(Box::new(pod))),
            Ok(Event::Init) => tracing::debug!("the watch of pods begins with a list"),
            Ok(Event::InitDone) => tracing::debug!("the watch of pods is established"),
            Err(error) => reporter.failed("the watch of pods", &error),
        }
    }
}

/// An event of a watch of pods.
#[derive(Clone, Debug)]
pub enum PodChange {
    /// Created or changed; its current state.
    Is(Box<SeenPod>),
    /// Deleted; its last state.
    Gone(Box<SeenPod>),
    /// The names of all pods: the watch was started anew, and pods without an entry were deleted.
    All(Vec<String>),
}

/// Watches the pods bound to one node until it is aborted. If the queue of changes is full, it is
/// counted, and the watch waits: the unread events count against its own connection only.
pub async fn pods_of_node(
    client: Client,
    namespace: String,
    node: String,
    reporter: Reporter,
    changes: mpsc::Sender<PodChange>,
) {
    let send = async |change| match changes.try_send(change) {
        Err(TrySendError::Full(change)) => {
            reporter.failed("the queue of a node's pods was full, which", &"it was full");
            // The kubelet has ended if nobody receives.
            let _ = changes.send(change).await;
        }
        Ok(()) | Err(TrySendError::Closed(_)) => {}
    };
    let api: Api<SeenPod> = Api::namespaced(client, &namespace);
    let config = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
    let mut stream = pin!(watcher(api, config).backoff(Pauses(Duration::from_millis(50))));
    let mut listed = Vec::new();
    while let Some(event) = stream.next().await {
        match event {
            Ok(Event::Apply(pod)) => send(PodChange::Is(Box::new(pod))).await,
            Ok(Event::InitApply(pod)) => {
                listed.push(pod.name_any());
                send(PodChange::Is(Box::new(pod))).await;
            }
            Ok(Event::Delete(pod)) => send(PodChange::Gone(Box::new(pod))).await,
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitDone) => {
                tracing::debug!(node, listed = listed.len(), "a node's watch is established");
                send(PodChange::All(std::mem::take(&mut listed))).await;
            }
            Err(error) => reporter.failed("a node's watch of its pods", &error),
        }
    }
}

fn follow<K>(
    api: Api<K>,
    selector: &str,
) -> impl futures::Stream<Item = Result<Event<K>, watcher::Error>> + use<K>
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let config = watcher::Config::default().labels(selector);
    watcher(api, config).backoff(Pauses(Duration::from_millis(50)))
}
