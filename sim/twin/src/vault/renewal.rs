//! Leases while the agent runs: their renewal, and the revocation of the token at the end.

use alertstorm_model::agent::Agent;
use alertstorm_model::event::Fact;
use alertstorm_model::investigation::Stage;
use alertstorm_model::time::Span;

use super::REFUSED;
use crate::agenda::Ev;
use crate::arena::Key;
use crate::costs;
use crate::investigation::Inv;
use crate::lease::{Lease, LeaseState, Session};
use crate::world::World;

impl World<'_> {
    pub(super) fn schedule_renewal(&mut self, key: Key<Lease>, ttl: Span) {
        self.engine.after(Agent::renew_after(ttl), Ev::RenewDue(key));
    }

    /// A running agent renews its lease, up to the lease's maximum TTL.
    pub(crate) fn on_renew_due(&mut self, key: Key<Lease>) {
        let Some(lease) = self.vault.leases.get(key).copied() else {
            return;
        };
        let runs = self.invs.get(lease.holder()).is_some_and(|inv| inv.agent.is_running());
        if !runs || !lease.can_renew() {
            return;
        }
        let Some(done) = self.vault_work(costs::VAULT_SMALL) else {
            // Vault is sealed: the agent tries again until the lease expires.
            return self.engine.after(Span::secs(1), Ev::RenewDue(key));
        };
        self.vault.audited(2);
        match lease.lock() {
            Some(lock) => self.lock_renew(lock, key),
            None => {
                let stored = self.vault.store(done);
                self.engine.at(stored, Ev::Renewed(key));
            }
        }
    }

    pub(crate) fn on_renewed(&mut self, key: Key<Lease>) {
        let now = self.now();
        let Some(lease) = self.vault.leases.get_mut(key).filter(|lease| lease.is_alive()) else {
            return;
        };
        lease.renew(now, self.plan.scenario().vault.secrets.of(lease.domain()).ttl);
        let (inv, number, left) = (lease.inv(), lease.number(), lease.expires().since(now));
        self.fact_of(inv, Fact::LeaseRenewed { lease: number });
        self.schedule_renewal(key, left);
    }

    /// The agent revokes its token. Vault answers before the leases are revoked.
    pub(crate) fn release_token(&mut self, who: Key<Inv>) {
        let work = self.vault.valid_token(who).and_then(|_| self.vault_work(costs::VAULT_SMALL));
        let Some(done) = work else {
            // The agent exits all the same, and its leases expire.
            return self.engine.after(REFUSED, Ev::ReleaseFailed(who));
        };
        self.vault.audited(2);
        let stored = self.vault.store(done);
        let rtt = self.plan.scenario().cluster.network_rtt;
        self.engine.at(stored + rtt, Ev::Released(who));
    }

    pub(crate) fn on_token_released(&mut self, who: Key<Inv>) {
        let Some(inv) = self.invs.get(who) else {
            return;
        };
        let runs = inv.agent.is_running();
        let token = self.vault.tokens.remove(who);
        if let Some(session) = token.and_then(|token| self.vault.sessions.remove(token)) {
            self.fact_of(session.inv(), Fact::TokenRevoked { token: session.number() });
            for key in session.into_leases() {
                if let Some(lease) = self.vault.leases.get(key).copied() {
                    self.fact_of(lease.inv(), Fact::LeaseReturned { lease: lease.number() });
                    self.begin_revocation(key, LeaseState::Revoking);
                }
            }
        }
        if runs {
            self.stage(who, Stage::LeasesReleased);
            self.on_release_answer(who);
        }
    }

    /// The leases of an expired token expire with it.
    pub(crate) fn on_token_expired(&mut self, token: Key<Session>) {
        if let Some(session) = self.vault.sessions.remove(token) {
            self.fact_of(session.inv(), Fact::TokenExpired { token: session.number() });
            for lease in session.into_leases() {
                self.begin_revocation(lease, LeaseState::Expiring);
            }
        }
    }
}
