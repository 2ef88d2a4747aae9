//! What a shard and the fleet tell each other. A shard writes lines of its log; the fleet answers
//! in one object for each shard, once when the run begins and once for each shard that is replaced.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use alertstorm_agent::AgentReport;
use alertstorm_model::event::{Event, Fact, Sink};
use alertstorm_model::investigation::{InvestigationId, Stage};
use alertstorm_model::time::Time;
use alertstorm_platform::PodSpec;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::engine::Lags;

/// What a shard is told beside its plan's files.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Orders {
    /// The whole plan's digest.
    pub plan: String,
    /// The whole plan's seed, which may not be the file's.
    pub seed: u64,
    /// How many shards there are.
    pub of: std::num::NonZeroU32,
    /// What agents' pods are made of.
    pub pods: PodSpec,
}

/// A line of a shard's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Its number, from 0: a log that is read twice tells nothing twice.
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
        /// Which it is, from 0.
        shard: u32,
    },
    /// A fact that the shard's engine saw; an agent's own come in its journal.
    Event(Event),
    /// What an agent told, whole, on the run's clock.
    Journal {
        /// Whose.
        id: InvestigationId,
        /// The pod.
        pod: String,
        /// When and what.
        log: Vec<(Time, AgentReport)>,
    },
    /// How late the shard was so far, and what it used.
    Lags(LagsSoFar),
    /// Every alert of the shard's part is accounted for.
    Done,
}

/// How late a shard was so far. Histograms are counts by value, which merge without loss.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LagsSoFar {
    /// From an alert's intended instant to its delivery, in ns.
    pub send: Vec<(u64, u64)>,
    /// From the answer to a creation to the watch event that shows it, in ns.
    pub watch: Vec<(u64, u64)>,
    /// Processor time, in ns.
    pub cpu_ns: u64,
    /// Most memory held, in bytes.
    pub resident_max: u64,
}

impl LagsSoFar {
    /// As a shard tells it.
    pub fn new(lags: &Lags, cpu_ns: u64, resident_max: u64) -> Self {
        let counts = |of: &Histogram<u64>| {
            let recorded = of.iter_recorded();
            recorded.map(|at| (at.value_iterated_to(), at.count_at_value())).collect()
        };
        Self { send: counts(&lags.send), watch: counts(&lags.watch), cpu_ns, resident_max }
    }

    /// Adds it to what others told.
    pub fn add_to(&self, lags: &mut Lags) {
        for (of, counts) in [(&mut lags.send, &self.send), (&mut lags.watch, &self.watch)] {
            for (value, count) in counts {
                // It grows as it must: up to 584 years there is room.
                let _ = of.record_n(*value, *count);
            }
        }
    }
}

/// Whether an agent tells of a fact by itself, so that a shard's engine need not.
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

/// What the fleet answers a shard's hello with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// The run's start, in nanoseconds since 1970.
    pub zero: u64,
    /// What shards before this one told, where there were some.
    #[serde(default)]
    pub memory: Option<Memory>,
}

/// What a shard that died had told: its successor tells none of it again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Alerts of which nothing more will come: repeats, those turned away, Jobs collected.
    pub over: Vec<InvestigationId>,
    /// Investigations whose Job is finished and not collected, and since when.
    pub finished: Vec<(InvestigationId, Time)>,
    /// Investigations under way.
    pub open: Vec<OpenMemory>,
}

impl Memory {
    /// Every investigation that was told of.
    pub fn investigations(&self) -> impl Iterator<Item = InvestigationId> {
        let over = self.over.iter().copied();
        let finished = self.finished.iter().map(|(id, _)| *id);
        over.chain(finished).chain(self.open.iter().map(|open| open.id))
    }
}

/// An investigation under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenMemory {
    /// Which.
    pub id: InvestigationId,
    /// When its Job was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<Time>,
    /// Its stages so far.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<(Stage, Time)>,
    /// Whether its outcome is known.
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
    /// One of which nothing was told yet.
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

/// Writes lines, each at once and whole.
#[derive(Clone, Debug, Default)]
pub struct Wire {
    next: Arc<AtomicU64>,
    alone: Arc<Mutex<()>>,
}

impl Wire {
    /// ShardMessage something. Whoever reads the log has gone where it cannot be written.
    pub fn send(&self, message: ShardMessage) {
        let _alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
        let line = Line { n: self.next.fetch_add(1, Ordering::Relaxed), message };
        if let Ok(mut text) = serde_json::to_string(&line) {
            text.push('\n');
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        }
    }

    /// Tells an agent's journal.
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
    use alertstorm_model::time::Span;

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let id = InvestigationId(7);
        let messages = [
            ShardMessage::Hello { shard: 2 },
            ShardMessage::Event(Event::of(Time(5), id, Fact::JobSent)),
            ShardMessage::Event(Event::platform(Time(6), Fact::Pressure { shedding: true })),
            ShardMessage::Journal { id, pod: "p".into(), log: vec![(Time(9), AgentReport::Login)] },
            ShardMessage::Done,
        ];
        for (n, message) in messages.into_iter().enumerate() {
            let line = Line { n: n as u64, message };
            let text = serde_json::to_string(&line).unwrap();
            assert!(!text.contains('\n'));
            assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line, "{text}");
        }
    }

    #[test]
    fn histograms_merge_without_loss() {
        let mut whole = Lags::default();
        let mut parts = [Lags::default(), Lags::default()];
        for n in 0..5_000_u64 {
            let value = n * n * 37 + 1;
            whole.send.record(value).unwrap();
            parts[(n % 2) as usize].send.record(value).unwrap();
        }
        let mut merged = Lags::default();
        for part in &parts {
            LagsSoFar::new(part, 0, 0).add_to(&mut merged);
        }
        for q in [0.0, 0.1, 0.5, 0.9, 0.99, 1.0] {
            assert_eq!(merged.send.value_at_quantile(q), whole.send.value_at_quantile(q));
        }
        assert_eq!(merged.send.len(), whole.send.len());
        assert!(merged.send.max() <= whole.send.max() + Span::secs(1).0);
    }
}
