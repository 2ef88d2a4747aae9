//! Credentials for the systems of a domain, from the secrets engine that the scenario names.

use alertstorm_model::agent::AgentInput;
use alertstorm_model::event::{Component, Fact};
use alertstorm_model::investigation::Domain;
use alertstorm_model::phase::{Action, Refuser, Verb};
use alertstorm_model::scenario::knobs::Engine;

use super::REFUSED;
use crate::agenda::Ev;
use crate::arena::Key;
use crate::call::{Client, Then};
use crate::costs::{self, Op};
use crate::investigation::Inv;
use crate::lease::{Holder, Lease, LockId};
use crate::world::World;

impl World<'_> {
    pub(crate) fn request_credential(&mut self, who: Key<Inv>, domain: Domain) {
        let now = self.now();
        let scenario = self.plan.scenario();
        let (phase, engine) = (scenario.phase, scenario.vault.secrets.of(domain));
        let (kind, configs) = (engine.engine, engine.configs.get());
        let Some(inv) = self.invs.get_mut(who) else {
            return;
        };
        inv.agent.await_credential(domain);
        let granted = phase.grants_credential(inv.alert().domain, domain);
        if self.vault.valid_token(who).is_none() {
            // An agent with an expired token retries as it does while Vault is down.
            let rtt = self.plan.scenario().cluster.network_rtt;
            return self.engine.after(REFUSED + rtt, Ev::TokenRefused(who));
        }
        let cost = match kind {
            Engine::Pki if granted => costs::VAULT_PKI_ISSUE,
            _ => costs::VAULT_SMALL,
        };
        let Some(done) = self.vault_work(cost) else {
            return self.refuse_as_sealed(who);
        };
        self.vault.audited(2);
        self.wait(who, Component::VaultCpu, done.since(now));
        match kind {
            _ if !granted => self.engine.at(done, Ev::CredentialRefused(who)),
            Engine::Postgresql => {
                let lock = self.vault.locks.next_of(domain, configs);
                self.lock_create(lock, who, done);
            }
            Engine::Kubernetes => {
                self.call(Client::Vault, Op::CreateToken, Then::TokenCreated(who), Some(who));
            }
            Engine::Pki | Engine::Kv => {
                let lease = kind == Engine::Pki;
                let stored = if lease { self.vault.store(done) } else { done };
                self.wait(who, Component::VaultStorage, stored.since(done));
                let rtt = self.plan.scenario().cluster.network_rtt;
                self.engine.at(stored + rtt, Ev::CredentialMade(who));
            }
        }
    }

    /// Vault's policy denies a credential that the phase does not grant.
    pub(crate) fn on_credential_refused(&mut self, who: Key<Inv>) {
        let target = self.invs.get_mut(who).and_then(|inv| inv.agent.take_credential());
        if let Some(target) = target {
            let action = Action { verb: Verb::Read, target };
            self.fact(who, Fact::Denied { action, by: Refuser::VaultPolicy });
            self.resume_agent(who, AgentInput::Refused);
        }
    }

    /// The credential exists, with a lease unless it comes from the kv engine.
    pub(crate) fn issue_credential(&mut self, who: Key<Inv>, lock: Option<LockId>) {
        let now = self.now();
        let Some(inv) = self.invs.get_mut(who) else {
            return;
        };
        let (Some(domain), Some(token)) = (inv.agent.take_credential(), self.vault.tokens.get(who))
        else {
            return;
        };
        let holder = Holder { inv: inv.id(), key: who };
        let engine = self.plan.scenario().vault.secrets.of(domain);
        if engine.engine != Engine::Kv {
            let Some(session) = self.vault.sessions.get_mut(token) else {
                return self.on_vault_refusal(who, None);
            };
            let number = self.vault.leases_issued;
            self.vault.leases_issued += 1;
            let times = (now, engine.ttl, engine.max_ttl);
            let lease = Lease::new((number, domain), holder, (token, session), lock, times);
            let expires = lease.expires();
            let key = self.vault.leases.insert(lease);
            session.add(key);
            self.fact_of(holder.inv, Fact::LeaseIssued { lease: number, domain, expires });
            self.engine.at(expires, Ev::LeaseExpires(key));
            if engine.engine.renews() {
                self.schedule_renewal(key, expires.since(now));
            }
        }
        self.resume_agent(who, AgentInput::Done);
    }
}
