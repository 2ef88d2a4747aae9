//! The agent as a state machine: it returns its next command and receives the result. The twin
//! carries out commands in virtual time, the program in the pod on real servers.

use std::collections::VecDeque;

use super::trace::{End, Ending, Step, Tool, Trace};
use crate::investigation::{Domain, Outcome};
use crate::phase::Action;
use crate::quantity::Bytes;
use crate::time::{Span, Time};

/// First pause after Vault failed; doubles up to [`BACKOFF_MAX`].
const BACKOFF: Span = Span::secs(1);
/// Longest pause between attempts.
const BACKOFF_MAX: Span = Span::secs(16);

/// The result of the agent's last command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentInput {
    /// The container runs; the first input.
    Started,
    /// The last command succeeded.
    Done,
    /// The server refused the last command: the phase does not grant it.
    Refused,
    /// Vault did not answer, or answered with a server error.
    Unavailable,
}

/// What the agent does next. The twin or a driver carries it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentCommand {
    /// A Vault token for the pod's ServiceAccount token.
    Login,
    /// A credential for the systems of a domain.
    Credential(Domain),
    /// All credentials of the start are there. Only recorded; no request follows.
    Ready,
    /// Works for this time, alone or with a tool.
    Work(Option<Tool>, Span),
    /// Holds this much memory from now on.
    Hold(Bytes),
    /// Attempts an action on a system.
    Act(Action),
    /// Finished a hypothesis. Only recorded; no request follows.
    Note {
        /// Tool calls.
        tool_calls: u32,
        /// Tokens.
        tokens: u32,
        /// Cost in millionths of a dollar.
        cost_micro_usd: u64,
    },
    /// Reached a conclusion. Only recorded; no request follows.
    Conclude(Outcome),
    /// Revokes its Vault token, and every lease with it.
    Release,
    /// Ends its process.
    Exit(Outcome),
    /// Its process crashes.
    Crash,
    /// Loops until it is stopped.
    Hang,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    New,
    LoggingIn,
    Starting,
    Ready,
    Working,
    Taking(Domain),
    Acting,
    Pausing,
    Concluding(Outcome),
    Releasing(Outcome),
    Gone,
}

/// An agent at work.
#[derive(Clone, Debug)]
pub struct Agent {
    steps: VecDeque<Step>,
    to_take: VecDeque<Domain>,
    end: End,
    needs_vault: bool,
    state: State,
    /// Retried after a pause.
    again: Option<AgentCommand>,
    failing_since: Option<Time>,
    pause: Span,
    patience: Span,
    noted: (u32, u32, u64),
    /// A database credential was requested, whether or not it was granted.
    asked_database: bool,
    /// The action that waits for its credential.
    then_act: Option<Action>,
}

impl Agent {
    /// An agent that follows `trace`. It gives up when Vault has failed for `patience`.
    pub fn new(trace: Trace, patience: Span) -> Self {
        Self {
            needs_vault: trace.needs_vault(),
            steps: trace.steps.into(),
            to_take: trace.at_start.into(),
            end: trace.end,
            state: State::New,
            again: None,
            failing_since: None,
            pause: BACKOFF,
            patience,
            noted: (0, 0, 0),
            asked_database: false,
            then_act: None,
        }
    }

    /// When a lease of this length is renewed: after two thirds of it, as Vault Agent does.
    pub fn renew_after(ttl: Span) -> Span {
        Span(ttl.0 / 3 * 2)
    }

    /// The agent's next command, given the result of its last one.
    pub fn next(&mut self, now: Time, input: AgentInput) -> AgentCommand {
        match (self.state, input) {
            (State::Gone, _) => AgentCommand::Exit(Outcome::Crashed),
            (State::New, _) if self.needs_vault => self.go(State::LoggingIn, AgentCommand::Login),
            (State::New | State::Ready, _) => self.step(),
            (State::LoggingIn | State::Taking(_) | State::Starting, AgentInput::Unavailable) => {
                self.try_again(now)
            }
            (State::Pausing, _) => self.resume(),
            (State::LoggingIn | State::Starting, _) => {
                self.recovered();
                self.take_next_of_start()
            }
            (State::Taking(_) | State::Acting, AgentInput::Refused)
                if self.end.stops_when_denied =>
            {
                self.conclude(Outcome::Denied)
            }
            (State::Taking(_), _) => {
                self.recovered();
                match self.then_act.take() {
                    Some(action) => self.go(State::Acting, AgentCommand::Act(action)),
                    None => self.step(),
                }
            }
            (State::Working | State::Acting, _) => self.step(),
            (State::Concluding(outcome), _) => {
                if self.needs_vault && self.end.returns_credentials {
                    self.go(State::Releasing(outcome), AgentCommand::Release)
                } else {
                    self.go(State::Gone, AgentCommand::Exit(outcome))
                }
            }
            (State::Releasing(outcome), _) => self.go(State::Gone, AgentCommand::Exit(outcome)),
        }
    }

