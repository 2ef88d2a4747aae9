//! The messages between a shard and the fleet. A shard writes one message per line to its log. The
//! fleet answers in one ConfigMap per shard: when the run begins, and whenever the shard is
//! replaced.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use alertstorm_agent::AgentReport;
use alertstorm_agent::names::Names;
use alertstorm_model::event::{Event, Fact, Sink};
use alertstorm_model::investigation::{InvestigationId, Stage};
use alertstorm_model::time::Time;
use alertstorm_platform::PodSpec;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::lags::{Lag, Lags, counts};

/// The instructions to a shard, besides the plan's files.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Orders {
    /// The whole plan's digest.
    pub plan: String,
    /// The whole plan's seed; `--seed` may override the scenario's.
    pub seed: u64,
    /// The number of shards.
    pub of: std::num::NonZeroU32,
    /// The names of the run.
    pub names: Names,
    /// The image and environment of agents' pods.
    pub pods: PodSpec,
}

/// A line of a shard's log, as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Its number, from 0. A log may be read again after an error; numbers show repeated and lost
    /// lines.
    pub n: u64,
    /// The message.
    #[serde(flatten)]
    pub message: ShardMessage,
}

/// A message of a shard, as a line of its pod's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShardMessage {
    /// The shard is ready to begin.
    Hello {
        /// Its index, from 0.
        shard: u32,
    },
    /// An event of the shard's engine. An agent's own events are in its journal.
    Event(Event),
    /// The shard has read the fleet's answer.
    Began {
        /// [`Begin::sent`].
        sent: u64,
        /// When the shard read it, by its own clock, in nanoseconds since 1970.
        read: u64,
    },
    /// The whole journal of an agent, with times on the run's clock.
    Journal {
        /// The agent's investigation.
        id: InvestigationId,
        /// The agent's pod.
        pod: String,
        /// Its entries.
        log: Vec<(Time, AgentReport)>,
    },
    /// The shard's delays and resource use so far.
    Lags(LagsSoFar),
    /// Every alert of the shard's part is accounted for.
    Done,
}

/// A shard's delays and resource use so far. Histograms are transferred as counts by value, so that
/// they merge without loss.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LagsSoFar {
    /// The delays in ns, by value.
    pub delays: Vec<(Lag, Vec<(u64, u64)>)>,
    /// Processor time, in ns.
    pub cpu_ns: u64,
    /// The largest resident set, in bytes.
    pub resident_max: u64,
    /// The current time of the run, by the shard's clock.
    #[serde(default)]
    pub now: Time,
}

impl LagsSoFar {
    /// A snapshot of a shard's delays; `reading` is the delay of [`Lag::Reading`].
    pub fn new(
        lags: &Lags,
        reading: &Histogram<u64>,
        cpu_ns: u64,
        resident_max: u64,
        now: Time,
    ) -> Self {
        let counts = |&lag: &Lag| match lag {
            Lag::Reading => (lag, counts(reading)),
            _ => (lag, lags.counts(lag)),
        };
        let delays = Lag::ALL.iter().map(counts).collect();
        Self { delays, cpu_ns, resident_max, now }
    }

    /// Adds these counts to `lags`.
    pub fn add_to(&self, lags: &Lags) {
        for (lag, counts) in &self.delays {
            lags.add_counts(*lag, counts);
        }
    }
}

/// Whether agents report such a fact in their journals. A shard's engine does not send it a second
/// time.
pub const fn is_agents(fact: &Fact) -> bool {
    match fact {
        Fact::Stage { stage } => matches!(
            stage,
            Stage::VaultLogin | Stage::CredentialsReady | Stage::AgentDone | Stage::LeasesReleased
        ),
        Fact::Hypothesis { .. } | Fact::Acted { .. } | Fact::Denied { .. } => true,
        _ => false,
    }
}

