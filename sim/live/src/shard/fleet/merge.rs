//! Merges the events of a fleet's shards into one run. It takes the engine's place when the load
//! comes from shards.

use alertstorm_model::event::{Event, Fact, Sink};
use alertstorm_model::investigation::InvestigationId;
use alertstorm_model::time::Time;

use super::Fleet;
use super::logs::PodLogEvent;
use crate::agent_reports::AgentReports;
use crate::engine::{Driven, Host};
use crate::reporter::{Inbox, Observation, Reporter};
use crate::shard::manifests;
use crate::shard::wire::ShardMessage;

/// A message to the merger.
pub(crate) enum Message {
    /// From a task of this process.
    Task(Observation),
    /// From a shard.
    Shard(PodLogEvent),
}

/// The merger of a fleet's events.
pub struct Merge<'a> {
    fleet: Fleet,
    sink: &'a mut dyn Sink,
    reporter: Reporter,
    agent_reports: AgentReports,
    /// Whether the run ends before every shard is done.
    is_aborted: bool,
}

impl<'a> Merge<'a> {
    /// The merger of a fleet that was started.
    pub fn new(fleet: Fleet, sink: &'a mut dyn Sink, agent_reports: AgentReports) -> Self {
        let reporter = agent_reports.reporter.clone();
        let mut merge = Self { fleet, sink, reporter, agent_reports, is_aborted: false };
        for text in std::mem::take(&mut merge.fleet.early_deaths) {
            merge.remark(text);
        }
        merge
    }

    /// Records what is certain about the clocks of the shards.
    pub fn judge_clocks(&mut self) {
        for why in self.fleet.wrong_clocks() {
            self.platform(Fact::Invalid { why: why.into() });
        }
        if let Some(skew) = self.fleet.largest_skew() {
            self.remark(format!(
                "the clocks of the shards differ from this machine's by at most {skew}"
            ));
        }
    }

    /// Handles the messages that are left, and flushes the event log.
    pub fn close(&mut self, inbox: &mut Inbox, host: &impl Host) {
        while let Some(observation) = inbox.try_recv() {
            self.observation(observation, host);
        }
        self.sink.flush();
    }

    /// The fleet, to be deleted.
    pub fn into_fleet(self) -> Fleet {
        self.fleet
    }

    /// The fleet.
    pub const fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// Records a fact of the platform with the current time.
    pub fn platform(&mut self, fact: Fact) {
        let event = Event::platform(self.reporter.now(), fact);
        self.sink.take(&event);
    }

    fn remark(&mut self, text: String) {
        self.platform(Fact::Remark { text: text.into() });
    }

    /// Records an event of a shard or, if `shard` is none, of an agent.
    fn event(&mut self, shard: Option<u32>, event: Event) {
        if self.fleet.register.record(shard, &event) {
            self.sink.take(&event);
        }
    }

    fn observation(&mut self, observation: Observation, host: &impl Host) {
        match observation {
            Observation::Fact(event) => self.event(None, event),
            Observation::Remark(text) => self.remark(text),
            Observation::Invalid(why) => self.platform(Fact::Invalid { why: why.into() }),
            Observation::Abort(why) => {
                self.platform(Fact::Invalid { why: why.into() });
                self.is_aborted = true;
            }
            Observation::Fault(number, begins) => {
                let kind = self.fleet.plan.faults()[number].kind;
                self.platform(Fact::Fault { kind, began: begins });
                host.fault(number, begins);
            }
            // Only the engine of a shard sends the others, to itself.
            _ => {}
        }
    }

    async fn log_event(&mut self, event: PodLogEvent) {
        match event {
            PodLogEvent::Line { pod, shard, message } => self.message(shard, pod, message).await,
            PodLogEvent::Lost { pod, lines } => {
                let why = format!(
                    "{lines} lines of the log of {pod} are lost: its kubelet rotated the log"
                );
                self.platform(Fact::Invalid { why: why.into() });
            }
            PodLogEvent::End { pod, shard } => self.ended(shard, &pod).await,
        }
    }

