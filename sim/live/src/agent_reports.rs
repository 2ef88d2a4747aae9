//! Receives agents' reports. They become events, changes of the lease book, and the ground truth
//! for the forensics.

use alertstorm_agent::AgentReport;
use alertstorm_model::event::{Event, Fact};
use alertstorm_model::investigation::InvestigationId;
use alertstorm_model::phase::Action;
use alertstorm_model::time::Time;

use crate::forensics::Truth;
use crate::leases::LeaseBook;
use crate::reporter::{Observation, Reporter};
use crate::shard::wire::Wire;
use crate::tokens::TokenBook;

/// The receiver of agents' reports; clones share the same state.
#[derive(Clone, Debug)]
pub struct AgentReports {
    /// Sends messages to the engine.
    pub reporter: Reporter,
    /// The run's leases. In a shard it is unused: the process that merges the shards keeps the
    /// leases.
    pub book: LeaseBook,
    /// The Vault tokens of agents' logins; likewise.
    pub tokens: TokenBook,
    /// What agents did, to compare the servers' audit logs with.
    pub truth: Truth,
    /// In a shard: forwards each journal to the process that merges the shards.
    pub wire: Option<Wire>,
}

impl AgentReports {
    /// A receiver that has received nothing. In a shard it has a `wire`.
    pub fn new(reporter: Reporter, wire: Option<Wire>) -> Self {
        let (book, tokens) = (LeaseBook::new(reporter.clone()), TokenBook::new(reporter.clone()));
        Self { reporter, book, tokens, truth: Truth::default(), wire }
    }

    /// Receives the whole journal of the agent of `id`, which ran in `pod`.
    pub fn receive_journal(&self, id: InvestigationId, pod: &str, log: Vec<(Time, AgentReport)>) {
        if let Some(wire) = &self.wire {
            wire.journal(id, pod, &log);
        }
        let is_empty = log.is_empty();
        for (at, report) in log {
            let of_vault = matches!(
                report,
                AgentReport::Login(..)
                    | AgentReport::Issued(..)
                    | AgentReport::Renewed(..)
                    | AgentReport::Returned(_)
            );
            if self.wire.is_none() || !of_vault {
                self.receive(id, pod, at, report);
            }
        }
        self.book.journal_read(id, is_empty);
        self.tokens.journal_read(id, is_empty);
    }

    /// Receives one report of the agent of `id`, which runs in `pod`; `at` is on the run's clock.
    pub fn receive(&self, id: InvestigationId, pod: &str, at: Time, report: AgentReport) {
        let fact = |fact: Fact| self.reporter.send(Observation::Fact(Event::of(at, id, fact)));
        match report {
            AgentReport::Stage(stage) => fact(Fact::Stage { stage }),
            AgentReport::Hypothesis(tool_calls, tokens, cost_micro_usd) => {
                fact(Fact::Hypothesis { tool_calls, tokens, cost_micro_usd });
            }
            AgentReport::Acted(verb, target) => {
                fact(Fact::Acted { action: Action { verb, target } });
            }
            AgentReport::Denied(verb, target, by) => {
                self.truth.denied(by);
                fact(Fact::Denied { action: Action { verb, target }, by });
            }
            AgentReport::Login(accessor, asked, ttl) => {
                self.truth.session(pod, id);
                self.tokens.issued(&accessor, id, at, asked + ttl);
            }
            AgentReport::User(user) => self.truth.user(&user, id),
            AgentReport::Issued(lease, domain, asked, ttl) => {
                self.book.issued(&lease, id, domain, at, asked + ttl);
            }
            AgentReport::Renewed(lease, asked, ttl) => self.book.renewed(&lease, at, asked + ttl),
            AgentReport::Returned(accessor) => {
                self.tokens.revoked(&accessor, at);
                self.book.returned(id, at);
            }
        }
    }
}
