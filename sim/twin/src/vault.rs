//! Vault: logins, credentials, renewals and releases. What becomes of leases afterwards is in
//! [`expiration`], what waits for the database plugin's lock in [`database`].

pub(crate) mod database;
pub(crate) mod expiration;

use alertstorm_model::agent::{Agent, Heard};
use alertstorm_model::event::{AuditCount, Component, Fact};
use alertstorm_model::investigation::{Domain, IdentityKind, InvestigationId, Stage};
use alertstorm_model::scenario::Plan;
use alertstorm_model::scenario::knobs::{AuthMethod, Engine, VaultStorage};
use alertstorm_model::seed::Purpose;
use alertstorm_model::time::{Span, Time};

use crate::agenda::Ev;
use crate::apiserver::{Client, Then};
use crate::arena::{Arena, Key};
use crate::costs::{self, Op};
use crate::disk::Disk;
use crate::investigation::Who;
use crate::world::{Machine, World};

use database::Lock;
use expiration::Expiration;

/// A client that gets 503 or no connection notices after this.
const REFUSED: Span = Span::millis(2);

/// A token and what was taken with it.
#[derive(Debug)]
pub(crate) struct Session {
    expires: Time,
    pub leases: Vec<Key>,
}

/// A lease that is alive at its source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease {
    pub id: u64,
    pub inv: InvestigationId,
    pub who: Who,
    pub session: Key,
    pub domain: Domain,
    pub expires: Time,
    max_expires: Time,
    pub state: LeaseState,
    pub attempts: u32,
    /// The database config that made it, and whose lock its changes wait for.
    pub lock: Option<usize>,
}

/// What a lease is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeaseState {
    Alive,
    /// Its revocation was asked for; its time was not over.
    Revoking,
    /// Its time is over.
    Expiring,
}

#[derive(Debug)]
pub(crate) struct Vault {
    pub sealed: bool,
    /// Where writes go; nothing in memory.
    storage: Option<Disk>,
    pub sessions: Arena<Session>,
    pub leases: Arena<Lease>,
    next_lease: u64,
    /// One lock for each database config, by domain.
    pub locks: Vec<Lock>,
    first_lock: [usize; Domain::COUNT],
    next_lock: [usize; Domain::COUNT],
    pub expiration: Expiration,
    pub audit: AuditCount,
    pub token_reviews: u64,
}

impl Vault {
    pub fn new(plan: &Plan) -> Self {
        let knobs = &plan.scenario().vault;
        let mut locks = Vec::new();
        let mut first_lock = [0; Domain::COUNT];
        for &domain in Domain::ALL {
            first_lock[domain.index()] = locks.len();
            let configs = knobs.secrets.of(domain).configs.get() as usize;
            locks.extend((0..configs).map(|_| Lock::default()));
        }
        let raft = knobs.storage == VaultStorage::Raft;
        let fsync = plan.scenario().cluster.control_plane.etcd.fsync.dist;
        Self {
            sealed: false,
            storage: raft.then(|| Disk::new(fsync, plan.scenario().seed ^ 1, Purpose::Etcd)),
            sessions: Arena::default(),
            leases: Arena::default(),
            next_lease: 0,
            locks,
            first_lock,
            next_lock: [0; Domain::COUNT],
            expiration: Expiration::new(knobs.revocation_workers.get()),
            audit: AuditCount::default(),
            token_reviews: 0,
        }
    }

    /// A write to the storage that begins at `at`: when it is durable.
    pub fn store(&mut self, at: Time) -> Time {
        self.storage.as_mut().map_or(at, |disk| disk.commit(at))
    }

    /// A request with a token: its two entries in the audit log (request and response).
    fn audited(&mut self, entries: u64) {
        self.audit.entries += entries;
        self.audit.named_per_investigation += entries;
        if self.sessions.len() == 1 {
            self.audit.named_shared += entries;
        }
    }

    /// The next of a domain's database configs.
    fn lock_of(&mut self, domain: Domain, configs: usize) -> usize {
        let next = &mut self.next_lock[domain.index()];
        *next = (*next + 1) % configs;
        self.first_lock[domain.index()] + *next
    }
}

