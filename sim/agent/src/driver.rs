//! Runs one agent from its first step to its outcome. It sends requests from its pod's address with
//! its pod's tokens. Everything besides Vault and PostgreSQL is behind the trait [`World`].

use std::sync::Arc;
use std::time::Duration;

use alertstorm_model::agent::{Agent, AgentCommand, AgentInput};
use alertstorm_model::investigation::{Domain, Outcome, Stage};
use alertstorm_model::phase::{Action, Refuser, Verb};
use tokio::sync::watch;

use crate::credentials::{CredentialResult, Credentials};
use crate::names::Names;
use crate::postgres::{self, PostgresError};
use crate::task::Task;
use crate::world::{Acted, AgentReport, Places, World};

struct Driver<'a, W> {
    names: &'a Names,
    places: &'a Places,
    world: &'a Arc<W>,
    credentials: Credentials<'a, W>,
}

/// Runs an agent until it ends. `stop` is its SIGTERM; dropping the future is its SIGKILL.
pub async fn run<W: World>(
    task: &Task,
    places: &Places,
    world: &Arc<W>,
    mut stop: watch::Receiver<bool>,
) -> Outcome {
    let credentials = Credentials::new(task, places, world);
    let mut driver = Driver { names: &task.names, places, world, credentials };
    let mut agent = Agent::new(task.trace.clone(), task.patience);
    let mut input = AgentInput::Started;
    let mut stopping = false;
    loop {
        let mut command = agent.next(world.now(), input);
        loop {
            let done = tokio::select! {
                done = driver.carry_out(command) => done,
                // The current step is cancelled. The agent revokes its token, and ends.
                _ = stop.wait_for(|stop| *stop), if !stopping => {
                    stopping = true;
                    command = agent.terminate(Outcome::Evicted);
                    continue;
                }
            };
            match done {
                Done::Step(next) => input = next,
                Done::Over(outcome) => return outcome,
            }
            break;
        }
    }
}

/// The result of a command.
enum Done {
    /// The input for the agent's next command.
    Step(AgentInput),
    /// The agent has ended.
    Over(Outcome),
}

impl<W: World> Driver<'_, W> {
    async fn carry_out(&mut self, command: AgentCommand) -> Done {
        let stage = |stage: Stage| self.world.report(AgentReport::Stage(stage));
        Done::Step(match command {
            AgentCommand::Login => match self.credentials.login().await {
                true => {
                    stage(Stage::VaultLogin);
                    AgentInput::Done
                }
                false => AgentInput::Unavailable,
            },
            AgentCommand::Credential(domain) => self.request_credential(domain).await,
            AgentCommand::Ready => {
                stage(Stage::CredentialsReady);
                AgentInput::Done
            }
            AgentCommand::Work(_, span) => {
                tokio::time::sleep(Duration::from_nanos(span.0)).await;
                AgentInput::Done
            }
            AgentCommand::Hold(memory) => {
                if !self.world.hold(memory) {
                    return Done::Over(Outcome::OomKilled);
                }
                AgentInput::Done
            }
            AgentCommand::Act(action) => self.act(action).await,
            AgentCommand::Note { tool_calls, tokens, cost_micro_usd } => {
                self.world.report(AgentReport::Hypothesis(tool_calls, tokens, cost_micro_usd));
                AgentInput::Done
            }
            AgentCommand::Conclude(_) => {
                stage(Stage::AgentDone);
                AgentInput::Done
            }
            AgentCommand::Release => {
                if self.credentials.release().await {
                    stage(Stage::LeasesReleased);
                }
                AgentInput::Done
            }
            AgentCommand::Exit(outcome) => return Done::Over(outcome),
            AgentCommand::Crash => return Done::Over(Outcome::Crashed),
            AgentCommand::Hang => return std::future::pending().await,
        })
    }

    fn refused(&self, action: Action, by: Refuser) -> AgentInput {
        self.world.report(AgentReport::Denied(action.verb, action.target, by));
        AgentInput::Refused
    }

    async fn request_credential(&mut self, domain: Domain) -> AgentInput {
        match self.credentials.take(domain).await {
            CredentialResult::Granted => AgentInput::Done,
            CredentialResult::Unavailable => AgentInput::Unavailable,
            CredentialResult::Refused => {
                let action = Action { verb: Verb::Read, target: domain };
                self.refused(action, Refuser::VaultPolicy)
            }
        }
    }

    async fn act(&mut self, action: Action) -> AgentInput {
        let acted = match action.target {
            Domain::Application => self.world.on_kubernetes(action.verb).await,
            Domain::Database => self.act_on_database(action.verb).await,
            Domain::Network | Domain::Security => self.act_through_vault(action).await,
        };
        match acted {
            Acted::Done => {
                self.world.report(AgentReport::Acted(action.verb, action.target));
                AgentInput::Done
            }
            Acted::Refused(by) => self.refused(action, by),
            Acted::Failed => AgentInput::Done,
        }
    }

    async fn act_on_database(&mut self, verb: Verb) -> Acted {
        let credential = self.credentials.database();
        let user = credential.as_ref().map_or("nobody", |(user, _)| user);
        let database = self.names.database();
        let login = postgres::Login {
            to: &self.places.postgres,
            from: self.places.from,
            user,
            password: credential.as_ref().map(|(_, password)| password.as_str()),
            database: &database,
        };
        let done = async {
            let client = postgres::connect(login).await?;
            postgres::act(&client, verb).await
        };
        match done.await {
            Ok(()) => Acted::Done,
            Err(PostgresError::Refused(_)) => Acted::Refused(Refuser::DatabaseGrant),
            Err(error @ (PostgresError::Unavailable(_) | PostgresError::Untrusted(_))) => {
                tracing::debug!(user, %error, "an action on PostgreSQL failed");
                Acted::Failed
            }
        }
    }

    async fn act_through_vault(&mut self, action: Action) -> Acted {
        match self.credentials.system(&self.names.system_path(action), action.verb).await {
            CredentialResult::Granted => Acted::Done,
            CredentialResult::Refused => Acted::Refused(Refuser::VaultPolicy),
            CredentialResult::Unavailable => Acted::Failed,
        }
    }
}
