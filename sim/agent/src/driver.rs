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
                // The current step is cancelled. The agent revokes its token, also one that a
                // pending login returns, and ends.
                () = stopped(&mut stop), if !stopping => {
                    stopping = true;
                    command = agent.terminate(Outcome::Evicted);
                    driver.credentials.revoke_pending_login().await;
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

/// Waits for the agent's SIGTERM, or for the end of its sender.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use alertstorm_model::quantity::Bytes;
    use alertstorm_model::scenario::{NoFiles, load};
    use alertstorm_model::time::{Span, Time};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::oneshot;

    use super::*;
    use crate::names::Names;
    use crate::{trust, vault};

    #[derive(Default)]
    struct Pod(Mutex<Vec<AgentReport>>);

    impl World for Pod {
        fn now(&self) -> Time {
            Time::ZERO
        }

        fn report(&self, report: AgentReport) {
            self.0.lock().expect("no panic").push(report);
        }

        async fn on_kubernetes(&self, _: Verb) -> Acted {
            Acted::Done
        }

        fn hold(&self, _: Bytes) -> bool {
            true
        }
    }

    const LOGGED_IN: &str = r#"{"request_id":"1","lease_id":"","lease_duration":0,"renewable":false,
        "data":null,"warnings":null,"wrap_info":null,"auth":{"client_token":"of-the-test",
        "accessor":"a","policies":[],"token_policies":[],"metadata":{},"lease_duration":60,
        "renewable":true,"entity_id":"e","token_type":"service","orphan":true}}"#;

    /// The head of the next request on a connection; empty at its end.
    async fn request(socket: &mut TcpStream) -> String {
        let mut head = vec![0; 8192];
        let read = socket.read(&mut head).await.unwrap_or(0);
        String::from_utf8_lossy(&head[..read]).into_owned()
    }

    /// A Vault that answers a login once the agent was stopped; returns the request after it.
    async fn slow_vault(
        listener: TcpListener,
        login: oneshot::Sender<()>,
        stopped: oneshot::Receiver<()>,
    ) -> String {
        let (mut socket, _) = listener.accept().await.expect("a connection");
        assert!(request(&mut socket).await.contains("/login"));
        login.send(()).expect("the test waits");
        stopped.await.expect("the test goes on");
        let length = LOGGED_IN.len();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{LOGGED_IN}"
        );
        socket.write_all(answer.as_bytes()).await.expect("sent");
        loop {
            let next = request(&mut socket).await;
            if next.contains("revoke-self") {
                let done = "HTTP/1.1 204 No Content\r\n\r\n";
                socket.write_all(done.as_bytes()).await.expect("sent");
                return next;
            }
            assert!(!next.is_empty(), "the agent ended without a revocation");
        }
    }

    #[tokio::test]
    async fn a_stop_during_a_login_revokes_the_token_that_the_login_returns() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (login, has_login) = oneshot::channel();
        let (answer, stopped) = oneshot::channel();
        let vault = tokio::spawn(slow_vault(listener, login, stopped));
        let plan = load("alerts: [{flood: 1}]", "plan", &[], &NoFiles).expect("a plan");
        let alert = plan.alerts().next().expect("an alert");
        let names = Names::of_run(&"a".parse().expect("an id"));
        let task = Task::new(&plan, &alert, &names);
        assert!(task.trace.needs_vault());
        let places = Places {
            vault: vault::Address {
                url,
                tls: trust::only("").expect("no certificates"),
                namespace: None,
            },
            postgres: postgres::Address::plain(([127, 0, 0, 1], 1).into()),
            from: None,
            token: "of-the-pod".to_owned(),
        };
        let world = Arc::new(Pod::default());
        let (stopper, stop) = watch::channel(false);
        let stops = async {
            has_login.await.expect("a login");
            stopper.send(true).expect("the agent runs");
            // The step is cancelled before the answer comes.
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            answer.send(()).expect("Vault waits");
        };
        let (outcome, ()) = tokio::join!(run(&task, &places, &world, stop), stops);
        assert_eq!(outcome, Outcome::Evicted);
        let revoked = vault.await.expect("Vault got the revocation");
        assert!(revoked.to_lowercase().contains("x-vault-token: of-the-test"), "{revoked}");
        let reports = world.0.lock().expect("no panic").clone();
        let login = AgentReport::Login("a".to_owned(), Time::ZERO, Span::secs(60));
        assert_eq!(reports, [login, AgentReport::Returned("a".to_owned())]);
    }
}
