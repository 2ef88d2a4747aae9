//! Reads the journals of agents in real pods: from the termination message, or from the pod's log
//! if the journal does not fit. Times in a journal count from the agent's start; the start is by
//! the node's clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alertstorm_agent::journal::{Entry, Journal};
use alertstorm_model::event::{Event, Fact};
use alertstorm_model::investigation::{InvestigationId, Outcome};
use alertstorm_model::time::{Span, Time};
use alertstorm_platform::call;
use alertstorm_platform::identity::investigation_of;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use kube::api::LogParams;
use kube::{Api, Client, ResourceExt};
use tokio::task::JoinSet;

use crate::agent_reports::AgentReports;
use crate::reporter::Observation;
use crate::seen::{AGENT_CONTAINER, SeenPod};
use crate::task::guarded;
use crate::watch::PodChange;

/// How long the request for a pod's log is retried.
const PATIENCE: Duration = Duration::from_secs(20);
/// A node's clock that is off by less is not corrected: a watch event itself arrives this late.
const CLOCKS_AGREE: Span = Span::millis(100);

#[derive(Default)]
struct Known {
    /// When a watch first showed the pod as scheduled; zero if its container had run by then.
    scheduled: BTreeMap<InvestigationId, Time>,
    /// Names of pods whose journals are read by this process.
    read: BTreeSet<String>,
    /// Pods that were not deleted yet and have no journal, by name.
    unended: BTreeMap<String, InvestigationId>,
    /// Investigations whose journals were read by the shard that this one replaces.
    by_predecessor: BTreeSet<InvestigationId>,
    /// Nodes with a remark about their clock.
    skewed: BTreeSet<String>,
    tasks: JoinSet<()>,
}

/// Reads the journals of pods as they end.
#[derive(Clone)]
pub struct Pods {
    agent_reports: AgentReports,
    client: Client,
    known: Arc<Mutex<Known>>,
}

/// The state of the agent's container if it has terminated.
fn ended(pod: &SeenPod) -> Option<&ContainerStateTerminated> {
    pod.container.as_ref()?.terminated.as_ref()
}

/// The container's start by its node's clock, in nanoseconds since the Unix epoch.
fn started(end: &ContainerStateTerminated) -> u64 {
    let nanos = end.started_at.as_ref().map_or(0, |time| time.0.as_nanosecond());
    u64::try_from(nanos).unwrap_or(0)
}

/// An agent's outcome: from its journal, or else from the pod's status.
fn outcome(pod: &SeenPod, end: &ContainerStateTerminated, journal: Option<&Journal>) -> Outcome {
    if end.reason.as_deref() == Some("OOMKilled") {
        return Outcome::OomKilled;
    }
    if let Some(outcome) = journal.and_then(|journal| journal.outcome) {
        return outcome;
    }
    // The kubelet restarted, as after a power loss, and does not find the container.
    if matches!(end.reason.as_deref(), Some("ContainerStatusUnknown" | "Unknown")) {
        return Outcome::Evicted;
    }
    // The agent was stopped by the pod's deletion. If the Job's deadline is over, the engine takes
    // that for the cause.
    match pod.reason.is_some() || pod.metadata.deletion_timestamp.is_some() {
        true => Outcome::Evicted,
        false => Outcome::Crashed,
    }
}

impl Pods {
    /// A reader that uses the controller's client.
    pub fn new(agent_reports: AgentReports, client: Client) -> Self {
        Self { agent_reports, client, known: Arc::default() }
    }

