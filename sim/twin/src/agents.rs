//! The agents: runs the model's state machine in virtual time and carries out its commands.

use alertstorm_model::agent::{AgentCommand, AgentInput};
use alertstorm_model::event::{Component, Fact};
use alertstorm_model::investigation::{Domain, Outcome, Stage};
use alertstorm_model::phase::{Phase, Verb};

use crate::agenda::Ev;
use crate::arena::Key;
use crate::call::{Client, Then};
use crate::costs::{self, Op};
use crate::investigation::Inv;
use crate::pod::PodPhase;
use crate::world::World;

impl World<'_> {
    /// The container has run for [`alertstorm_model::kubelet::AGENT_START`].
    pub(crate) fn start_agent(&mut self, who: Key<Inv>) {
        let plan = self.plan;
        let Some(inv) = self.invs.get_mut(who) else {
            return;
        };
        let runs = inv.pod.phase() == PodPhase::Running;
        if runs && !inv.is_over() && !inv.agent.is_running() {
            inv.agent.start(plan.agent(&inv.alert()));
            self.resume_agent(who, AgentInput::Started);
        }
    }

    /// The kubelet sends SIGTERM to the agent's process.
    pub(crate) fn terminate(&mut self, who: Key<Inv>, outcome: Outcome) {
        let Some(inv) = self.invs.get_mut(who) else {
            return;
        };
        if inv.agent.terminate(outcome) {
            self.release_token(who);
        } else {
            self.end_process(who, outcome);
        }
    }

    /// Vault answered the revocation of the token, or was sealed.
    pub(crate) fn on_release_answer(&mut self, who: Key<Inv>) {
        if let Some(inv) = self.invs.get_mut(who) {
            inv.agent.release_answered();
            self.resume_agent(who, AgentInput::Done);
        }
    }

    /// A request to Vault failed. The agent's pause before its next attempt is booked on `cause`;
    /// `None` if no server caused it, as with an expired token.
    pub(crate) fn on_vault_refusal(&mut self, who: Key<Inv>, cause: Option<Component>) {
        self.run_agent(who, AgentInput::Unavailable, cause);
    }

    /// Passes an input to the agent and carries out its commands until it has to wait.
    pub(crate) fn resume_agent(&mut self, who: Key<Inv>, input: AgentInput) {
        self.run_agent(who, input, None);
    }

    fn run_agent(&mut self, who: Key<Inv>, mut input: AgentInput, mut cause: Option<Component>) {
        let now = self.now();
        loop {
            let Some(inv) = self.invs.get_mut(who) else {
                return;
            };
            let Some(command) = inv.agent.next(now, input) else {
                return;
            };
            if let (Some(cause), AgentCommand::Work(_, pause)) = (cause.take(), command) {
                inv.wait(cause, pause);
            }
            input = AgentInput::Done;
            match command {
                AgentCommand::Login => return self.log_in(who),
                AgentCommand::Credential(domain) => return self.request_credential(who, domain),
                AgentCommand::Release => return self.release_token(who),
                AgentCommand::Work(_, takes) => {
                    // One event for all the work up to the next command of another kind.
                    let takes = takes + inv.agent.rest_of_work();
                    if takes.0 == 0 {
                        continue;
                    }
                    return self.engine.after(takes, Ev::AgentStep(who));
                }
                AgentCommand::Act(action) => {
                    inv.agent.await_action(action);
                    return self.attempt_action(who);
                }
                AgentCommand::Hang => return,
                AgentCommand::Ready => {
                    self.stage(who, Stage::CredentialsReady);
                    self.record_waits(who, Stage::CredentialsReady);
                }
                AgentCommand::Hold(memory) => {
                    if memory > self.plan.scenario().controller.job.memory_limit {
                        return self.end_process(who, Outcome::OomKilled);
                    }
                }
                AgentCommand::Note { tool_calls, tokens, cost_micro_usd } => {
                    inv.agent.spend(cost_micro_usd);
                    self.fact(who, Fact::Hypothesis { tool_calls, tokens, cost_micro_usd });
                }
                AgentCommand::Conclude(_) => self.stage(who, Stage::AgentDone),
                AgentCommand::Exit(outcome) => return self.end_process(who, outcome),
                AgentCommand::Crash => return self.end_process(who, Outcome::Crashed),
            }
        }
    }

    fn end_process(&mut self, who: Key<Inv>, outcome: Outcome) {
        self.end(who, outcome);
        self.end_container(who);
    }

    /// The agent attempts its action. An action that its phase forbids is sent too, and refused by
    /// the target system.
    pub(crate) fn attempt_action(&mut self, who: Key<Inv>) {
        let phase = self.plan.scenario().phase;
        let Some(inv) = self.invs.get(who) else {
            return;
        };
        let Some(action) = inv.agent.action() else { return };
        let allowed = phase.allows(inv.alert().domain, action);
        match action.target {
            Domain::Application => {
                let op = match (allowed, action.verb) {
                    (false, _) => Op::AgentRefused,
                    (true, Verb::Read) => Op::AgentGet,
                    (true, _) => Op::AgentPatch,
                };
                self.call(Client::Agent(who), op, Then::AgentActed(who), None);
            }
            Domain::Database => self.run_statement(who),
            Domain::Network | Domain::Security => {
                self.engine.after(costs::EXTERNAL_CALL, Ev::AgentActed(who));
            }
        }
    }

    /// The target system answered, with success or with a refusal.
    pub(crate) fn on_action_answer(&mut self, who: Key<Inv>) {
        let phase = self.plan.scenario().phase;
        let Some(inv) = self.invs.get_mut(who) else {
            return;
        };
        let action = inv.agent.take_action();
        let Some(action) = action.filter(|_| inv.agent.is_running()) else {
            return;
        };
        if phase.allows(inv.alert().domain, action) {
            self.fact(who, Fact::Acted { action });
            self.resume_agent(who, AgentInput::Done);
        } else {
            self.fact(who, Fact::Denied { action, by: Phase::refuser(action) });
            self.resume_agent(who, AgentInput::Refused);
        }
    }

    /// The target system did not answer: the agent goes on without the action.
    pub(crate) fn on_action_failed(&mut self, who: Key<Inv>) {
        if self.invs.get_mut(who).is_some_and(|inv| inv.agent.take_action().is_some()) {
            self.resume_agent(who, AgentInput::Done);
        }
    }
}
