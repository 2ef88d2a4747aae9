//! The vocabulary of an investigation: its id, domain, severity, stages and outcomes.
//!
//! ```
//! use alertstorm_model::investigation::{InvestigationId, Outcome, Stage};
//!
//! assert_eq!(InvestigationId(7).to_string(), "inv-0000007");
//! assert!(Stage::PodRunning < Stage::CredentialsReady);
//! assert!(Outcome::Escalated.concluded() && !Outcome::OomKilled.concluded());
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

/// An investigation, by the number of the alert that started it.
///
/// The number is a function of (plan, seed) alone, so an alert delivered twice, or delivered again
/// to a restarted controller, names the same investigation and the same Job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InvestigationId(pub u64);

impl fmt::Display for InvestigationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "inv-{:07}", self.0)
    }
}

words! {
    /// Area of an alert; decides the agent's profile and the credentials that it may get.
    pub enum Domain {
        /// Network: links, routes, flows.
        Network = "network",
        /// Databases: queries, locks, replication.
        Database = "database",
        /// Applications: services and their releases.
        Application = "application",
        /// Security: access and abuse.
        Security = "security",
    }
}

words! {
    /// Severity of an alert, the most urgent first.
    pub enum Severity {
        /// Users are affected now.
        Critical = "critical",
        /// Users will be affected soon.
        High = "high",
        /// A service is degraded.
        Medium = "medium",
        /// No immediate effect.
        Low = "low",
    }
}

words! {
    /// The stages of an investigation's timeline, in their order.
    pub enum Stage {
        /// The alert was due: its intended instant, not the time of its delivery.
        Alert = "alert",
        /// The controller took the alert from its queue and requested the Job.
        Admitted = "admitted",
        /// The API server answered the request that creates the Job.
        JobCreated = "job_created",
        /// The Job controller's pod was written to etcd.
        PodCreated = "pod_created",
        /// The scheduler bound the pod to a node.
        PodScheduled = "pod_scheduled",
        /// The pod's status became Running.
        PodRunning = "pod_running",
        /// Vault issued the agent's token.
        VaultLogin = "vault_login",
        /// The agent has all credentials that it needs at its start.
        CredentialsReady = "credentials_ready",
        /// The agent reached its conclusion.
        AgentDone = "agent_done",
        /// The agent revoked its token, and with it all its leases.
        LeasesReleased = "leases_released",
        /// The Job's status became Complete or Failed.
        JobFinished = "job_finished",
        /// The Job was deleted from etcd.
        JobCollected = "job_collected",
    }
}

words! {
    /// How an investigation ended.
    pub enum Outcome {
        /// The agent found the cause.
        Resolved = "resolved",
        /// The agent gave up, or ran out of hypotheses.
        Inconclusive = "inconclusive",
        /// The agent handed over to a person.
        Escalated = "escalated",
        /// The agent's process died.
        Crashed = "crashed",
        /// The agent exceeded the memory limit of its pod.
        OomKilled = "oom_killed",
        /// The Job ran longer than activeDeadlineSeconds.
        DeadlineExceeded = "deadline_exceeded",
        /// The agent stopped because it was refused something that its phase forbids.
        Denied = "denied",
        /// Vault issued no token or no credential within the client timeout.
        VaultUnavailable = "vault_unavailable",
        /// The pod's node was lost, or the pod was deleted from outside.
        Evicted = "evicted",
    }
}

impl Outcome {
    /// Whether the agent reached a conclusion; its Job is then Complete, else Failed.
    pub const fn concluded(self) -> bool {
        matches!(self, Self::Resolved | Self::Inconclusive | Self::Escalated)
    }
}

words! {
    /// The identity with which agents log in to Vault and Kubernetes.
    pub enum IdentityKind {
        /// All agents of a domain share a ServiceAccount and a Vault entity. Only the Job's trail tells
        /// investigations apart.
        SharedAgent = "shared-agent",
        /// Each investigation has its own ServiceAccount and Vault entity.
        PerInvestigation = "per-investigation",
    }
}
