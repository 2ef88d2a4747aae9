//! The event log: every fact of a run, in the order of time. Measures, verdicts and reports are
//! functions of the log, and can be computed again from a log on disk.
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
mod occupied;
mod sample;

use serde::{Deserialize, Serialize};

use crate::investigation::{Domain, InvestigationId, Outcome, Severity, Stage};
use crate::phase::{Action, Refuser};
use crate::time::{Span, Time};

pub use audited::{Attributed, Audited, Denials, Reconciliation};
pub use occupied::{Capacity, Occupation, Resource};
pub use sample::{
    ApiCalls, AuditCount, Bucket, Component, CpuUse, Depth, Etcd, Sample, Wait, WaitSummary,
};

/// One line of the event log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Event {
    /// Time of the fact: virtual in the twin; live, the wall-clock time since the start of the run.
    #[serde(rename = "t_ns")]
    pub at: Time,
    /// The investigation that the fact is about; empty for facts about the platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inv: Option<InvestigationId>,
    /// The fact; its fields are those of the line.
    #[serde(flatten)]
    pub fact: Fact,
}

/// The facts of an event log. All numbers are integers, in the unit that the field's name ends
/// with, so that the digest is the same on every machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub enum Fact {
    /// An alert was sent for the first time.
    Alert {
        /// When the plan sends the alert. All latencies count from here, so that a delay of the
        /// harness does not shorten them.
        intended: Time,
        /// Domain of the alert.
        domain: Domain,
        /// Severity of the alert.
        severity: Severity,
    },
    /// The controller dropped the alert as a duplicate. Final.
    Deduplicated {
        /// The investigation of the first alert with this fingerprint.
        of: InvestigationId,
    },
    /// The controller refused the alert, and its sender has no retries left. Final.
    Shed {
        /// The pause that the controller asked for (Retry-After).
        #[serde(rename = "retry_after_ns", with = "crate::time::nanos")]
        retry_after: Span,
    },
    /// The controller refused the alert; its sender delivers it again after the pause.
    TurnedAway {
        /// The pause that the controller asked for (Retry-After).
        #[serde(rename = "retry_after_ns", with = "crate::time::nanos")]
        retry_after: Span,
    },
    /// The controller sent the request that creates the Job.
    JobSent,
    /// The investigation reached a stage of its timeline.
    Stage {
        /// The stage; each is reached at most once.
        stage: Stage,
    },
    /// The investigation ended.
    Ended {
        /// How it ended. Reported by the agent or, if it did not conclude, by the kubelet or the
        /// Job controller.
        outcome: Outcome,
    },
    /// The agent finished a hypothesis.
    Hypothesis {
        /// Tool calls since the last hypothesis.
        tool_calls: u32,
        /// LLM tokens of these calls, input and output.
        tokens: u32,
        /// Their cost in millionths of a dollar.
        cost_micro_usd: u64,
    },
    /// An action of the agent succeeded.
    Acted {
        /// The action.
        action: Action,
    },
    /// An action of the agent, or a request for a credential, was refused.
    Denied {
        /// The attempted action; a credential counts as a read of its domain.
        action: Action,
        /// The system that refused it.
        by: Refuser,
    },
    /// Vault issued a lease. Without an investigation if the lease is [unclaimed](Fact::LeaseUnclaimed)
    /// and the audit trail names none.
    LeaseIssued {
        /// Number of the lease, unique in the run. Vault's lease ID is in the log only where it is a
        /// reason why the run is invalid.
        lease: u64,
        /// Domain for which the credential is valid.
        domain: Domain,
        /// When it expires unless it is renewed.
        expires: Time,
    },
    /// Vault renewed a lease.
    LeaseRenewed {
        /// Number of the lease.
        lease: u64,
    },
    /// The agent returned a lease by revoking its token. Vault revokes the lease afterwards.
    LeaseReturned {
        /// Number of the lease.
        lease: u64,
    },
    /// Vault revoked a lease before its TTL was over.
    LeaseRevoked {
        /// Number of the lease.
        lease: u64,
    },
    /// Vault's expiration manager revoked a lease after its TTL was over.
    LeaseExpired {
        /// Number of the lease.
        lease: u64,
        /// Time from its expiry to its revocation.
        #[serde(rename = "lag_ns", with = "crate::time::nanos")]
        lag: Span,
    },
    /// An attempt to revoke a lease failed. Only recorded by the twin.
    RevokeFailed {
        /// Number of the lease.
        lease: u64,
        /// Failed attempts so far, this one included.
        attempts: u32,
    },
    /// Vault gave up revoking a lease after its last attempt.
    LeaseIrrevocable {
        /// Number of the lease.
        lease: u64,
    },
    /// The time from the alert to `until`, by component; recorded when the stage is reached.
    Waited {
        /// End of the time.
        until: Stage,
        /// Waits for components. The rest of the time is not explained.
        waits: Box<[Wait]>,
    },
    /// Back pressure of the controller began or ended.
    Pressure {
        /// Whether it began.
        shedding: bool,
    },
    /// A fault of the scenario began or ended.
    Fault {
        /// Kind of the fault.
        kind: crate::scenario::FaultKind,
        /// `true` at its start, `false` at its end.
        began: bool,
    },
    /// A sample of the platform's counters, taken at regular intervals and at the end of the run.
    Sample {
        /// Counters since the start of the run.
        sample: Box<Sample>,
    },
    /// A live run began. The twin does not record this fact, which is how logs are told apart.
    Began {
        /// Name of the provider: `local`, `kind` or `cluster`.
        provider: Box<str>,
    },
    /// A remark for the report, such as that a server was restarted or lost its data.
    Remark {
        /// The remark, as printed.
        text: Box<str>,
    },
    /// The run is invalid: its figures cannot be trusted.
    Invalid {
        /// The reason, as printed.
        why: Box<str>,
    },
    /// Result of the audit at the end of a live run.
    Audited {
        /// The result.
        audited: Box<Audited>,
    },
    /// The run was interrupted by SIGINT or SIGTERM before its last investigation ended.
    Interrupted,
    /// How long the platform's resources were occupied, recorded with each sample of a live run.
    Occupied {
        /// The resources whose counters could be read; each at most once.
        of: Box<[Occupation]>,
    },
    // The digest of an event log contains the index of a fact. New facts must come after all that
    // occur in logs.
    /// Vault issued a token in answer to an agent's login. Without an investigation as for
    /// [`Fact::LeaseIssued`].
    TokenIssued {
        /// Number of the token, unique in the run. The token is not part of the log; its accessor is only
        /// where it is a reason why the run is invalid.
        token: u64,
        /// When it expires.
        expires: Time,
    },
    /// A token was revoked before it expired: by its agent or, at the end of a live run, by the
    /// harness.
    TokenRevoked {
        /// Number of the token.
        token: u64,
    },
    /// A token expired.
    TokenExpired {
        /// Number of the token.
        token: u64,
    },
    /// Vault issued the lease, and no agent received it: the response was lost, or came after the
    /// agent's time-out or end. Only recorded on real servers, from Vault's audit trail.
    LeaseUnclaimed {
        /// Number of the lease.
        lease: u64,
    },
    /// The same of a token.
    TokenUnclaimed {
        /// Number of the token.
        token: u64,
    },
}

impl Event {
    /// A fact about an investigation.
    pub const fn of(at: Time, inv: InvestigationId, fact: Fact) -> Self {
        Self { at, inv: Some(inv), fact }
    }

    /// A fact about the platform.
    pub const fn platform(at: Time, fact: Fact) -> Self {
        Self { at, inv: None, fact }
    }
}

/// A receiver of events: the log's file, the digest, the measures.
pub trait Sink {
    /// Receives the next event. Events come in the order of time.
    fn take(&mut self, event: &Event);

    /// Writes out what is still buffered. Does nothing by default.
    fn flush(&mut self) {}
}

impl Sink for Vec<Event> {
    fn take(&mut self, event: &Event) {
        self.push(event.clone());
    }
}

/// Both receive every event, the first one first.
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
