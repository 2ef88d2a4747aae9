//! Promotion: whether the evidence justifies an agent's next trust phase. Each criterion is a rate of
//! investigations, judged by evidence that may be looked at at any time, so that looking often
//! promotes nobody by chance more often than the policy allows.

pub mod backtest;
mod cases;
mod judge;
mod policy;

pub use cases::{Case, Cases};
pub use judge::{Judgement, Record, State, Tally, Verdict, judge};
pub use policy::{Criterion, Least, Must, Policy, Zero, load};

alertstorm_model::words! {
    /// What is never tolerated.
    pub enum Violation {
        /// An action was done that the phase forbids: what should have refused it did not.
        ForbiddenAction = "forbidden-action",
        /// A write was attempted on the systems of a domain that is not the investigation's.
        ForeignWrite = "foreign-write",
        /// The agent concluded and kept its credentials.
        KeptCredential = "kept-credential",
    }
}

alertstorm_model::words! {
    /// What is counted, of all investigations that have an outcome unless it says otherwise.
    pub enum Rate {
        /// Resolved, and not found wrong.
        Success = "success",
        /// Found wrong, of those that resolved and were reviewed.
        FalsePositives = "false_positives",
        /// Handed over to a person.
        Escalations = "escalations",
        /// Ended without a conclusion of the agent's own.
        Failures = "failures",
        /// Refused something at least once. Refusals of one agent come in bursts, so investigations
        /// are counted, and not actions.
        Refused = "refused",
        /// Attempted a write on the systems of a domain that is not the investigation's.
        ForeignWrites = "foreign_writes",
        /// Concluded and kept its credentials.
        KeptCredentials = "kept_credentials",
    }
}

alertstorm_model::words! {
    /// What is measured of each investigation.
    pub enum Length {
        /// From the alert to its credentials, in seconds.
        AgentReady = "agent_ready",
        /// From the alert to the Job's end, in seconds.
        Duration = "duration",
        /// The longest time that a credential outlived it, in seconds; 0 where none did.
        Exposure = "exposure",
        /// Dollars.
        Cost = "cost",
    }
}