/// The fleet's answer to [`ShardMessage::Hello`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// The run's start, in nanoseconds since 1970.
    pub zero: u64,
    /// When the fleet sent this, by its own clock, in nanoseconds since 1970.
    #[serde(default)]
    pub sent: u64,
    /// The state of the shard that this one replaces; none for the first.
    #[serde(default)]
    pub memory: Option<Memory>,
    /// The number of ConfigMaps with the JSON of the memory, if it is too large for this one.
    #[serde(default)]
    pub parts: usize,
}

/// The state of a shard that died, as far as it was reported. Its successor does not report it
/// again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Investigations with nothing more to report: duplicates, shed alerts, and collected Jobs.
    pub over: Vec<InvestigationId>,
    /// Investigations whose Job is finished but not collected, and when it finished.
    pub finished: Vec<(InvestigationId, Time)>,
    /// The other investigations.
    pub open: Vec<OpenMemory>,
}

impl Memory {
    /// The ids of all of them.
    pub fn investigations(&self) -> impl Iterator<Item = InvestigationId> {
        let over = self.over.iter().copied();
        let finished = self.finished.iter().map(|(id, _)| *id);
        over.chain(finished).chain(self.open.iter().map(|open| open.id))
    }
}

/// The reported state of an investigation whose Job is not finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenMemory {
    /// Its id.
    pub id: InvestigationId,
    /// When the request that creates its Job was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<Time>,
    /// The stages that it reached, with times.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<(Stage, Time)>,
    /// Whether its outcome was reported.
    #[serde(default)]
    pub ended: bool,
    /// Whether its agent's journal was read.
    #[serde(default)]
    pub journal_read: bool,
    /// What it cost so far, in millionths of a dollar.
    #[serde(default)]
    pub cost_micro_usd: u64,
}

impl OpenMemory {
    /// An investigation of which nothing is reported yet.
    pub const fn new(id: InvestigationId) -> Self {
        Self {
            id,
            sent: None,
            stages: Vec::new(),
            ended: false,
            journal_read: false,
            cost_micro_usd: 0,
        }
    }
}

/// Writes messages to standard output, which is the shard's log. Lines of several tasks do not mix.
#[derive(Clone, Debug, Default)]
pub struct Wire {
    next: Arc<AtomicU64>,
    writing: Arc<Mutex<()>>,
}

impl Wire {
    /// Writes a message. A write error is logged: without a log there is no reader that misses it.
    pub fn send(&self, message: ShardMessage) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let line = Line { n: self.next.fetch_add(1, Ordering::Relaxed), message };
        let written = serde_json::to_string(&line).map_err(std::io::Error::from).and_then(|text| {
            let mut out = std::io::stdout().lock();
            out.write_all((text + "\n").as_bytes()).and_then(|()| out.flush())
        });
        if let Err(error) = written {
            tracing::error!(%error, "could not write to the shard's log");
        }
    }

    /// Writes the journal of an agent.
    pub fn journal(&self, id: InvestigationId, pod: &str, log: &[(Time, AgentReport)]) {
        self.send(ShardMessage::Journal { id, pod: pod.to_owned(), log: log.to_vec() });
    }
}

impl Sink for Wire {
    fn take(&mut self, event: &Event) {
        if !is_agents(&event.fact) {
            self.send(ShardMessage::Event(event.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_survives_its_line_of_the_log() {
        let id = InvestigationId(7);
        let messages = [
            ShardMessage::Hello { shard: 2 },
            ShardMessage::Event(Event::of(Time(5), id, Fact::JobSent)),
            ShardMessage::Event(Event::platform(Time(6), Fact::Pressure { shedding: true })),
            ShardMessage::Journal {
                id,
                pod: "p".into(),
                log: vec![(Time(9), AgentReport::Returned("a".into()))],
            },
            ShardMessage::Done,
        ];
        for (n, message) in messages.into_iter().enumerate() {
            let line = Line { n: n as u64, message };
            let text = serde_json::to_string(&line).unwrap();
            assert!(!text.contains('\n'));
            assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line, "{text}");
        }
    }
}
