//! What an agent is told at its start: whom it is, what it will do, and what is around it.

use std::num::NonZeroU32;

use alertstorm_model::agent::Trace;
use alertstorm_model::alert::Alert;
use alertstorm_model::investigation::{Domain, InvestigationId};
use alertstorm_model::phase::Phase;
use alertstorm_model::quantity::Bytes;
use alertstorm_model::scenario::Plan;
use alertstorm_model::scenario::knobs::{AuthMethod, Engine};
use alertstorm_model::time::Span;
use serde::{Deserialize, Serialize};

/// Where a domain's credentials come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The engine, mounted at the domain's name.
    pub engine: Engine,
    /// Configurations that share the load; an investigation keeps to one.
    pub configs: NonZeroU32,
    /// How long a lease lives.
    pub ttl: Span,
}

/// One agent's task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The investigation.
    pub id: InvestigationId,
    /// What it is about.
    pub domain: Domain,
    /// How far the agent is trusted.
    pub phase: Phase,
    /// How it proves to Vault who it is.
    pub auth: AuthMethod,
    /// Sources of credentials, in the order of [`Domain::ALL`].
    pub sources: [Source; Domain::COUNT],
    /// How long it tries a Vault that fails.
    pub patience: Span,
    /// Its container's memory limit.
    pub memory_limit: Bytes,
    /// The namespace that it lives in.
    pub namespace: String,
    /// What it does.
    pub trace: Trace,
}

impl Task {
    /// The task of an alert's agent.
    pub fn new(plan: &Plan, alert: &Alert, namespace: &str) -> Self {
        let scenario = &plan.scenario;
        let source = |domain: Domain| {
            let of = scenario.vault.secrets.of(domain);
            Source { engine: of.engine, configs: of.configs, ttl: of.ttl }
        };
        Self {
            id: alert.id,
            domain: alert.domain,
            phase: scenario.phase,
            auth: scenario.vault.auth,
            sources: std::array::from_fn(|n| source(Domain::ALL[n])),
            patience: scenario.vault.client_timeout,
            memory_limit: scenario.controller.job.memory_limit,
            namespace: namespace.to_owned(),
            trace: plan.trace(alert),
        }
    }

    /// The source of a domain's credentials.
    pub const fn source(&self, domain: Domain) -> Source {
        self.sources[domain.index()]
    }
}
