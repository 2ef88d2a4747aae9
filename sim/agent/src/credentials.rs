//! An agent's credentials: its Vault token, and its leases with their renewal and revocation.

use std::sync::Arc;
use std::time::Duration;

use alertstorm_model::agent::Agent;
use alertstorm_model::investigation::Domain;
use alertstorm_model::phase::Verb;
use alertstorm_model::scenario::knobs::Engine;
use alertstorm_model::time::Span;
use serde_json::json;
use tokio::task::{JoinHandle, JoinSet};

use crate::names::{certificate_name, credential_role, role};
use crate::task::Task;
use crate::vault::{Answer, Vault, VaultError};
use crate::world::{AgentReport, Places, World};

/// The result of a request to Vault, as an agent distinguishes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialResult {
    Granted,
    Refused,
    Unavailable,
}

/// A token, and a client that sends it.
#[derive(Clone)]
struct Session {
    vault: Arc<Vault>,
    accessor: String,
}

/// The credentials of one agent.
pub struct Credentials<'a, W> {
    task: &'a Task,
    places: &'a Places,
    world: Arc<W>,
    session: Option<Session>,
    /// A login whose response has not been handled. It continues if the agent's step is cancelled.
    login: Option<JoinHandle<Option<Session>>>,
    database: Option<(String, String)>,
    /// Run in the background until the agent ends.
    renewals: JoinSet<()>,
}

fn named(answer: &Answer, field: &str) -> Option<String> {
    answer.data[field].as_str().map(str::to_owned)
}

impl<'a, W: World> Credentials<'a, W> {
    pub fn new(task: &'a Task, places: &'a Places, world: &Arc<W>) -> Self {
        Self {
            task,
            places,
            world: Arc::clone(world),
            session: None,
            login: None,
            database: None,
            renewals: JoinSet::new(),
        }
    }

    /// Logs in with the pod's ServiceAccount token; whether that succeeded.
    pub async fn login(&mut self) -> bool {
        let from = self.places.from.map(Into::into);
        let Ok(mut vault) = Vault::new(&self.places.vault, from, "") else {
            return false;
        };
        let name = role(self.task.phase, self.task.domain);
        let body = json!({"role": name, "jwt": self.places.token});
        // A 403 may be temporary too: Vault also sends it when its TokenReview fails because the API
        // server is down.
        let path = self.task.names.login_path(self.task.auth);
        let (id, world) = (self.task.id, Arc::clone(&self.world));
        // A task of its own: Vault creates the token even if the agent is stopped before the response.
        self.login = Some(tokio::spawn(async move {
            let sent = world.now();
            let answer = vault.write(&path, body).await.ok()?;
            let Some(token) = answer.token else {
                tracing::warn!(%id, "Vault's answer to a login has no token");
                return None;
            };
            let ttl = Span::secs(token.ttl_s);
            world.report(AgentReport::Login(token.accessor.clone(), sent, ttl));
            vault.set_token(&token.secret);
            Some(Session { vault: Arc::new(vault), accessor: token.accessor })
        }));
        match self.logged_in().await {
            Some(session) => {
                self.session = Some(session);
                true
            }
            None => false,
        }
    }

    /// The result of the pending login; none if there is none, or it failed.
    async fn logged_in(&mut self) -> Option<Session> {
        let session = self.login.as_mut()?.await.ok().flatten();
        self.login = None;
        session
    }

    /// Revokes the token that a login returns which was pending when the agent was stopped.
    pub async fn revoke_pending_login(&mut self) {
        if let Some(session) = self.logged_in().await {
            self.revoke(session).await;
        }
    }

