//! Login: a ServiceAccount token is exchanged for a Vault token.

use alertstorm_model::agent::AgentInput;
use alertstorm_model::event::{Component, Fact};
use alertstorm_model::investigation::{IdentityKind, Stage};
use alertstorm_model::scenario::knobs::AuthMethod;
use alertstorm_model::time::{Span, Time};

use crate::agenda::Ev;
use crate::arena::Key;
use crate::call::{Client, Then};
use crate::costs::{self, Op};
use crate::investigation::Inv;
use crate::lease::Session;
use crate::world::World;

impl World<'_> {
    /// First half: Vault verifies the token; with the kubernetes method the API server reviews it.
    pub(crate) fn log_in(&mut self, who: Key<Inv>) {
        let auth = self.plan.scenario().vault.auth;
        let cost = match auth {
            AuthMethod::Kubernetes => costs::VAULT_LOGIN_KUBERNETES,
            AuthMethod::Jwt => costs::VAULT_LOGIN_JWT,
        };
        let now = self.now();
        let Some(done) = self.vault_work(cost) else {
            return self.refuse_as_sealed(who);
        };
        self.wait(who, Component::VaultCpu, done.since(now));
        match auth {
            AuthMethod::Kubernetes => self.engine.at(done, Ev::LoginChecked(who)),
            AuthMethod::Jwt => self.store_login(who, done),
        }
    }

    pub(crate) fn review_token(&mut self, who: Key<Inv>) {
        self.vault.token_reviews += 1;
        self.call(Client::Vault, Op::TokenReview, Then::TokenReviewed(who), Some(who));
    }

    pub(crate) fn on_token_reviewed(&mut self, who: Key<Inv>) {
        let now = self.now();
        self.store_login(who, now);
    }

    /// Second half, from `at` on: Vault stores the token, and with an identity per investigation the
    /// entity. The time until `at` is booked by the first half.
    fn store_login(&mut self, who: Key<Inv>, at: Time) {
        let own = self.plan.scenario().identity == IdentityKind::PerInvestigation;
        let cost = if own { costs::VAULT_NEW_ENTITY } else { Span::ZERO };
        let Some(cpu) = self.vault_work(cost) else {
            return self.refuse_as_sealed(who);
        };
        let computed = at.max(cpu);
        let mut stored = self.vault.store(computed);
        if own {
            stored = self.vault.store(stored);
        }
        self.wait(who, Component::VaultCpu, computed.since(at));
        self.wait(who, Component::VaultStorage, stored.since(computed));
        let rtt = self.plan.scenario().cluster.network_rtt;
        self.engine.at(stored + rtt, Ev::LoggedIn(who));
    }

    /// The token exists, even if the agent has ended meanwhile.
    pub(crate) fn on_login_stored(&mut self, who: Key<Inv>) {
        let now = self.now();
        let ttl = self.plan.scenario().vault.token_ttl;
        let Some(inv) = self.invs.get(who) else {
            return;
        };
        let works = inv.agent.is_running() && !inv.agent.is_terminating();
        let (id, expires) = (inv.id(), now + ttl);
        let number = self.vault.tokens_issued;
        self.vault.tokens_issued += 1;
        let token = self.vault.sessions.insert(Session::new(number, id, expires));
        self.vault.tokens.insert(who, token);
        self.fact_of(id, Fact::TokenIssued { token: number, expires });
        // Only the response carries the identity.
        self.vault.audited(1);
        self.engine.after(ttl, Ev::TokenExpires(token));
        if works {
            self.stage(who, Stage::VaultLogin);
            self.resume_agent(who, AgentInput::Done);
        }
    }
}
