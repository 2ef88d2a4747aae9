//! Watches of Jobs and pods. `kube::runtime` resumes a watch from the last resource version and
//! bookmarks, and lists again after 410 Gone; objects that a new list lacks are reported as
//! deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use alertstorm_model::investigation::InvestigationId;
use alertstorm_platform::identity::investigation_of;
use futures::{Stream, StreamExt};
use kube::api::ListParams;
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
    let failing = reporter.clone();
    let failed = move |error: &watcher::Error| failing.failed("the watch of pods", error);
    let mut changes = pin!(changes_of(follow(api, &selector), failed));
    while let Some(change) = changes.next().await {
        let at = reporter.now();
        if let PodChange::Is(pod) = &change
            && let Some(id) = investigation_of(&pod.name_any())
        {
            reporter.send(Observation::Watch { event: pod_event(id, pod), at });
        }
        also(change);
    }
}

/// The changes that a watch of pods reports. After a list follow the names of all pods in it.
fn changes_of<E>(
    events: impl Stream<Item = Result<Event<SeenPod>, E>>,
    failed: impl Fn(&E),
) -> impl Stream<Item = PodChange> {
    let mut listed = BTreeSet::new();
    events.filter_map(move |event| {
        let change = event.inspect_err(&failed).ok().and_then(|event| match event {
            Event::Apply(pod) => Some(PodChange::Is(Box::new(pod))),
            Event::InitApply(pod) => {
                listed.insert(pod.name_any());
                Some(PodChange::Is(Box::new(pod)))
            }
            Event::Delete(pod) => Some(PodChange::Gone(Box::new(pod))),
            Event::Init => {
                tracing::debug!("a watch of pods begins with a list");
                listed.clear();
                None
            }
            Event::InitDone => {
                tracing::debug!(listed = listed.len(), "a watch of pods is established");
                Some(PodChange::All(Arc::new(std::mem::take(&mut listed))))
            }
        });
        std::future::ready(change)
    })
}

/// An event of a watch of pods.
#[derive(Clone, Debug)]
pub enum PodChange {
    /// Created or changed; its current state.
    Is(Box<SeenPod>),
    /// Deleted; its last state.
    Gone(Box<SeenPod>),
    /// The names of all pods: the watch was started anew, and pods without an entry were deleted. A
    /// watch that nodes share names the pods of all of them.
    All(Arc<BTreeSet<String>>),
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
    let events = watcher(api, config).backoff(Pauses(Duration::from_millis(50)));
    let failed = |error: &watcher::Error| reporter.failed("a node's watch of its pods", error);
    let mut of_node = pin!(changes_of(events, failed));
    while let Some(change) = of_node.next().await {
        send(change).await;
    }
}

/// The pods that are bound to a node now, as changes.
///
/// # Errors
/// If they cannot be listed.
pub async fn bound_to(
    client: &Client,
    namespace: &str,
    node: &str,
) -> Result<Vec<PodChange>, kube::Error> {
    let api: Api<SeenPod> = Api::namespaced(client.clone(), namespace);
    let params = ListParams::default().fields(&format!("spec.nodeName={node}"));
    let listed = api.list(&params).await?.items;
    let names = listed.iter().map(ResourceExt::name_any).collect();
    let changes = listed.into_iter().map(|pod| PodChange::Is(Box::new(pod)));
    Ok(changes.chain([PodChange::All(Arc::new(names))]).collect())
}

fn follow<K>(
    api: Api<K>,
    selector: &str,
) -> impl Stream<Item = Result<Event<K>, watcher::Error>> + use<K>
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let config = watcher::Config::default().labels(selector);
    watcher(api, config).backoff(Pauses(Duration::from_millis(50)))
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    fn pod(name: &str) -> SeenPod {
        let mut pod = SeenPod::default();
        pod.metadata.name = Some(name.to_owned());
        pod
    }

    fn named(change: PodChange) -> String {
        match change {
            PodChange::Is(pod) => pod.name_any(),
            PodChange::Gone(pod) => format!("no {}", pod.name_any()),
            PodChange::All(names) => {
                format!("all: {}", names.iter().cloned().collect::<Vec<_>>().join(" "))
            }
        }
    }

    #[tokio::test]
    async fn a_node_whose_power_comes_back_lists_its_pods() {
        let service = tower::service_fn(|request: http::Request<kube::client::Body>| async move {
            let query = request.uri().query().unwrap_or_default();
            assert!(query.contains("fieldSelector=spec.nodeName%3Dnode-7"), "{query}");
            let list =
                r#"{"metadata":{},"items":[{"metadata":{"name":"a"}},{"metadata":{"name":"b"}}]}"#;
            let body = kube::client::Body::from(list.as_bytes().to_vec());
            Ok::<_, std::io::Error>(http::Response::new(body))
        });
        let client = Client::new(service, "a");
        let changes = bound_to(&client, "a", "node-7").await.unwrap();
        assert_eq!(changes.into_iter().map(named).collect::<Vec<_>>(), ["a", "b", "all: a b"]);
    }

    #[tokio::test]
    async fn a_list_is_followed_by_the_names_of_all_its_pods() {
        let events = [
            Ok(Event::Init),
            Ok(Event::InitApply(pod("a"))),
            Err("410 Gone"),
            Ok(Event::Init),
            Ok(Event::InitApply(pod("b"))),
            Ok(Event::InitDone),
            Ok(Event::Apply(pod("c"))),
            Ok(Event::Init),
            Ok(Event::InitDone),
        ];
        let failures = std::cell::Cell::new(0);
        let changes = changes_of(stream::iter(events), |_: &&str| failures.set(failures.get() + 1));
        let changes: Vec<String> = changes.map(named).collect().await;
        assert_eq!(changes, ["a", "b", "all: b", "c", "all: "]);
        assert_eq!(failures.get(), 1);
    }
}
