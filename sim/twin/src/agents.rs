//! The agents: the model's state machines, driven in virtual time.

use std::iter;

use alertstorm_model::agent::{Heard, Want};
use alertstorm_model::event::{Component, Fact};
use alertstorm_model::investigation::{Domain, Outcome, Stage};
use alertstorm_model::phase::{Action, Phase, Verb};

use crate::agenda::Ev;
use crate::apiserver::{Client, Then};
use crate::costs::{self, Op};
use crate::investigation::{PodPhase, Who};
use crate::world::World;

impl World<'_> {
    /// The agent's process is up.
    pub(crate) fn agent_starts(&mut self, who: Who) {
        let plan = self.plan;
        let Some(inv) = self.invs.get_mut(who) else {
            return;
        };
        if inv.phase == PodPhase::Running && inv.outcome.is_none() && inv.agent.is_none() {
            inv.agent = Some(Box::new(plan.agent(&inv.alert)));
            self.drive(who, Heard::Started);
        }
    }

    /// Whether the agent runs and has not been asked to stop.
    pub(crate) fn agent_works(&self, who: Who) -> bool {
        self.invs.get(who).is_some_and(|inv| inv.agent.is_some() && !inv.terminating)
    }

    /// The kubelet asks the agent's process to stop.
    pub(crate) fn terminate(&mut self, who: Who, outcome: Outcome) {
        let Some(inv) = self.invs.get_mut(who) else {
            return;
        };
        match inv.agent.as_mut().map(|agent| agent.terminate(outcome)) {
            Some(Want::Release) => {
                inv.terminating = true;
                self.vault_release(who);
            }
            _ => self.process_ends(who, outcome),
        }
    }

    /// Vault answered the release, or could not.
    pub(crate) fn release_answered(&mut self, who: Who) {
        if let Some(inv) = self.invs.get_mut(who) {
            inv.terminating = false;
            self.drive(who, Heard::Done);
        }
    }

    /// Tells the agent what it heard, and does what it wants until it has to wait.
    pub(crate) fn drive(&mut self, who: Who, mut heard: Heard) {
        let now = self.now();
        loop {
            let Some(inv) = self.invs.get_mut(who).filter(|inv| !inv.terminating) else {
                return;
            };
            let Some(agent) = &mut inv.agent else { return };
            let want = agent.next(now, heard);
            if let (Heard::Unavailable, Want::Work(_, pause)) = (heard, want) {
                let away =
                    if self.vault.sealed { Component::VaultDown } else { Component::Postgres };
                inv.wait(away, pause);
            }
            heard = Heard::Done;
            match want {
                Want::Login => return self.vault_login(who),
                Want::Credential(domain) => return self.vault_credential(who, domain),
                Want::Release => return self.vault_release(who),
                Want::Work(_, takes) => {
                    // Nobody looks at the agent before it wants something else.
                    let agent = self.invs.get_mut(who).and_then(|inv| inv.agent.as_mut());
                    let rest =
                        agent.into_iter().flat_map(|agent| iter::from_fn(|| agent.works_on()));
                    let takes = rest.fold(takes, |sum, more| sum + more);
                    if takes.0 == 0 {
                        continue;
                    }
                    return self.engine.after(takes, Ev::AgentStep(who.slot, who.generation));
                }
                Want::Act(action) => {
                    inv.acting = Some(action);
                    return self.act(who);
                }
                Want::Hang => return,
                Want::Ready => {
                    self.stage(who, Stage::CredentialsReady);
                    self.tell_waits(who, Stage::CredentialsReady);
                }
                Want::Hold(memory) => {
                    if memory > self.plan.scenario().controller.job.memory_limit {
                        return self.process_ends(who, Outcome::OomKilled);
                    }
                }
                Want::Note { tool_calls, tokens, cost_micro_usd } => {
                    inv.cost_micro_usd += cost_micro_usd;
                    self.fact(who, Fact::Hypothesis { tool_calls, tokens, cost_micro_usd });
                }
                Want::Conclude(_) => self.stage(who, Stage::AgentDone),
                Want::Exit(outcome) => return self.process_ends(who, outcome),
                Want::Crash => return self.process_ends(who, Outcome::Crashed),
            }
        }
    }

    fn process_ends(&mut self, who: Who, outcome: Outcome) {
        self.end(who, outcome);
        self.container_ended(who);
    }

    /// The agent attempts its action. What is forbidden is attempted too: somebody refuses it.
    pub(crate) fn act(&mut self, who: Who) {
        let phase = self.plan.scenario().phase;
        let Some(inv) = self.invs.get(who) else {
            return;
        };
        let Some(action) = inv.acting else { return };
        let allowed = phase.allows(inv.alert.domain, action);
        match action.target {
            Domain::Application => {
                let op = match (allowed, action.verb) {
                    (false, _) => Op::AgentRefused,
                    (true, Verb::Read) => Op::AgentGet,
                    (true, _) => Op::AgentPatch,
                };
                self.call(Client::Agent, op, who, Then::AgentActed, false);
            }
            Domain::Database => self.statement(who),
            Domain::Network | Domain::Security => {
                self.engine.after(costs::EXTERNAL_CALL, Ev::AgentActed(who.slot, who.generation));
            }
        }
    }

    /// The system answered the agent's action.
    pub(crate) fn acted(&mut self, who: Who) {
        let phase = self.plan.scenario().phase;
        let Some(inv) = self.invs.get_mut(who) else {
            return;
        };
        let Some(action) = inv.acting.take().filter(|_| inv.agent.is_some()) else {
            return;
        };
        if phase.allows(inv.alert.domain, action) {
            self.fact(who, Fact::Acted { action });
            self.drive(who, Heard::Done);
        } else {
            self.fact(who, Fact::Denied { action, by: Phase::refuser(action) });
            self.drive(who, Heard::Refused);
        }
    }

    /// The system did not answer: the action is not done, and the agent goes on without it.
    pub(crate) fn action_failed(&mut self, who: Who) {
        if let Some(inv) = self.invs.get_mut(who)
            && inv.acting.take().is_some()
        {
            self.drive(who, Heard::Done);
        }
    }

    /// Vault's policy refuses a credential that the phase does not grant.
    pub(crate) fn credential_refused(&mut self, who: Who, target: Domain) {
        let action = Action { verb: Verb::Read, target };
        let by = alertstorm_model::phase::Refuser::VaultPolicy;
        self.fact(who, Fact::Denied { action, by });
        self.drive(who, Heard::Refused);
    }
}
