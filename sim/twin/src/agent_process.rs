//! The agent's process in its container: the model's state machine, and what it waits for.

use std::iter;

use alertstorm_model::agent::{Agent, AgentCommand, AgentInput};
use alertstorm_model::investigation::{Domain, Outcome};
use alertstorm_model::phase::Action;
use alertstorm_model::time::{Span, Time};

#[derive(Debug, Default)]
pub(crate) struct AgentProcess {
    /// Empty before the process starts and after it ends.
    agent: Option<Box<Agent>>,
    /// It got SIGTERM and is revoking its token; other answers are ignored.
    terminating: bool,
    /// The domain of the credential it waits for.
    credential: Option<Domain>,
    /// The action whose answer it waits for.
    action: Option<Action>,
    cost_micro_usd: u64,
}

impl AgentProcess {
    pub fn start(&mut self, agent: Agent) {
        self.agent = Some(Box::new(agent));
    }

    pub const fn is_running(&self) -> bool {
        self.agent.is_some()
    }

    pub const fn is_terminating(&self) -> bool {
        self.terminating
    }

    /// The process has ended or was killed.
    pub fn stop(&mut self) {
        self.agent = None;
    }

    /// Sends SIGTERM; returns whether the agent revokes its token before it exits.
    pub fn terminate(&mut self, outcome: Outcome) -> bool {
        let command = self.agent.as_mut().map(|agent| agent.terminate(outcome));
        let releases = command == Some(AgentCommand::Release);
        self.terminating |= releases;
        releases
    }

    /// Vault answered the revocation of the token, or was sealed.
    pub const fn release_answered(&mut self) {
        self.terminating = false;
    }

    /// The agent's next command; `None` if it does not run or is terminating.
    pub fn next(&mut self, now: Time, input: AgentInput) -> Option<AgentCommand> {
        if self.terminating {
            return None;
        }
        self.agent.as_mut().map(|agent| agent.next(now, input))
    }

    /// Takes all further steps that need no answer from outside; returns the time that they take.
    pub fn rest_of_work(&mut self) -> Span {
        let agent = self.agent.iter_mut();
        let rest = agent.flat_map(|agent| iter::from_fn(|| agent.works_on()));
        rest.fold(Span::ZERO, |sum, more| sum + more)
    }

    pub const fn await_credential(&mut self, domain: Domain) {
        self.credential = Some(domain);
    }

    pub const fn take_credential(&mut self) -> Option<Domain> {
        self.credential.take()
    }

    pub const fn await_action(&mut self, action: Action) {
        self.action = Some(action);
    }

    pub const fn action(&self) -> Option<Action> {
        self.action
    }

    pub const fn take_action(&mut self) -> Option<Action> {
        self.action.take()
    }

    pub const fn spend(&mut self, micro_usd: u64) {
        self.cost_micro_usd += micro_usd;
    }

    pub const fn cost_micro_usd(&self) -> u64 {
        self.cost_micro_usd
    }
}
