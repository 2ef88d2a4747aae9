//! Runs one agent from its first step to its outcome. It sends requests from its pod's address with
//! its pod's tokens. Everything besides Vault and PostgreSQL is behind the trait [`World`].

use std::sync::Arc;
use std::time::Duration;

use alertstorm_model::agent::{Agent, Heard, Want};
use alertstorm_model::investigation::{Domain, Outcome, Stage};
use alertstorm_model::phase::{Action, Refuser, Verb};
use tokio::sync::watch;

use crate::credentials::{Credentials, Took};
use crate::names::system_path;
use crate::postgres::{self, PostgresError};
use crate::task::Task;
use crate::world::{Acted, Places, Told, World};

struct Driver<'a, W> {
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
    let mut driver = Driver { places, world, credentials };
    let mut agent = Agent::new(task.trace.clone(), task.patience);
    let mut heard = Heard::Started;
    let mut stopping = false;
    loop {
        let mut want = agent.next(world.now(), heard);
        loop {
            let done = tokio::select! {
                done = driver.does(want) => done,
                // The current step is cancelled. The agent revokes its token, and ends.
                _ = stop.wait_for(|stop| *stop), if !stopping => {
                    stopping = true;
                    want = agent.terminate(Outcome::Evicted);
                    continue;
                }
            };
            match done {
                Done::Heard(next) => heard = next,
                Done::Over(outcome) => return outcome,
            }
            break;
        }
    }
}

enum Done {
    Heard(Heard),
    Over(Outcome),
}

impl<W: World> Driver<'_, W> {
    async fn does(&mut self, want: Want) -> Done {
        let stage = |stage: Stage| self.world.tell(Told::Stage(stage));
        Done::Heard(match want {
            Want::Login => match self.credentials.login().await {
                true => {
                    stage(Stage::VaultLogin);
                    Heard::Done
                }
                false => Heard::Unavailable,
            },
            Want::Credential(domain) => self.takes(domain).await,
            Want::Ready => {
                stage(Stage::CredentialsReady);
                Heard::Done
            }
            Want::Work(_, takes) => {
                tokio::time::sleep(Duration::from_nanos(takes.0)).await;
                Heard::Done
            }
            Want::Hold(memory) => {
                if !self.world.hold(memory) {
                    return Done::Over(Outcome::OomKilled);
                }
                Heard::Done
            }
            Want::Act(action) => self.acts(action).await,
            Want::Note { tool_calls, tokens, cost_micro_usd } => {
                self.world.tell(Told::Hypothesis(tool_calls, tokens, cost_micro_usd));
                Heard::Done
            }
            Want::Conclude(_) => {
                stage(Stage::AgentDone);
                Heard::Done
            }
            Want::Release => {
                if self.credentials.release().await {
                    stage(Stage::LeasesReleased);
                }
                Heard::Done
            }
            Want::Exit(outcome) => return Done::Over(outcome),
            Want::Crash => return Done::Over(Outcome::Crashed),
            Want::Hang => return std::future::pending().await,
        })
    }

    fn refused(&self, action: Action, by: Refuser) -> Heard {
        self.world.tell(Told::Denied(action.verb, action.target, by));
        Heard::Refused
    }

    async fn takes(&mut self, domain: Domain) -> Heard {
        match self.credentials.take(domain).await {
            Took::Granted => Heard::Done,
            Took::Unavailable => Heard::Unavailable,
            Took::Refused => {
                let action = Action { verb: Verb::Read, target: domain };
                self.refused(action, Refuser::VaultPolicy)
            }
        }
    }

    async fn acts(&mut self, action: Action) -> Heard {
        let acted = match action.target {
            Domain::Application => self.world.on_kubernetes(action.verb).await,
            Domain::Database => self.acts_on_database(action.verb).await,
            Domain::Network | Domain::Security => self.acts_through_vault(action).await,
        };
        match acted {
            Acted::Done => {
                self.world.tell(Told::Acted(action.verb, action.target));
                Heard::Done
            }
            Acted::Refused(by) => self.refused(action, by),
            Acted::Failed => Heard::Done,
        }
    }

    async fn acts_on_database(&mut self, verb: Verb) -> Acted {
        let credential = self.credentials.database();
        let user = credential.as_ref().map_or("nobody", |(user, _)| user);
        let login = postgres::Login {
            to: self.places.postgres,
            from: self.places.from,
            user,
            password: credential.as_ref().map(|(_, password)| password.as_str()),
            database: postgres::EVIDENCE,
        };
        let done = async {
            let client = postgres::connect(login).await?;
            postgres::act(&client, verb).await
        };
        match done.await {
            Ok(()) => Acted::Done,
            Err(PostgresError::Refused(_)) => Acted::Refused(Refuser::DatabaseGrant),
            Err(PostgresError::Unavailable(_)) => Acted::Failed,
        }
    }

    async fn acts_through_vault(&mut self, action: Action) -> Acted {
        match self.credentials.system(&system_path(action), action.verb).await {
            Took::Granted => Acted::Done,
            Took::Refused => Acted::Refused(Refuser::VaultPolicy),
            Took::Unavailable => Acted::Failed,
        }
    }
}
