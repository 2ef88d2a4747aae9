//! The environment of an agent and the events that it reports. A hollow kubelet and the program in
//! the pod implement [`World`], each in its own way.

use std::future::Future;
use std::net::Ipv4Addr;

use alertstorm_model::investigation::{Domain, Stage};
use alertstorm_model::phase::{Refuser, Verb};
use alertstorm_model::quantity::Bytes;
use alertstorm_model::time::{Span, Time};
use serde::{Deserialize, Serialize};

use crate::{postgres, vault};

/// An event that an agent reports, timed by [`World::now`]. The serialized names are one letter
/// long: a pod's termination message holds all of its events in 4096 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentReport {
    /// It reached a stage.
    #[serde(rename = "s")]
    Stage(Stage),
    /// It finished a hypothesis: tool calls, tokens, cost in millionths of a dollar.
    #[serde(rename = "h")]
    Hypothesis(u32, u32, u64),
    /// An action succeeded.
    #[serde(rename = "a")]
    Acted(Verb, Domain),
    /// An action or a credential was denied, and by which system.
    #[serde(rename = "d")]
    Denied(Verb, Domain, Refuser),
    /// The Vault login succeeded: the accessor of the token, when the request was sent, the
    /// token's time-to-live.
    #[serde(rename = "l")]
    Login(String, Time, Span),
    /// Vault created this PostgreSQL user for it.
    #[serde(rename = "u")]
    User(String),
    /// Vault issued a lease: its id, the domain of the credential, when the request was sent, the
    /// time-to-live.
    #[serde(rename = "i")]
    Issued(String, Domain, Time, Span),
    /// Vault renewed a lease: its id, when the request was sent, the new time-to-live.
    #[serde(rename = "r")]
    Renewed(String, Time, Span),
    /// It revoked its own token, by the accessor, and with it all of its leases.
    #[serde(rename = "b")]
    Returned(String),
}

impl AgentReport {
    /// The same event with its times converted: they count from `start` before, and are on the
    /// clock of `start` after.
    #[must_use]
    pub fn counted_from(self, start: Time) -> Self {
        let moved = |at: Time| start + at.since(Time::ZERO);
        match self {
            Self::Issued(lease, domain, asked, ttl) => {
                Self::Issued(lease, domain, moved(asked), ttl)
            }
            Self::Renewed(lease, asked, ttl) => Self::Renewed(lease, moved(asked), ttl),
            Self::Login(accessor, asked, ttl) => Self::Login(accessor, moved(asked), ttl),
            other => other,
        }
    }
}

/// The result of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acted {
    /// It succeeded.
    Done,
    /// It was denied by this system.
    Refused(Refuser),
    /// The system did not answer in time. The agent continues without the action.
    Failed,
}

/// The environment of an agent: a real pod, or a task of a hollow kubelet.
pub trait World: Send + Sync + 'static {
    /// Now, on the clock of the events that it reports.
    fn now(&self) -> Time;
    /// Records an event with the current time.
    fn report(&self, report: AgentReport);
    /// Reads or changes an application's object in Kubernetes, with the pod's token.
    fn on_kubernetes(&self, verb: Verb) -> impl Future<Output = Acted> + Send;
    /// Allocates this much memory in all; false when that exceeds the container's limit.
    fn hold(&self, memory: Bytes) -> bool;
}

/// The servers that an agent connects to, and its identity.
#[derive(Clone)]
pub struct Places {
    /// Vault's URL and certificate authority.
    pub vault: vault::Address,
    /// PostgreSQL's address and certificate authority.
    pub postgres: postgres::Address,
    /// The source address of its connections; none for the host's default.
    pub from: Option<Ipv4Addr>,
    /// Its ServiceAccount token with Vault as the audience.
    pub token: String,
}

impl std::fmt::Debug for Places {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "vault at {}, PostgreSQL at {}", self.vault.url, self.postgres)
    }
}
