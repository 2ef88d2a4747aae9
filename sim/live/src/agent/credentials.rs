//! An agent's credentials: its Vault token, the leases it took with it, their renewal and return.

use std::sync::Arc;
use std::time::Duration;

use alertstorm_model::agent::Agent;
use alertstorm_model::alert::Alert;
use alertstorm_model::investigation::Domain;
use alertstorm_model::phase::Verb;
use alertstorm_model::scenario::knobs::Engine;
use alertstorm_model::time::Span;
use serde_json::json;
use tokio::task::JoinSet;

use super::Identity;
use crate::identity;
use crate::kubelet::Shared;
use crate::reporter::duration;
use crate::vault::setup::{credential_path, credential_role, login_path};
use crate::vault::{Answer, Vault, VaultError};

/// What Vault said to a request for a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Took {
    Granted,
    Refused,
    Unavailable,
}

/// The credentials of one agent.
pub struct Credentials {
    shared: Arc<Shared>,
    alert: Alert,
    pod: String,
    jwt: String,
    ip: std::net::IpAddr,
    vault: Option<Arc<Vault>>,
    leases: Vec<String>,
    database: Option<(String, String)>,
    /// Renewals go on beside the agent's work, and end with it.
    renewals: JoinSet<()>,
}

fn named(answer: &Answer, field: &str) -> Option<String> {
    answer.data[field].as_str().map(str::to_owned)
}

impl Credentials {
    pub fn new(shared: &Arc<Shared>, alert: Alert, identity: &Identity) -> Self {
        Self {
            shared: Arc::clone(shared),
            alert,
            pod: identity.pod.clone(),
            jwt: identity.vault.clone(),
            ip: identity.ip.into(),
            vault: None,
            leases: Vec::new(),
            database: None,
            renewals: JoinSet::new(),
        }
    }

    /// Logs in with the pod's token; whether Vault gave a token of its own.
    pub async fn login(&mut self) -> bool {
        let scenario = &self.shared.plan.scenario;
        let address = &self.shared.around.vault;
        let Ok(mut vault) = Vault::new(address, Some(self.ip), "") else {
            return false;
        };
        let name = identity::role(scenario.phase, self.alert.domain);
        let body = json!({"role": name, "jwt": self.jwt});
        // A refusal passes too: Vault refuses whom it cannot ask the API server about.
        let Ok(answer) = vault.write(&login_path(scenario), body).await else {
            return false;
        };
        let Some(token) = answer.token else { return false };
        self.shared.around.truth.session(&self.pod, self.alert.id);
        vault.set_token(&token.secret);
        self.vault = Some(Arc::new(vault));
        true
    }

    /// Takes a credential for the systems of a domain.
    pub async fn take(&mut self, domain: Domain) -> Took {
        let plan = Arc::clone(&self.shared.plan);
        let scenario = &plan.scenario;
        let knobs = scenario.vault.secrets.of(domain);
        let Some(vault) = self.vault.clone() else { return Took::Unavailable };
        let config = (self.alert.id.0 % u64::from(knobs.configs.get())) as u32;
        let role = credential_role(scenario.phase, self.alert.domain, domain, config);
        let path = credential_path(knobs.engine, domain, &role);
        let engine = knobs.engine;
        let (book, id) = (self.shared.around.book.clone(), self.alert.id);
        // A task of its own: the answer is booked even where the agent does not live to see it.
        let asked = tokio::spawn(async move {
            let sent = book.now();
            let answer = match engine {
                Engine::Postgresql | Engine::Kv => vault.read(&path).await,
                Engine::Pki => {
                    let name = format!("{id}.agents.alertstorm");
                    vault.write(&path, json!({"common_name": name})).await
                }
                Engine::Kubernetes => {
                    let namespace = crate::platform::NAMESPACE;
                    vault.write(&path, json!({"kubernetes_namespace": namespace})).await
                }
            };
            if let Ok(answer) = answer.as_ref().map_err(Clone::clone)
                && !answer.lease_id.is_empty()
            {
                let ttl = Span::secs(u64::from(answer.lease_duration_s));
                book.issued(&answer.lease_id, id, domain, sent, ttl);
            }
            answer
        });
        let answer = match asked.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(VaultError::Denied)) => return self.denied().await,
            Ok(Err(_)) | Err(_) => return Took::Unavailable,
        };
        if engine == Engine::Postgresql {
            self.database = named(&answer, "username").zip(named(&answer, "password"));
            if let Some((user, _)) = &self.database {
                self.shared.around.truth.user(user, self.alert.id);
            }
        }
        if !answer.lease_id.is_empty() {
            self.leases.push(answer.lease_id.clone());
            let ttl = Span::secs(u64::from(answer.lease_duration_s));
            if answer.renewable {
                self.renew_later(answer.lease_id, ttl, knobs.ttl);
            }
        }
        Took::Granted
    }

    /// A refusal is the policy's, unless the token is no more: then the agent logs in again.
    async fn denied(&mut self) -> Took {
        let Some(vault) = &self.vault else { return Took::Unavailable };
        match vault.read("auth/token/lookup-self").await {
            Ok(_) => Took::Refused,
            Err(VaultError::Denied) => {
                self.login().await;
                Took::Unavailable
            }
            Err(_) => Took::Unavailable,
        }
    }

    /// Renews a lease after two thirds of its time, as long as Vault carries it on.
    fn renew_later(&mut self, id: String, ttl: Span, full: Span) {
        let Some(vault) = self.vault.clone() else { return };
        let book = self.shared.around.book.clone();
        self.renewals.spawn(async move {
            let mut left = ttl;
            loop {
                tokio::time::sleep(duration(Agent::renew_after(left))).await;
                let body = json!({"lease_id": id, "increment": full.0 / 1_000_000_000});
                let sent = book.now();
                match vault.write("sys/leases/renew", body).await {
                    Ok(answer) => {
                        let renewed = Span::secs(u64::from(answer.lease_duration_s));
                        book.renewed(&id, sent, renewed);
                        // Near the longest that a lease may live there is nothing to gain.
                        if renewed.0 < full.0 / 2 {
                            return;
                        }
                        left = renewed;
                    }
                    Err(VaultError::Unavailable(_)) => {
                        left = Span::ZERO;
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                    Err(_) => return,
                }
            }
        });
    }

    /// Gives the token back, and with it every lease; whether Vault took it.
    pub async fn release(&mut self) -> bool {
        self.renewals.abort_all();
        let Some(vault) = self.vault.take() else { return false };
        let (book, leases) = (self.shared.around.book.clone(), std::mem::take(&mut self.leases));
        let released = tokio::spawn(async move {
            let revoked = vault.write("auth/token/revoke-self", json!({})).await.is_ok();
            if revoked {
                book.returned(&leases);
            }
            revoked
        });
        released.await.unwrap_or(false)
    }

    /// The credential for the database, where the agent has one.
    pub fn database(&self) -> Option<(String, String)> {
        self.database.clone()
    }

    /// Reads or changes a system that Vault guards.
    pub async fn system(&mut self, path: &str, verb: Verb) -> Took {
        let Some(vault) = self.vault.clone() else {
            return Took::Unavailable;
        };
        let done = match verb.writes() {
            true => vault.write(path, json!({"changed": "by an agent"})).await,
            false => vault.read(path).await,
        };
        match done {
            Ok(_) => Took::Granted,
            Err(VaultError::Denied) => self.denied().await,
            Err(_) => Took::Unavailable,
        }
    }
}