impl World<'_> {
    /// Vault's part of a request; nothing where it is sealed.
    pub(crate) fn vault_work(&mut self, cost: Span) -> Option<Time> {
        (!self.vault.sealed).then(|| self.work_on(Machine::Vault, cost))
    }

    /// Vault does not answer; the agent hears of it, and pauses before it tries again.
    fn vault_refuses(&mut self, who: Who) {
        let rtt = self.plan.scenario().cluster.network_rtt;
        self.engine.after(REFUSED + rtt, Ev::VaultUnavailable(who.slot, who.generation));
    }

    /// Books a wait on the investigation's path.
    pub(crate) fn wait(&mut self, who: Who, component: Component, span: Span) {
        if let Some(inv) = self.invs.get_mut(who) {
            inv.wait(component, span);
        }
    }

    /// The agent hears that Vault does not answer.
    pub(crate) fn vault_unavailable(&mut self, who: Who) {
        self.drive(who, Heard::Unavailable);
    }

    /// Login, first half: by the kubernetes method Vault asks the API server about the token.
    pub(crate) fn vault_login(&mut self, who: Who) {
        let auth = self.plan.scenario().vault.auth;
        let cost = match auth {
            AuthMethod::Kubernetes => costs::VAULT_LOGIN_KUBERNETES,
            AuthMethod::Jwt => costs::VAULT_LOGIN_JWT,
        };
        let now = self.now();
        let Some(done) = self.vault_work(cost) else {
            return self.vault_refuses(who);
        };
        self.wait(who, Component::VaultCpu, done.since(now));
        match auth {
            AuthMethod::Kubernetes => {
                self.engine.at(done, Ev::LoginChecked(who.slot, who.generation));
            }
            AuthMethod::Jwt => self.store_login(who, done),
        }
    }

    pub(crate) fn login_checked(&mut self, who: Who) {
        self.vault.token_reviews += 1;
        self.call(Client::Vault, Op::TokenReview, who, Then::TokenReviewed, true);
    }

    pub(crate) fn token_reviewed(&mut self, who: Who) {
        let now = self.now();
        self.store_login(who, now);
    }

    /// Login, second half: the token, and for an identity of its own the entity, are stored.
    fn store_login(&mut self, who: Who, at: Time) {
        let own = self.plan.scenario().identity == IdentityKind::PerInvestigation;
        let cost = if own { costs::VAULT_NEW_ENTITY } else { Span::ZERO };
        let now = self.now();
        let Some(cpu) = self.vault_work(cost) else {
            return self.vault_refuses(who);
        };
        let mut stored = self.vault.store(at.max(cpu));
        if own {
            stored = self.vault.store(stored);
        }
        self.wait(who, Component::VaultCpu, stored.since(now));
        let rtt = self.plan.scenario().cluster.network_rtt;
        self.engine.at(stored + rtt, Ev::LoggedIn(who.slot, who.generation));
    }

    pub(crate) fn logged_in(&mut self, who: Who) {
        let now = self.now();
        let ttl = self.plan.scenario().vault.token_ttl;
        let Some(inv) = self.invs.get_mut(who) else {
            return;
        };
        let session = Session { expires: now + ttl, leases: Vec::new() };
        let key = self.vault.sessions.insert(session);
        inv.session = Some(key);
        // The response is the first entry that carries the identity.
        self.vault.audited(1);
        self.engine.after(ttl, Ev::TokenExpires(key.slot, key.generation));
        // The token is there, whether or not the agent still is.
        if self.agent_works(who) {
            self.stage(who, Stage::VaultLogin);
            self.drive(who, Heard::Done);
        }
    }

    /// A credential for the systems of a domain.
    pub(crate) fn vault_credential(&mut self, who: Who, domain: Domain) {
        let now = self.now();
        let scenario = self.plan.scenario();
        let (phase, engine) = (scenario.phase, scenario.vault.secrets.of(domain));
        let (kind, configs) = (engine.engine, engine.configs.get() as usize);
        let Some(inv) = self.invs.get_mut(who) else {
            return;
        };
        inv.taking = Some(domain);
        if inv.session.is_none_or(|session| self.vault.sessions.get(session).is_none()) {
            // The token is gone: the agent works on without what it opens.
            return self.vault_refuses(who);
        }
        let granted = phase.grants_credential(inv.alert.domain, domain);
        let cost = match kind {
            Engine::Pki if granted => costs::VAULT_PKI_ISSUE,
            _ => costs::VAULT_SMALL,
        };
        let Some(done) = self.vault_work(cost) else {
            return self.vault_refuses(who);
        };
        self.vault.audited(2);
        self.wait(who, Component::VaultCpu, done.since(now));
        match kind {
            _ if !granted => {
                self.engine.at(done, Ev::CredentialRefused(who.slot, who.generation));
            }
            Engine::Postgresql => {
                let lock = self.vault.lock_of(domain, configs);
                self.lock_create(lock, who, done);
            }
            Engine::Kubernetes => {
                self.call(Client::Vault, Op::CreateToken, who, Then::TokenMade, true);
            }
            Engine::Pki | Engine::Kv => {
                let lease = kind == Engine::Pki;
                let stored = if lease { self.vault.store(done) } else { done };
                self.wait(who, Component::VaultCpu, stored.since(done));
                let rtt = self.plan.scenario().cluster.network_rtt;
                self.engine.at(stored + rtt, Ev::CredentialMade(who.slot, who.generation));
            }
        }
    }

    /// The credential is there: a lease, unless the engine has none.
    pub(crate) fn credential_made(&mut self, who: Who, lock: Option<usize>) {
        let now = self.now();
        let Some(inv) = self.invs.get_mut(who) else {
            return;
        };
        let (Some(domain), Some(session)) = (inv.taking.take(), inv.session) else {
            return;
        };
        let id = inv.alert.id;
        let engine = self.plan.scenario().vault.secrets.of(domain);
        if engine.engine != Engine::Kv {
            let Some(of) = self.vault.sessions.get_mut(session) else {
                return self.drive(who, Heard::Unavailable);
            };
            let number = self.vault.next_lease;
            self.vault.next_lease += 1;
            let expires = (now + engine.ttl).min(of.expires);
            let lease = Lease {
                id: number,
                inv: id,
                who,
                session,
                domain,
                expires,
                max_expires: (now + engine.max_ttl).min(of.expires),
                state: LeaseState::Alive,
                attempts: 0,
                lock,
            };
            let key = self.vault.leases.insert(lease);
            of.leases.push(key);
            self.fact_of(id, Fact::LeaseIssued { lease: number, domain, expires });
            self.engine.at(expires, Ev::LeaseExpires(key.slot, key.generation));
            if engine.engine.renews() {
                self.renew_later(key, expires.since(now));
            }
        }
        self.drive(who, Heard::Done);
    }

    fn renew_later(&mut self, key: Key, ttl: Span) {
        self.engine.after(Agent::renew_after(ttl), Ev::RenewDue(key.slot, key.generation));
    }

    /// The agent renews a lease, as long as it lives and the lease may be carried on.
    pub(crate) fn renew_due(&mut self, key: Key) {
        let Some(lease) = self.vault.leases.get(key).copied() else {
            return;
        };
        let alive = self.invs.get(lease.who).is_some_and(|inv| inv.agent.is_some());
        if lease.state != LeaseState::Alive || !alive || lease.expires >= lease.max_expires {
            return;
        }
        let Some(done) = self.vault_work(costs::VAULT_SMALL) else {
            // Vault is away: the agent tries again while there is time.
            return self.engine.after(Span::secs(1), Ev::RenewDue(key.slot, key.generation));
        };
        self.vault.audited(2);
        match lease.lock {
            Some(lock) => self.lock_renew(lock, key),
            None => {
                let stored = self.vault.store(done);
                self.engine.at(stored, Ev::Renewed(key.slot, key.generation));
            }
        }
    }

    pub(crate) fn renewed(&mut self, key: Key) {
        let now = self.now();
        let Some(lease) = self.vault.leases.get_mut(key) else {
            return;
        };
        if lease.state != LeaseState::Alive {
            return;
        }
        let ttl = self.plan.scenario().vault.secrets.of(lease.domain).ttl;
        lease.expires = (now + ttl).min(lease.max_expires);
        let (inv, id, left) = (lease.inv, lease.id, lease.expires.since(now));
        self.fact_of(inv, Fact::LeaseRenewed { lease: id });
        self.renew_later(key, left);
    }

    /// The agent revokes its own token: Vault answers at once and revokes the leases after.
    pub(crate) fn vault_release(&mut self, who: Who) {
        let session = self.invs.get(who).and_then(|inv| inv.session);
        let session = session.filter(|session| self.vault.sessions.get(*session).is_some());
        let work = session.and_then(|_| self.vault_work(costs::VAULT_SMALL));
        let Some(done) = work else {
            // It cannot: it ends all the same, and its leases are left to their time.
            return self.engine.after(REFUSED, Ev::ReleaseFailed(who.slot, who.generation));
        };
        self.vault.audited(2);
        let stored = self.vault.store(done);
        let rtt = self.plan.scenario().cluster.network_rtt;
        self.engine.at(stored + rtt, Ev::Released(who.slot, who.generation));
    }

    pub(crate) fn released(&mut self, who: Who) {
        let session = self.invs.get_mut(who).and_then(|inv| inv.session.take());
        if let Some(session) = session.and_then(|session| self.vault.sessions.remove(session)) {
            for key in session.leases {
                if let Some(lease) = self.vault.leases.get(key).copied() {
                    self.fact_of(lease.inv, Fact::LeaseReturned { lease: lease.id });
                    self.revoke(key, LeaseState::Revoking);
                }
            }
        }
        if self.invs.get(who).is_some_and(|inv| inv.agent.is_some()) {
            self.stage(who, Stage::LeasesReleased);
            self.release_answered(who);
        }
    }

    /// A token's time is over, and with it that of all its leases.
    pub(crate) fn token_expires(&mut self, key: Key) {
        if let Some(session) = self.vault.sessions.remove(key) {
            for lease in session.leases {
                self.revoke(lease, LeaseState::Expiring);
            }
        }
    }

    /// Vault answers no more.
    pub(crate) fn seal(&mut self) {
        self.vault.sealed = true;
    }

    /// Vault is unsealed; after a restart it loads its leases first. What should have been revoked
    /// meanwhile is revoked now.
    pub(crate) fn unseal(&mut self, restarted: bool) {
        self.vault.sealed = false;
        if restarted {
            let load = costs::VAULT_LOAD_LEASE * self.vault.leases.len() as u64;
            self.work_on(Machine::Vault, load);
        }
        for key in self.vault.expiration.take_overdue() {
            self.revoke_now(key);
        }
        self.revocation_workers();
    }
}
