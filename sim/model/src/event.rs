//! The event log: every fact of a run, in order. Everything to the right of it (measures, verdicts,
//! reports) can be computed again from a log on disk.
//!
//! ```
//! use alertstorm_model::event::{Event, Fact, Sink};
//! use alertstorm_model::time::Time;
//!
//! let line = r#"{"t_ns":1500,"inv":3,"fact":"job_sent"}"#;
//! let event: Event = serde_json::from_str(line).unwrap();
//! assert_eq!((event.at, &event.fact), (Time(1500), &Fact::JobSent));
//! let mut log: Vec<Event> = Vec::new();
//! log.take(&event);
//! ```

mod audited;
mod sample;

use serde::{Deserialize, Serialize};

use crate::investigation::{Domain, InvestigationId, Outcome, Severity, Stage};
use crate::phase::{Action, Refuser};
use crate::time::{Span, Time};

pub use audited::{Attributed, Audited, Denials, Reconciliation};
pub use sample::{
    ApiCalls, AuditCount, Bucket, Component, CpuUse, Depth, Etcd, Sample, Wait, WaitSummary,
};

/// One fact and its instant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Event {
    /// When it happened.
    #[serde(rename = "t_ns")]
    pub at: Time,
    /// Whose it is; nothing for facts of the platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inv: Option<InvestigationId>,
    /// What happened.
    #[serde(flatten)]
    pub fact: Fact,
}

/// What can happen. Every number is an integer in the unit of its name, so that the digest is
/// the same on every machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub enum Fact {
    /// An alert came. `intended` is the instant that every latency counts from.
    Alert {
        /// When the alert was meant to come.
        intended: Time,
        /// What it is about.
        domain: Domain,
        /// How urgent it is.
        severity: Severity,
    },
    /// The alert repeats one that is known.
    Deduplicated {
        /// The investigation that covers it.
        of: InvestigationId,
    },
    /// The alert was turned away.
    Shed {
        /// When the sender may try again.
        #[serde(rename = "retry_after_ns", with = "crate::time::nanos")]
        retry_after: Span,
    },
    /// The alert was turned away, and its sender will come again.
    TurnedAway {
        /// When.
        #[serde(rename = "retry_after_ns", with = "crate::time::nanos")]
        retry_after: Span,
    },
    /// The client sent the request that creates the Job.
    JobSent,
    /// A stage of the timeline was reached.
    Stage {
        /// Which.
        stage: Stage,
    },
    /// The agent's process ended, and the investigation with it.
    Ended {
        /// How.
        outcome: Outcome,
    },
    /// The agent worked through a hypothesis.
    Hypothesis {
        /// Tool calls made for it.
        tool_calls: u32,
        /// Tokens read and written by the model behind the agent.
        tokens: u32,
        /// What they cost, in millionths of a dollar.
        cost_micro_usd: u64,
    },
    /// The agent did something.
    Acted {
        /// What.
        action: Action,
    },
    /// The agent was refused something.
    Denied {
        /// What it attempted.
        action: Action,
        /// Who refused.
        by: Refuser,
    },
    /// Vault issued a lease.
    LeaseIssued {
        /// Unique in the run.
        lease: u64,
        /// Whose systems it opens.
        domain: Domain,
        /// When it expires unless renewed.
        expires: Time,
    },
    /// Vault renewed a lease.
    LeaseRenewed {
        /// Which.
        lease: u64,
    },
    /// The agent gave a lease back; Vault revokes it as soon as it can.
    LeaseReturned {
        /// Which.
        lease: u64,
    },
    /// A lease was revoked before its time.
    LeaseRevoked {
        /// Which.
        lease: u64,
    },
    /// A lease ran out and was revoked by the expiration manager.
    LeaseExpired {
        /// Which.
        lease: u64,
        /// How long after its time.
        #[serde(rename = "lag_ns", with = "crate::time::nanos")]
        lag: Span,
    },
    /// An attempt to revoke a lease failed.
    RevokeFailed {
        /// Which.
        lease: u64,
        /// How many attempts there were.
        attempts: u32,
    },
    /// Vault gave up revoking a lease.
    LeaseIrrevocable {
        /// Which.
        lease: u64,
    },
    /// Where the time from `alert` to `until` went, by component.
    Waited {
        /// Up to which stage.
        until: Stage,
        /// Component and time; the rest of the time was work.
        waits: Box<[Wait]>,
    },
    /// The controller began or ceased to turn alerts away.
    Pressure {
        /// Whether it does now.
        shedding: bool,
    },
    /// A fault of the scenario began or ended.
    Fault {
        /// Its kind.
        kind: crate::scenario::FaultKind,
        /// Whether it began.
        began: bool,
    },
    /// What the platform's own counters say.
    Sample {
        /// The counters.
        sample: Box<Sample>,
    },
    /// A live run began; a log without this is the twin's.
    Began {
        /// Who made the platform.
        provider: Box<str>,
    },
    /// Something that a reader of the report must know: a server died, a memory was lost.
    Remark {
        /// In a sentence.
        text: Box<str>,
    },
    /// The run's figures cannot be trusted.
    Invalid {
        /// Why, in a sentence.
        why: Box<str>,
    },
    /// A live run audited itself, and what it wrote down against what the servers did.
    Audited {
        /// What it found.
        audited: Box<Audited>,
    },
    /// The run ended before all was done, because somebody asked for it.
    Interrupted,
}

impl Event {
    /// A fact of an investigation.
    pub const fn of(at: Time, inv: InvestigationId, fact: Fact) -> Self {
        Self { at, inv: Some(inv), fact }
    }

    /// A fact of the platform.
    pub const fn platform(at: Time, fact: Fact) -> Self {
        Self { at, inv: None, fact }
    }
}

/// Where events go. A world writes; the log, the digest and the measures listen.
pub trait Sink {
    /// Takes the next event; events come in the order of their instants.
    fn take(&mut self, event: &Event);

    /// Makes sure that what was taken outlives the process.
    fn flush(&mut self) {}
}

impl Sink for Vec<Event> {
    fn take(&mut self, event: &Event) {
        self.push(event.clone());
    }
}

/// Two listeners to one log.
impl<A: Sink, B: Sink> Sink for (A, B) {
    fn take(&mut self, event: &Event) {
        self.0.take(event);
        self.1.take(event);
    }

    fn flush(&mut self) {
        self.0.flush();
        self.1.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_survives_its_line_in_the_log() {
        let event =
            Event::of(Time(1_500), InvestigationId(3), Fact::Shed { retry_after: Span::secs(2) });
        let line = serde_json::to_string(&event).unwrap();
        assert_eq!(line, r#"{"t_ns":1500,"inv":3,"fact":"shed","retry_after_ns":2000000000}"#);
        assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
    }
}