    async fn message(&mut self, shard: u32, pod: String, message: ShardMessage) {
        match message {
            ShardMessage::Hello { .. } => self.replaced(shard, pod).await,
            ShardMessage::Event(event) => self.event(Some(shard), event),
            ShardMessage::Journal { id, pod, log } => self.journal(shard, id, &pod, log),
            ShardMessage::Began { sent, read } => {
                self.fleet.clocks.was_read(shard, &pod, sent, read);
            }
            ShardMessage::Lags(lags) => {
                self.fleet.clocks.received(shard, &pod, lags.now, self.reporter.now());
                self.fleet.lags.insert(pod, lags);
            }
            ShardMessage::Done => {
                if let Some(shard) = self.fleet.shards.get_mut(shard as usize) {
                    shard.done = true;
                }
            }
        }
    }

    fn journal(
        &mut self,
        shard: u32,
        id: InvestigationId,
        pod: &str,
        log: Vec<(Time, alertstorm_agent::AgentReport)>,
    ) {
        if self.fleet.register.journal(shard, id) {
            self.agent_reports.receive_journal(id, pod, log);
        }
    }

    /// A pod of a shard ended, and its whole log was read.
    async fn ended(&mut self, shard: u32, pod: &str) {
        let Some(of) = self.fleet.shards.get_mut(shard as usize).filter(|of| !of.done) else {
            return;
        };
        of.deaths += 1;
        tracing::warn!(shard, pod, deaths = of.deaths, "a shard died");
        of.ended |= of.pod.as_deref() == Some(pod);
        // Kubernetes creates another pod until backoffLimitPerIndex is exceeded.
        if of.deaths > manifests::DEATHS_MAX {
            of.done = true;
            let why = format!("shard {shard} died {} times and is not replaced again", of.deaths);
            return self.platform(Fact::Invalid { why: why.into() });
        }
        self.remark(format!("shard {shard} died ({pod}); a new pod takes over"));
        self.replace(shard).await;
    }

    /// A shard started in a new pod.
    async fn replaced(&mut self, shard: u32, pod: String) {
        if let Some(of) = self.fleet.shards.get_mut(shard as usize) {
            tracing::info!(shard, pod, "a new pod of a shard waits for its predecessor's memory");
            of.waiting = Some(pod);
        }
        self.replace(shard).await;
    }

    /// Sends the waiting pod what its predecessor reported, once the predecessor's log was read to
    /// its end.
    async fn replace(&mut self, shard: u32) {
        let index = shard as usize;
        let Some(of) = self.fleet.shards.get_mut(index).filter(|of| of.ended) else { return };
        let Some(pod) = of.waiting.take() else { return };
        (of.pod, of.ended) = (Some(pod.clone()), false);
        let memory = Some(self.fleet.register.memory(shard));
        if let Err(error) = self.fleet.answer(index, &pod, memory).await {
            // Its successor would wait for it until the run's end.
            if let Some(of) = self.fleet.shards.get_mut(index) {
                of.done = true;
            }
            let why =
                format!("failed to send shard {shard} what its predecessor reported: {error}");
            self.platform(Fact::Invalid { why: why.into() });
        }
    }
}

impl Driven for Merge<'_> {
    type Message = Message;

    async fn next(&mut self, inbox: &mut Inbox) -> Option<Message> {
        tokio::select! {
            biased;
            Some(observation) = inbox.recv() => Some(Message::Task(observation)),
            Some(event) = self.fleet.logs.recv() => Some(Message::Shard(event)),
            else => None,
        }
    }

    async fn handle(&mut self, message: Message, host: &impl Host) {
        match message {
            Message::Task(observation) => self.observation(observation, host),
            Message::Shard(event) => self.log_event(event).await,
        }
    }

    /// Events are written as they come.
    fn write(&mut self) {}

    fn flush(&mut self) {
        self.sink.flush();
    }

    fn now(&self) -> Time {
        self.reporter.now()
    }

    fn leases_until(&self) -> Option<Time> {
        self.agent_reports.book.last_expiry()
    }

    fn is_aborted(&self) -> bool {
        self.is_aborted
    }

    fn is_open(&self) -> bool {
        !self.fleet.shards.iter().all(|shard| shard.done)
    }

    /// Shards wait for that themselves.
    fn is_collecting(&self, _: Time, _: Time) -> bool {
        false
    }
}
