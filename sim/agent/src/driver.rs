//! Runs one agent from its first step to its outcome. It sends requests from its pod's address with
//! its pod's tokens. Everything besides Vault and PostgreSQL is behind the trait [`World`].

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use alertstorm_model::agent::{Agent, Heard, Want};
use alertstorm_model::investigation::{Domain, Outcome, Stage};
use alertstorm_model::phase::{Action, Refuser, Verb};
use alertstorm_model::quantity::Bytes;
use alertstorm_model::time::{Span, Time};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::credentials::{Credentials, Took};
use crate::names::system_path;
use crate::postgres::{self, PostgresError};
use crate::task::Task;
use crate::vault;

/// What an agent tells, at the instant of the world's clock at which it happened. The words are
/// short: a pod has 4096 bytes to tell all of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Told {
    /// It reached a stage.
    #[serde(rename = "s")]
    Stage(Stage),
    /// It has done with a hypothesis: tool calls, tokens, millionths of a dollar.
    #[serde(rename = "h")]
    Hypothesis(u32, u32, u64),
    /// It did something.
    #[serde(rename = "a")]
    Acted(Verb, Domain),
    /// It was refused something.
    #[serde(rename = "d")]
    Denied(Verb, Domain, Refuser),
    /// Vault gave it a token.
    #[serde(rename = "l")]
    Login,
    /// Vault gave it a user of PostgreSQL.
    #[serde(rename = "u")]
    User(String),
    /// Vault gave it a lease on a domain's systems; asked when, for how long.
    #[serde(rename = "i")]
    Issued(String, Domain, Time, Span),
    /// Vault renewed a lease; asked when, for how long.
    #[serde(rename = "r")]
    Renewed(String, Time, Span),
    /// It gave its token back, and with it all leases it had.
    #[serde(rename = "b")]
    Returned,
}

impl Told {
    /// What was told on a clock whose zero is `start`, on the clock that `start` is of.
    #[must_use]
    pub fn counted_from(self, start: Time) -> Self {
        let moved = |at: Time| start + at.since(Time::ZERO);
        match self {
            Self::Issued(lease, domain, asked, ttl) => {
                Self::Issued(lease, domain, moved(asked), ttl)
            }
            Self::Renewed(lease, asked, ttl) => Self::Renewed(lease, moved(asked), ttl),
            other => other,
        }
    }
}

/// What became of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acted {
    /// It is done.
    Done,
    /// It was refused.
    Refused(Refuser),
    /// The system did not answer: the action is not done, and the agent goes on without it.
    Failed,
}

/// What an agent lives in.
pub trait World: Send + Sync + 'static {
    /// Now, on the clock of what it tells.
    fn now(&self) -> Time;
    /// Hears what the agent tells.
    fn tell(&self, told: Told);
    /// Does something to an application in Kubernetes, with the pod's own token.
    fn on_kubernetes(&self, verb: Verb) -> impl Future<Output = Acted> + Send;
    /// Holds so much memory from now on; whether the agent lives on.
    fn hold(&self, memory: Bytes) -> bool;
}

/// Where an agent's servers are, and whom it shows itself as.
#[derive(Clone)]
pub struct Places {
    /// Vault.
    pub vault: vault::Address,
    /// PostgreSQL.
    pub postgres: SocketAddr,
    /// The address that it speaks from, where that is not its host's own.
    pub from: Option<Ipv4Addr>,
    /// Its ServiceAccount token for Vault.
    pub token: String,
}

impl std::fmt::Debug for Places {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "vault at {}, PostgreSQL at {}", self.vault.url, self.postgres)
    }
}

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