    /// The agent received SIGTERM: it gives its credentials back and ends. A result of its last command
    /// must no longer be passed to [`Self::next`].
    pub fn terminate(&mut self, outcome: Outcome) -> AgentCommand {
        let has_token = !matches!(self.state, State::New | State::LoggingIn | State::Gone);
        if has_token && self.needs_vault && self.end.returns_credentials {
            self.go(State::Releasing(outcome), AgentCommand::Release)
        } else {
            self.go(State::Gone, AgentCommand::Exit(outcome))
        }
    }

    fn go(&mut self, state: State, command: AgentCommand) -> AgentCommand {
        self.asked_database |= command == AgentCommand::Credential(Domain::Database);
        self.state = state;
        self.again = Some(command);
        command
    }

    fn recovered(&mut self) {
        self.failing_since = None;
        self.pause = BACKOFF;
    }

    /// Takes the next step as well if it is work like the one just begun, and returns its duration.
    /// The caller can then wait once for several steps.
    pub fn works_on(&mut self) -> Option<Span> {
        let more = matches!(self.steps.front(), Some(Step::Think(_) | Step::Call { .. }));
        if self.state != State::Working || !more {
            return None;
        }
        match self.step() {
            AgentCommand::Work(_, takes) => Some(takes),
            _ => None,
        }
    }

    fn try_again(&mut self, now: Time) -> AgentCommand {
        let since = *self.failing_since.get_or_insert(now);
        if now.since(since) >= self.patience {
            return self.conclude(Outcome::VaultUnavailable);
        }
        let pause = self.pause;
        self.pause = Span((pause.0 * 2).min(BACKOFF_MAX.0));
        self.state = State::Pausing;
        AgentCommand::Work(None, pause)
    }

    fn resume(&mut self) -> AgentCommand {
        let command = self.again.unwrap_or(AgentCommand::Crash);
        self.state = match command {
            AgentCommand::Credential(domain) => State::Taking(domain),
            AgentCommand::Login => State::LoggingIn,
            _ => State::Working,
        };
        if let (AgentCommand::Credential(_), false) = (command, self.to_take.is_empty()) {
            self.state = State::Starting;
        }
        command
    }

    fn take_next_of_start(&mut self) -> AgentCommand {
        // The head stays until it is granted or refused, so that a retry finds it.
        if self.state == State::Starting {
            self.to_take.pop_front();
        }
        match self.to_take.front() {
            Some(&domain) => self.go(State::Starting, AgentCommand::Credential(domain)),
            None => self.go(State::Ready, AgentCommand::Ready),
        }
    }

    /// An agent that does not use Vault requests no credential.
    const fn lacks_database(&self) -> bool {
        self.needs_vault && !self.asked_database
    }

    fn conclude(&mut self, outcome: Outcome) -> AgentCommand {
        self.go(State::Concluding(outcome), AgentCommand::Conclude(outcome))
    }

