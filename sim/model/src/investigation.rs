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

/// An investigation, by the number of the alert that began it.
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
    /// What an investigation is about; decides its agent's profile and its credentials.
    pub enum Domain {
        /// Links, routes, flows.
        Network = "network",
        /// Queries, locks, replication.
        Database = "database",
        /// Services and their releases.
        Application = "application",
        /// Access and abuse.
        Security = "security",
    }
}

words! {
    /// How urgent an alert is, the most urgent first.
    pub enum Severity {
        /// Users are hurt now.
        Critical = "critical",
        /// Users will be hurt soon.
        High = "high",
        /// Something is degraded.
        Medium = "medium",
        /// Worth a look.
        Low = "low",
    }
}

words! {
    /// The instants of an investigation's timeline, in their order.
    pub enum Stage {
        /// The alert's intended instant.
        Alert = "alert",
        /// The controller decided to investigate now.
        Admitted = "admitted",
        /// The API server answered the creation of the Job.
        JobCreated = "job_created",
        /// The Job controller's pod is in etcd.
        PodCreated = "pod_created",
        /// The pod is bound to a node.
        PodScheduled = "pod_scheduled",
        /// The pod's status says Running.
        PodRunning = "pod_running",
        /// Vault gave the agent a token.
        VaultLogin = "vault_login",
        /// Every credential that the agent needs to begin is there.
        CredentialsReady = "credentials_ready",
        /// The agent concluded.
        AgentDone = "agent_done",
        /// The agent gave its leases back.
        LeasesReleased = "leases_released",
        /// The Job's status says Complete or Failed.
        JobFinished = "job_finished",
        /// The Job is gone from etcd.
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
        /// The agent took more memory than its pod may.
        OomKilled = "oom_killed",
        /// The Job ran longer than activeDeadlineSeconds.
        DeadlineExceeded = "deadline_exceeded",
        /// The agent could not go on without what its phase forbids.
        Denied = "denied",
        /// Vault gave no token or no credential in time.
        VaultUnavailable = "vault_unavailable",
        /// The pod's node was lost, or the pod was deleted from outside.
        Evicted = "evicted",
    }
}

impl Outcome {
    /// Whether the agent came to a conclusion of its own, so that its Job is Complete.
    pub const fn concluded(self) -> bool {
        matches!(self, Self::Resolved | Self::Inconclusive | Self::Escalated)
    }
}

words! {
    /// Whose identity the agent shows to Vault and Kubernetes.
    pub enum IdentityKind {
        /// One Vault role and ServiceAccount a phase; the trail is the Job's.
        SharedAgent = "shared-agent",
        /// A ServiceAccount and a Vault entity for each investigation.
        PerInvestigation = "per-investigation",
    }
}
