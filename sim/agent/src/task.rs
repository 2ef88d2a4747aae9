//! The task of an agent, which its pod receives in the variable `ALERTSTORM_TASK`.

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

use crate::names::Names;

/// The secrets engine of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Its type; mounted at [`Names::mount`].
    pub engine: Engine,
    /// Database connections (`config/…`) that share the load; each investigation uses one of them.
    pub configs: NonZeroU32,
    /// The time-to-live of a lease.
    pub ttl: Span,
}

/// One agent's task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The investigation.
    pub id: InvestigationId,
    /// The alert's domain.
    pub domain: Domain,
    /// The trust phase, which decides what the agent may do.
    pub phase: Phase,
    /// The method of its Vault login.
    pub auth: AuthMethod,
    /// Secrets engines in the order of [`Domain::ALL`].
    pub sources: [Source; Domain::COUNT],
    /// How long it retries requests to Vault that fail.
    pub patience: Span,
    /// Its container's `limits.memory`.
    pub memory_limit: Bytes,
    /// The names of its run.
    pub names: Names,
    /// The steps that it follows.
    pub trace: Trace,
}

impl Task {
    /// The task of an alert's agent.
    pub fn new(plan: &Plan, alert: &Alert, names: &Names) -> Self {
        let scenario = plan.scenario();
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
            names: names.clone(),
            trace: plan.trace(alert),
        }
    }

    /// The source of a domain's credentials.
    pub const fn source(&self, domain: Domain) -> Source {
        self.sources[domain.index()]
    }
}
