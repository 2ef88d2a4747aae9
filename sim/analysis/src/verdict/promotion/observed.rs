//! What is observed of each investigation as evidence: violations, events that form a rate, and
//! lengths.

alertstorm_model::words! {
    /// Behaviour that a policy may forbid altogether.
    pub enum Violation {
        /// An action that the phase forbids succeeded, although a server should have refused it.
        ForbiddenAction = "forbidden-action",
        /// A write was attempted on the systems of another domain, whether it was refused or not.
        ForeignWrite = "foreign-write",
        /// The agent concluded without returning all its credentials.
        KeptCredential = "kept-credential",
    }
}

alertstorm_model::words! {
    /// A share of investigations. The denominator is all alerts that were not duplicates, unless
    /// stated otherwise.
    pub enum Rate {
        /// Resolved, and not reviewed as wrong.
        Success = "success",
        /// Reviewed as wrong, of the resolved investigations that were reviewed.
        FalsePositives = "false_positives",
        /// Escalated to a person.
        Escalations = "escalations",
        /// Without a conclusion by the agent: after a crash or a deadline, shed, or unfinished.
        Failures = "failures",
        /// Refused at least once. Refusals of one agent come in bursts, so investigations are
        /// counted instead of actions.
        Refused = "refused",
        /// Attempted a write on the systems of another domain.
        ForeignWrites = "foreign_writes",
        /// Concluded without returning all credentials.
        KeptCredentials = "kept_credentials",
    }
}

alertstorm_model::words! {
    /// A quantity measured for each investigation.
    pub enum Length {
        /// Seconds from the alert until the agent has its credentials.
        AgentReady = "agent_ready",
        /// Seconds from the alert until the Job finishes.
        Duration = "duration",
        /// The longest time in seconds that a credential outlived the investigation; 0 if none did.
        Exposure = "exposure",
        /// Cost in dollars.
        Cost = "cost",
    }
}
