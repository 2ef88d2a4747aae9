//! The agent in its pod: the model's state machine, with a real Vault, a real PostgreSQL and a real
//! API server to answer it. It speaks from its pod's own address and shows its pod's own tokens.

mod credentials;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use alertstorm_model::agent::{Heard, Want};
use alertstorm_model::alert::Alert;
use alertstorm_model::event::Fact;
use alertstorm_model::investigation::{Domain, InvestigationId, Outcome, Stage};
use alertstorm_model::phase::{Action, Refuser, Verb};
use alertstorm_model::scenario::Plan;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::sync::watch;

use crate::bootstrap::application_object;
use crate::call;
use crate::kubelet::Shared;
use crate::platform::{Clients, NAMESPACE};
use crate::postgres::{self, PostgresError};
use crate::reporter::{Reporter, duration};
use crate::vault::Address;
use crate::vault::leases::LeaseBook;
use crate::vault::setup::system_path;

use credentials::{Credentials, Took};

/// An agent gives a write to the API server up after this.
const PATIENCE: Duration = Duration::from_secs(5);

/// What agents find around them.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The API server.
    pub clients: Clients,
    /// Vault.
    pub vault: Address,
    /// PostgreSQL's port.
    pub postgres: u16,
    /// The book of leases.
    pub book: LeaseBook,
    /// The ground truth of what agents did, to judge trails by.
    pub truth: crate::forensics::Truth,
}

/// Who an agent is.
pub struct Identity {
    /// Its pod.
    pub pod: String,
    /// Its pod's address.
    pub ip: Ipv4Addr,
    /// Its token for Vault.
    pub vault: String,
    /// Its token for the API server.
    pub kubernetes: String,
}

/// What became of an action.
enum Acted {
    Done,
    Refused(Refuser),
    /// The system did not answer: the action is not done, and the agent goes on without it.
    Failed,
}

struct Driver<'a> {
    plan: &'a Plan,
    reporter: &'a Reporter,
    around: &'a Surroundings,
    alert: Alert,
    identity: Identity,
    credentials: Credentials,
}

/// Runs an agent to its end; `stop` is its SIGTERM. Dropping the future is its SIGKILL.
pub async fn run(
    shared: &Arc<Shared>,
    alert: Alert,
    identity: Identity,
    mut stop: watch::Receiver<bool>,
) -> Outcome {
    let (plan, reporter, around) = (&shared.plan, &shared.reporter, &shared.around);
    let credentials = Credentials::new(shared, alert, &identity);
    let mut driver = Driver { plan, reporter, around, alert, identity, credentials };
    let mut agent = plan.agent(&alert);
    let mut heard = Heard::Started;
    let mut stopping = false;
    loop {
        let mut want = agent.next(reporter.now(), heard);
        loop {
            let done = tokio::select! {
                done = driver.does(want) => done,
                // What it was doing is moot; it gives back what it has, and ends.
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

impl Driver<'_> {
    const fn id(&self) -> InvestigationId {
        self.alert.id
    }

    async fn does(&mut self, want: Want) -> Done {
        let (id, reporter) = (self.id(), self.reporter);
        Done::Heard(match want {
            Want::Login => match self.credentials.login().await {
                true => {
                    reporter.stage(id, Stage::VaultLogin);
                    Heard::Done
                }
                false => Heard::Unavailable,
            },
            Want::Credential(domain) => self.takes(domain).await,
            Want::Ready => {
                reporter.stage(id, Stage::CredentialsReady);
                Heard::Done
            }
            Want::Work(_, takes) => {
                tokio::time::sleep(duration(takes)).await;
                Heard::Done
            }
            Want::Hold(memory) => {
                if memory > self.plan.scenario.controller.job.memory_limit {
                    return Done::Over(Outcome::OomKilled);
                }
                Heard::Done
            }
            Want::Act(action) => self.acts(action).await,
            Want::Note { tool_calls, tokens, cost_micro_usd } => {
                reporter.fact(id, Fact::Hypothesis { tool_calls, tokens, cost_micro_usd });
                Heard::Done
            }
            Want::Conclude(_) => {
                reporter.stage(id, Stage::AgentDone);
                Heard::Done
            }
            Want::Release => {
                if self.credentials.release().await {
                    reporter.stage(id, Stage::LeasesReleased);
                }
                Heard::Done
            }
            Want::Exit(outcome) => return Done::Over(outcome),
            Want::Crash => return Done::Over(Outcome::Crashed),
            Want::Hang => return std::future::pending().await,
        })
    }

    async fn takes(&mut self, domain: Domain) -> Heard {
        match self.credentials.take(domain).await {
            Took::Granted => Heard::Done,
            Took::Unavailable => Heard::Unavailable,
            Took::Refused => {
                let action = Action { verb: Verb::Read, target: domain };
                let by = Refuser::VaultPolicy;
                self.around.truth.denied(by);
                self.reporter.fact(self.id(), Fact::Denied { action, by });
                Heard::Refused
            }
        }
    }

    async fn acts(&mut self, action: Action) -> Heard {
        let acted = match action.target {
            Domain::Application => self.acts_on_kubernetes(action.verb).await,
            Domain::Database => self.acts_on_database(action.verb).await,
            Domain::Network | Domain::Security => self.acts_through_vault(action).await,
        };
        let id = self.id();
        match acted {
            Acted::Done => {
                self.reporter.fact(id, Fact::Acted { action });
                Heard::Done
            }
            Acted::Refused(by) => {
                self.around.truth.denied(by);
                self.reporter.fact(id, Fact::Denied { action, by });
                Heard::Refused
            }
            Acted::Failed => Heard::Done,
        }
    }

    async fn acts_on_kubernetes(&self, verb: Verb) -> Acted {
        let Ok(client) = self.around.clients.agent(&self.identity.kubernetes) else {
            return Acted::Failed;
        };
        let api: Api<ConfigMap> = Api::namespaced(client, NAMESPACE);
        let name = application_object(verb);
        let done = call::patiently(PATIENCE, || async {
            if verb.writes() {
                let change = json!({"data": {"changed": self.reporter.now().0.to_string()}});
                api.patch(name, &PatchParams::default(), &Patch::Merge(&change)).await.map(drop)
            } else {
                api.get(name).await.map(drop)
            }
        });
        match done.await {
            Ok(()) => Acted::Done,
            Err(error) if call::is_forbidden(&error) => Acted::Refused(Refuser::Rbac),
            Err(_) => Acted::Failed,
        }
    }

    async fn acts_on_database(&mut self, verb: Verb) -> Acted {
        let credential = self.credentials.database();
        let user = credential.as_ref().map_or("nobody", |(user, _)| user);
        let login = postgres::Login {
            port: self.around.postgres,
            from: Some(self.identity.ip),
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