    /// Skips the journals of these investigations: the shard that died has read them.
    pub fn skip(&self, read: impl IntoIterator<Item = InvestigationId>) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).by_predecessor.extend(read);
    }

    /// Handles an event of the watch of pods.
    pub fn change(&self, change: &PodChange) {
        match change {
            PodChange::Is(pod) => self.changed(pod),
            PodChange::Gone(pod) => self.deleted(pod),
            PodChange::All(names) => self.left_out(names),
        }
    }

    /// Pods that a list does not contain were deleted while the watch was down. Those that it had not
    /// shown as terminated leave no journal.
    fn left_out(&self, listed: &BTreeSet<String>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let unended = std::mem::take(&mut known.unended).into_iter();
        let (listed, gone) = unended.partition(|(name, _)| listed.contains(name));
        known.unended = listed;
        let gone: BTreeMap<String, InvestigationId> = gone;
        for id in gone.into_values() {
            self.agent_reports.reporter.send(Observation::JournalRead(id));
        }
    }

    fn changed(&self, pod: &SeenPod) {
        let Some(id) = investigation_of(&pod.name_any()) else { return };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        while known.tasks.try_join_next().is_some() {}
        if pod.node.is_some() {
            let now = if pod.has_run() { Time::ZERO } else { self.agent_reports.reporter.now() };
            known.scheduled.entry(id).or_insert(now);
        }
        let unread = !known.by_predecessor.contains(&id);
        if unread && ended(pod).is_none() {
            known.unended.insert(pod.name_any(), id);
            return;
        }
        known.unended.remove(&pod.name_any());
        if unread && known.read.insert(pod.name_any()) {
            let (this, pod) = (self.clone(), pod.clone());
            let reporter = self.agent_reports.reporter.clone();
            let reading = async move { this.read(id, &pod).await };
            known.tasks.spawn(guarded("the reading of a pod's journal", reporter, reading));
        }
    }

    /// If the pod was deleted before its container terminated, it leaves no journal.
    fn deleted(&self, pod: &SeenPod) {
        self.changed(pod);
        let Some(id) = investigation_of(&pod.name_any()) else { return };
        self.known.lock().unwrap_or_else(PoisonError::into_inner).unended.remove(&pod.name_any());
        if ended(pod).is_none() {
            self.agent_reports.reporter.send(Observation::JournalRead(id));
        }
    }

    async fn read(&self, id: InvestigationId, pod: &SeenPod) {
        let Some(end) = ended(pod) else { return };
        let (reporter, name) = (&self.agent_reports.reporter, pod.name_any());
        let now = reporter.now();
        let journal = match end.message.as_deref().filter(|message| !message.is_empty()) {
            None => None,
            Some(message) => match Journal::read(message) {
                Some(journal) => Some(journal),
                // Truncated, or written by something else in the container.
                None => self.log(&name).await.map(|log| Journal::from_log(&log, started(end))),
            },
        };
        let entries = match &journal {
            Some(journal) if journal.more => {
                self.log(&name).await.as_deref().map(Journal::read_log).unwrap_or_default()
            }
            Some(journal) => journal.log.clone(),
            None => Vec::new(),
        };
        let length = entries.last().map_or(Span::ZERO, |(at, _)| at.since(Time::ZERO));
        let start = journal.as_ref().map(|journal| self.start(id, pod, journal, length, now));
        let zero = start.unwrap_or(now);
        let on_run_clock = |(at, report): Entry| {
            let at = zero + at.since(Time::ZERO);
            (at, report.counted_from(zero))
        };
        self.agent_reports.receive_journal(
            id,
            &name,
            entries.into_iter().map(on_run_clock).collect(),
        );
        let last = start.map(|start| start + length);
        let finished = end.finished_at.as_ref().map(|time| time.0.as_nanosecond());
        let finished = finished.map(|nanos| reporter.clock().of_wall(nanos));
        // `finishedAt` has a resolution of one second, and may precede the journal's last entry.
        let at = match journal.as_ref().and_then(|journal| journal.outcome) {
            Some(_) => last.or(finished),
            None => finished.max(last),
        };
        let at = at.unwrap_or(now).min(now);
        let outcome = outcome(pod, end, journal.as_ref());
        reporter.send(Observation::Fact(Event::of(at, id, Fact::Ended { outcome })));
        reporter.send(Observation::JournalRead(id));
    }

    /// The agent's start on the run's clock. The node's clock may be off, so the start is clamped:
    /// it is after the pod was scheduled, and the journal, `length` long, ended before `now`.
    fn start(
        &self,
        id: InvestigationId,
        pod: &SeenPod,
        journal: &Journal,
        length: Span,
        now: Time,
    ) -> Time {
        let reporter = &self.agent_reports.reporter;
        let claimed = reporter.clock().of_wall(i128::from(journal.start));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = known.scheduled.get(&id).copied().unwrap_or(Time::ZERO);
        let latest = Time(now.0.saturating_sub(length.0));
        let start = claimed.max(earliest).min(latest);
        let off = claimed.since(start).max(start.since(claimed));
        let node = pod.node.clone().unwrap_or_default();
        if off > CLOCKS_AGREE && known.skewed.insert(node.clone()) {
            let how = if claimed > start { "ahead" } else { "behind" };
            reporter.send(Observation::Remark(format!(
                "the clock of node {node} is at least {off} {how}; the times of its agents' journals are corrected"
            )));
        }
        start
    }

    /// The pod's log. If it cannot be read, the run is invalid.
    async fn log(&self, name: &str) -> Option<String> {
        let pods: Api<Pod> = Api::default_namespaced(self.client.clone());
        // A pod may have other containers, such as a sidecar that an admission webhook added.
        let container = Some(AGENT_CONTAINER.to_owned());
        let params = LogParams { container, ..LogParams::default() };
        match call::patiently(PATIENCE, || async { pods.logs(name, &params).await }).await {
            Ok(text) => Some(text),
            Err(error) => {
                let why = format!("failed to read the log of {name}: {}", call::describe(&error));
                self.agent_reports.reporter.send(Observation::Invalid(why));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kube::client::Body;

    use super::*;
    use crate::reporter::{Clock, Inbox, Reporter};

    /// A reader that needs no log of a pod.
    fn pods() -> (Pods, Inbox) {
        let (reporter, inbox) = Reporter::new(Clock::default());
        let silent = tower::service_fn(|_: http::Request<Body>| async {
            std::future::pending::<Result<http::Response<Body>, std::io::Error>>().await
        });
        (Pods::new(AgentReports::new(reporter, None), Client::new(silent, "a")), inbox)
    }

    fn pod(number: u32, ended: bool) -> SeenPod {
        let mut pod = SeenPod::default();
        pod.metadata.name = Some(format!("inv-000000{number}-0123abcd-x7k2p"));
        let terminated = ended.then(ContainerStateTerminated::default);
        pod.container =
            Some(k8s_openapi::api::core::v1::ContainerState { terminated, ..Default::default() });
        pod
    }

    #[tokio::test]
    async fn a_pod_that_a_new_list_lacks_leaves_no_journal_unless_it_had_ended() {
        let (pods, mut inbox) = pods();
        let all = [pod(1, false), pod(2, false), pod(3, true), pod(4, false)];
        all.iter().for_each(|pod| pods.change(&PodChange::Is(Box::new(pod.clone()))));
        pods.change(&PodChange::Gone(Box::new(all[3].clone())));
        let mut read = || {
            let messages = std::iter::from_fn(|| inbox.try_recv());
            let ids = messages.filter_map(|message| match message {
                Observation::JournalRead(id) => Some(id.0),
                _ => None,
            });
            ids.collect::<Vec<_>>()
        };
        assert_eq!(read(), [4]);
        let listed = Arc::new(BTreeSet::from([all[0].name_any()]));
        pods.change(&PodChange::All(Arc::clone(&listed)));
        // The third one's is read by a task that was not polled yet.
        assert_eq!(read(), [2]);
        pods.change(&PodChange::All(listed));
        assert_eq!(read(), [0; 0]);
    }
}
