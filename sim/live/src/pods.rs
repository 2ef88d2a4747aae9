//! Agents in real pods: what they told is in their termination messages, and in their logs where
//! that is too long. Instants are an agent's own, from its start by its node's clock on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alertstorm_agent::journal::{Entry, Journal};
use alertstorm_model::event::{Event, Fact};
use alertstorm_model::investigation::{InvestigationId, Outcome};
use alertstorm_model::time::{Span, Time};
use alertstorm_platform::NAMESPACE;
use alertstorm_platform::call;
use alertstorm_platform::identity::investigation_of;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use kube::api::LogParams;
use kube::{Api, Client, ResourceExt};
use tokio::task::JoinSet;

use crate::agent_reports::AgentReports;
use crate::reporter::Observation;
use crate::watch::{PodChange, has_run};

/// How long a log is asked for.
const PATIENCE: Duration = Duration::from_secs(20);
/// A clock that is off by less is taken as it is: the watch's own delay is of this size.
const CLOCKS_AGREE: Span = Span::millis(100);

#[derive(Default)]
struct Known {
    /// When a pod was first seen on its node; zero where it had begun by then, which tells nothing.
    placed: BTreeMap<InvestigationId, Time>,
    /// Pods whose journals were read.
    read: BTreeSet<String>,
    /// Investigations whose journals another has read before.
    told: BTreeSet<InvestigationId>,
    /// Nodes whose clocks were told to be off.
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

/// The agent's container, where it has ended.
fn ended(pod: &Pod) -> Option<&ContainerStateTerminated> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.first()?.state.as_ref()?.terminated.as_ref()
}

/// How an agent ended, by its own word and the kubelet's.
fn outcome(pod: &Pod, end: &ContainerStateTerminated, journal: Option<&Journal>) -> Outcome {
    if end.reason.as_deref() == Some("OOMKilled") {
        return Outcome::OomKilled;
    }
    if let Some(outcome) = journal.and_then(|journal| journal.outcome) {
        return outcome;
    }
    // A node that lost its power knows no more than that the container is not there.
    if matches!(end.reason.as_deref(), Some("ContainerStatusUnknown" | "Unknown")) {
        return Outcome::Evicted;
    }
    let evicted = pod.status.as_ref().and_then(|status| status.reason.as_deref()).is_some();
    // Whoever deletes a pod ends its agent; why, the Job's clock tells.
    match evicted || pod.metadata.deletion_timestamp.is_some() {
        true => Outcome::Evicted,
        false => Outcome::Crashed,
    }
}

impl Pods {
    /// A reader with the controller's client.
    pub fn new(agent_reports: AgentReports, client: Client) -> Self {
        Self { agent_reports, client, known: Arc::default() }
    }

    /// Notes whose journals were told before.
    pub fn know(&self, told: impl IntoIterator<Item = InvestigationId>) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).told.extend(told);
    }

    /// Sees what a watch shows.
    pub fn see(&self, change: &PodChange) {
        match change {
            PodChange::Is(pod) => self.look(pod),
            PodChange::Gone(pod) => self.gone(pod),
            PodChange::All(_) => {}
        }
    }

    /// Looks at a pod as a watch shows it.
    fn look(&self, pod: &Pod) {
        let Some(id) = investigation_of(&pod.name_any()) else { return };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        while known.tasks.try_join_next().is_some() {}
        if pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()) {
            let now = if has_run(pod) { Time::ZERO } else { self.agent_reports.reporter.now() };
            known.placed.entry(id).or_insert(now);
        }
        let untold = !known.told.contains(&id);
        if untold && ended(pod).is_some() && known.read.insert(pod.name_any()) {
            let (this, pod) = (self.clone(), pod.clone());
            known.tasks.spawn(async move { this.read(id, &pod).await });
        }
    }

    /// A pod is gone: nothing more comes of it.
    fn gone(&self, pod: &Pod) {
        self.look(pod);
        let Some(id) = investigation_of(&pod.name_any()) else { return };
        if ended(pod).is_none() {
            self.agent_reports.reporter.send(Observation::JournalRead(id));
        }
    }

    async fn read(&self, id: InvestigationId, pod: &Pod) {
        let Some(end) = ended(pod) else { return };
        let (reporter, name) = (&self.agent_reports.reporter, pod.name_any());
        let seen = reporter.now();
        let journal = end.message.as_deref().and_then(Journal::read);
        let entries = match &journal {
            Some(journal) if journal.more => self.log(&name).await,
            Some(journal) => journal.log.clone(),
            None => Vec::new(),
        };
        let length = entries.last().map_or(Span::ZERO, |(at, _)| at.since(Time::ZERO));
        let start = journal.as_ref().map(|journal| self.start(id, pod, journal, length, seen));
        let zero = start.unwrap_or(seen);
        let on_the_runs_clock = |(at, told): Entry| {
            let at = zero + at.since(Time::ZERO);
            (at, told.counted_from(zero))
        };
        self.agent_reports.receive_journal(
            id,
            &name,
            entries.into_iter().map(on_the_runs_clock).collect(),
        );
        let last = start.map(|start| start + length);
        let finished = end.finished_at.as_ref().map(|time| time.0.as_nanosecond());
        let finished = finished.map(|nanos| reporter.clock().of_wall(nanos));
        // The kubelet says it in whole seconds; the agent's last word was not after its end.
        let at = match journal.as_ref().and_then(|journal| journal.outcome) {
            Some(_) => last.or(finished),
            None => finished.max(last),
        };
        let at = at.unwrap_or(seen).min(seen);
        let outcome = outcome(pod, end, journal.as_ref());
        reporter.send(Observation::Fact(Event::of(at, id, Fact::Ended { outcome })));
        reporter.send(Observation::JournalRead(id));
    }

    /// The agent's start on the run's clock. Its node's clock may be off; but an agent starts after
    /// its pod was placed, and has told all before its end was seen.
    fn start(
        &self,
        id: InvestigationId,
        pod: &Pod,
        journal: &Journal,
        length: Span,
        seen: Time,
    ) -> Time {
        let reporter = &self.agent_reports.reporter;
        let claimed = reporter.clock().of_wall(i128::from(journal.start));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = known.placed.get(&id).copied().unwrap_or(Time::ZERO);
        let latest = Time(seen.0.saturating_sub(length.0));
        let start = claimed.max(earliest).min(latest);
        let off = claimed.since(start).max(start.since(claimed));
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
        if off > CLOCKS_AGREE && known.skewed.insert(node.clone()) {
            let how = if claimed > start { "ahead" } else { "behind" };
            reporter.send(Observation::Remark(format!(
                "the clock of node {node} is at least {off} {how}: what its agents told is moved"
            )));
        }
        start
    }

    async fn log(&self, name: &str) -> Vec<Entry> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        let params = LogParams::default();
        match call::patiently(PATIENCE, || async { pods.logs(name, &params).await }).await {
            Ok(text) => Journal::read_log(&text),
            Err(error) => {
                let why = format!("{name}: its log could not be read: {}", call::told(&error));
                self.agent_reports.reporter.send(Observation::Invalid(why));
                Vec::new()
            }
        }
    }
}