    fn step(&mut self) -> AgentCommand {
        let command = match self.steps.pop_front() {
            Some(Step::Think(takes)) => AgentCommand::Work(None, takes),
            Some(Step::Call { tool, takes, tokens, cost_micro_usd }) => {
                let (calls, all_tokens, cost) = self.noted;
                self.noted = (calls + 1, all_tokens.saturating_add(tokens), cost + cost_micro_usd);
                AgentCommand::Work(Some(tool), takes)
            }
            Some(Step::Hold(memory)) => AgentCommand::Hold(memory),
            Some(Step::Need(domain)) => {
                return self.go(State::Taking(domain), AgentCommand::Credential(domain));
            }
            // PostgreSQL accepts only roles that exist, so a credential is needed first.
            Some(Step::Act(action))
                if action.target == Domain::Database && self.lacks_database() =>
            {
                self.then_act = Some(action);
                return self.go(
                    State::Taking(Domain::Database),
                    AgentCommand::Credential(Domain::Database),
                );
            }
            Some(Step::Act(action)) => return self.go(State::Acting, AgentCommand::Act(action)),
            Some(Step::Hypothesis) => {
                let (tool_calls, tokens, cost_micro_usd) = std::mem::take(&mut self.noted);
                AgentCommand::Note { tool_calls, tokens, cost_micro_usd }
            }
            None => {
                return match self.end.ending.conclusion() {
                    Some(outcome) => self.conclude(outcome),
                    None if self.end.ending == Ending::EndlessLoop => AgentCommand::Hang,
                    None => self.go(State::Gone, AgentCommand::Crash),
                };
            }
        };
        self.go(State::Working, command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(steps: Vec<Step>) -> Trace {
        let end =
            End { ending: Ending::Resolved, returns_credentials: true, stops_when_denied: false };
        Trace { domain: Domain::Network, at_start: vec![Domain::Network], steps, end }
    }

    #[test]
    fn an_agent_logs_in_takes_works_concludes_and_gives_back() {
        let mut agent = Agent::new(trace(vec![Step::Think(Span::secs(1))]), Span::secs(60));
        let mut commands = Vec::new();
        loop {
            commands.push(agent.next(Time::ZERO, AgentInput::Done));
            if matches!(commands.last(), Some(AgentCommand::Exit(_))) {
                break;
            }
        }
        assert_eq!(
            commands,
            [
                AgentCommand::Login,
                AgentCommand::Credential(Domain::Network),
                AgentCommand::Ready,
                AgentCommand::Work(None, Span::secs(1)),
                AgentCommand::Conclude(Outcome::Resolved),
                AgentCommand::Release,
                AgentCommand::Exit(Outcome::Resolved),
            ]
        );
    }

    #[test]
    fn an_agent_takes_a_database_credential_before_its_first_database_action() {
        use crate::phase::Verb;
        let act = Step::Act(Action { verb: Verb::Read, target: Domain::Database });
        let mut agent = Agent::new(trace(vec![act, act]), Span::ZERO);
        let commands: Vec<AgentCommand> =
            (0..6).map(|_| agent.next(Time::ZERO, AgentInput::Done)).collect();
        let Step::Act(action) = act else { unreachable!() };
        let asked_once = [
            AgentCommand::Credential(Domain::Database),
            AgentCommand::Act(action),
            AgentCommand::Act(action),
        ];
        assert_eq!(commands[3..], asked_once);
    }

    #[test]
    fn an_agent_that_is_asked_to_stop_gives_back_and_ends() {
        let mut agent = Agent::new(trace(vec![Step::Think(Span::secs(60))]), Span::secs(60));
        for _ in 0..4 {
            agent.next(Time::ZERO, AgentInput::Done);
        }
        let outcome = Outcome::DeadlineExceeded;
        assert_eq!(agent.terminate(outcome), AgentCommand::Release);
        assert_eq!(agent.next(Time::ZERO, AgentInput::Done), AgentCommand::Exit(outcome));
        let mut early = Agent::new(trace(Vec::new()), Span::secs(60));
        early.next(Time::ZERO, AgentInput::Started);
        assert_eq!(early.terminate(outcome), AgentCommand::Exit(outcome), "it has no token yet");
    }

    #[test]
    fn consecutive_work_steps_are_one_wait() {
        let think = |s| Step::Think(Span::secs(s));
        let mut agent = Agent::new(trace(vec![think(1), think(2), Step::Hypothesis]), Span::ZERO);
        for _ in 0..3 {
            agent.next(Time::ZERO, AgentInput::Done);
        }
        assert_eq!(agent.works_on(), None, "it has not begun");
        assert_eq!(
            agent.next(Time::ZERO, AgentInput::Done),
            AgentCommand::Work(None, Span::secs(1))
        );
        assert_eq!(agent.works_on(), Some(Span::secs(2)));
        assert_eq!(agent.works_on(), None);
        assert!(matches!(agent.next(Time::ZERO, AgentInput::Done), AgentCommand::Note { .. }));
    }

    #[test]
    fn an_agent_gives_up_when_vault_has_failed_for_its_patience() {
        let mut agent = Agent::new(trace(Vec::new()), Span::secs(30));
        let mut now = Time::ZERO;
        let mut command = agent.next(now, AgentInput::Started);
        let mut logins = 0;
        while !matches!(command, AgentCommand::Conclude(_)) {
            command = match command {
                AgentCommand::Login => {
                    logins += 1;
                    agent.next(now, AgentInput::Unavailable)
                }
                AgentCommand::Work(None, pause) => {
                    now += pause;
                    agent.next(now, AgentInput::Done)
                }
                other => panic!("{other:?}"),
            };
        }
        assert_eq!(command, AgentCommand::Conclude(Outcome::VaultUnavailable));
        assert_eq!((logins, now), (6, Time::ZERO + Span::secs(31)));
    }

    #[test]
    fn a_failed_credential_is_retried_before_the_next_is_taken() {
        let mut both = trace(Vec::new());
        both.at_start.push(Domain::Database);
        let mut agent = Agent::new(both, Span::secs(30));
        agent.next(Time::ZERO, AgentInput::Started);
        assert_eq!(
            agent.next(Time::ZERO, AgentInput::Done),
            AgentCommand::Credential(Domain::Network)
        );
        assert_eq!(
            agent.next(Time::ZERO, AgentInput::Unavailable),
            AgentCommand::Work(None, BACKOFF)
        );
        assert_eq!(
            agent.next(Time::ZERO, AgentInput::Done),
            AgentCommand::Credential(Domain::Network)
        );
        assert_eq!(
            agent.next(Time::ZERO, AgentInput::Done),
            AgentCommand::Credential(Domain::Database)
        );
        assert_eq!(agent.next(Time::ZERO, AgentInput::Done), AgentCommand::Ready);
    }
}
