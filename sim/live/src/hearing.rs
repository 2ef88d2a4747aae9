//! What agents tell becomes facts, leases in the book, and the truth that trails are judged by.

use alertstorm_agent::Told;
use alertstorm_model::event::{Event, Fact};
use alertstorm_model::investigation::InvestigationId;
use alertstorm_model::phase::Action;
use alertstorm_model::time::Time;

use crate::forensics::Truth;
use crate::leases::LeaseBook;
use crate::reporter::{Note, Reporter};
use crate::shard::wire::Wire;

/// Hears agents.
#[derive(Clone, Debug)]
pub struct Hearing {
    /// Tells the engine.
    pub reporter: Reporter,
    /// The book of leases.
    pub book: LeaseBook,
    /// The ground truth of what agents did, to judge trails by.
    pub truth: Truth,
    /// In a shard: where agents' journals go, for whoever has book and truth.
    pub wire: Option<Wire>,
}

impl Hearing {
    /// Hears all that the agent of `id` in `pod` told.
    pub fn hear_all(&self, id: InvestigationId, pod: &str, log: Vec<(Time, Told)>) {
        if let Some(wire) = &self.wire {
            wire.journal(id, pod, &log);
        }
        for (at, told) in log {
            // Of leases a shard knows nothing.
            let of_leases = matches!(told, Told::Issued(..) | Told::Renewed(..) | Told::Returned);
            if self.wire.is_none() || !of_leases {
                self.hear(id, pod, at, told);
            }
        }
        self.book.told_all(id);
    }

    /// Hears what the agent of `id` in `pod` told at an instant of the run.
    pub fn hear(&self, id: InvestigationId, pod: &str, at: Time, told: Told) {
        let fact = |fact: Fact| self.reporter.note(Note::Fact(Event::of(at, id, fact)));
        match told {
            Told::Stage(stage) => fact(Fact::Stage { stage }),
            Told::Hypothesis(tool_calls, tokens, cost_micro_usd) => {
                fact(Fact::Hypothesis { tool_calls, tokens, cost_micro_usd });
            }
            Told::Acted(verb, target) => fact(Fact::Acted { action: Action { verb, target } }),
            Told::Denied(verb, target, by) => {
                self.truth.denied(by);
                fact(Fact::Denied { action: Action { verb, target }, by });
            }
            Told::Login => self.truth.session(pod, id),
            Told::User(user) => self.truth.user(&user, id),
            Told::Issued(lease, domain, asked, ttl) => {
                self.book.issued(&lease, id, domain, at, asked + ttl);
            }
            Told::Renewed(lease, asked, ttl) => self.book.renewed(&lease, at, asked + ttl),
            Told::Returned => self.book.returned(id, at),
        }
    }
}