    /// Requests a credential for the systems of a domain.
    pub async fn take(&mut self, domain: Domain) -> CredentialResult {
        let (id, source) = (self.task.id, self.task.source(domain));
        let Some(vault) = self.vault() else { return CredentialResult::Unavailable };
        let config = (id.0 % u64::from(source.configs.get())) as u32;
        let role = credential_role(self.task.phase, self.task.domain, domain, config);
        let path = self.task.names.credential_path(source.engine, domain, &role);
        let engine = source.engine;
        let namespace = self.task.names.namespace().to_owned();
        let world = Arc::clone(&self.world);
        // A task of its own: the lease is reported even if the agent ends before the response.
        let asked = tokio::spawn(async move {
            let sent = world.now();
            let answer = match engine {
                Engine::Postgresql | Engine::Kv => vault.read(&path).await,
                Engine::Pki => {
                    let name = certificate_name(id, domain);
                    vault.write(&path, json!({"common_name": name})).await
                }
                Engine::Kubernetes => {
                    vault.write(&path, json!({"kubernetes_namespace": namespace})).await
                }
            };
            if let Ok(answer) = &answer
                && !answer.lease_id.is_empty()
            {
                let ttl = Span::secs(u64::from(answer.lease_duration_s));
                world.report(AgentReport::Issued(answer.lease_id.clone(), domain, sent, ttl));
            }
            answer
        });
        let answer = match asked.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(VaultError::Denied)) => return self.denied().await,
            Ok(Err(_)) | Err(_) => return CredentialResult::Unavailable,
        };
        if engine == Engine::Postgresql {
            self.database = named(&answer, "username").zip(named(&answer, "password"));
            if let Some((user, _)) = &self.database {
                self.world.report(AgentReport::User(user.clone()));
            }
        }
        if !answer.lease_id.is_empty() && answer.renewable {
            let ttl = Span::secs(u64::from(answer.lease_duration_s));
            self.renew_later(answer.lease_id, ttl, source.ttl);
        }
        CredentialResult::Granted
    }

    /// Vault sends 403 for both a missing policy and an invalid token. If the token is invalid, the
    /// agent logs in again.
    async fn denied(&mut self) -> CredentialResult {
        let Some(vault) = self.vault() else { return CredentialResult::Unavailable };
        match vault.read("auth/token/lookup-self").await {
            Ok(_) => CredentialResult::Refused,
            Err(VaultError::Denied) => {
                self.login().await;
                CredentialResult::Unavailable
            }
            Err(_) => CredentialResult::Unavailable,
        }
    }

    /// Renews a lease after two thirds of its time-to-live ([`Agent::renew_after`]), until Vault no
    /// longer extends it.
    fn renew_later(&mut self, id: String, ttl: Span, full: Span) {
        let Some(vault) = self.vault() else { return };
        let world = Arc::clone(&self.world);
        self.renewals.spawn(async move {
            let mut left = ttl;
            loop {
                tokio::time::sleep(Duration::from_nanos(Agent::renew_after(left).0)).await;
                let body = json!({"lease_id": id, "increment": full.0 / 1_000_000_000});
                let sent = world.now();
                match vault.write("sys/leases/renew", body).await {
                    Ok(answer) => {
                        let renewed = Span::secs(u64::from(answer.lease_duration_s));
                        world.report(AgentReport::Renewed(id.clone(), sent, renewed));
                        // Close to the lease's maximum time-to-live, a renewal gains too little.
                        if renewed.0 < full.0 / 2 {
                            return;
                        }
                        left = renewed;
                    }
                    Err(VaultError::Unavailable(_)) => {
                        left = Span::ZERO;
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                    Err(error) => {
                        tracing::debug!(lease = id, %error, "a lease is no longer renewed");
                        return;
                    }
                }
            }
        });
    }

    /// Revokes the token, and with it every lease; whether that succeeded.
    pub async fn release(&mut self) -> bool {
        self.renewals.abort_all();
        let Some(session) = self.session.take() else { return false };
        self.revoke(session).await
    }

    /// The client with the agent's token, after its login.
    fn vault(&self) -> Option<Arc<Vault>> {
        self.session.as_ref().map(|session| Arc::clone(&session.vault))
    }

    async fn revoke(&self, Session { vault, accessor }: Session) -> bool {
        let world = Arc::clone(&self.world);
        let released = tokio::spawn(async move {
            let revoked = vault.write("auth/token/revoke-self", json!({})).await;
            let revoked = revoked
                .inspect_err(|error| tracing::debug!(%error, "a token could not be revoked"))
                .is_ok();
            if revoked {
                world.report(AgentReport::Returned(accessor));
            }
            revoked
        });
        released.await.unwrap_or(false)
    }

    /// User and password for PostgreSQL, if the agent has them.
    pub fn database(&self) -> Option<(String, String)> {
        self.database.clone()
    }

    /// Reads or writes a path that stands for a system (see [`Names::systems`](crate::names::Names::systems)).
    pub async fn system(&mut self, path: &str, verb: Verb) -> CredentialResult {
        let Some(vault) = self.vault() else {
            return CredentialResult::Unavailable;
        };
        let done = match verb.writes() {
            true => vault.write(path, json!({"changed": "by an agent"})).await,
            false => vault.read(path).await,
        };
        match done {
            Ok(_) => CredentialResult::Granted,
            Err(VaultError::Denied) => self.denied().await,
            Err(_) => CredentialResult::Unavailable,
        }
    }
}
