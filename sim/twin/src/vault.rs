//! Vault: its cores, its storage, its tokens and its seal. What a request does is in the modules
//! below: [`login`], [`credential`], [`renewal`], [`expiration`] and [`database`].

mod credential;
mod database;
mod expiration;
mod login;
mod renewal;

use alertstorm_model::event::{AuditCount, Component, WaitSummary};
use alertstorm_model::scenario::Plan;
use alertstorm_model::scenario::knobs::VaultStorage;
use alertstorm_model::time::{Span, Time};

use crate::agenda::Ev;
use crate::arena::{Arena, Key, SideTable};
use crate::costs;
use crate::disk::Disk;
use crate::investigation::Inv;
use crate::lease::{Lease, Session};
use crate::machines::Server;
use crate::streams;
use crate::world::World;

use database::Locks;
use expiration::Expiration;

/// A client that gets 503 or no connection notices after this.
const REFUSED: Span = Span::millis(2);

#[derive(Debug)]
pub(crate) struct Vault {
    sealed: bool,
    /// Where writes go; nothing for storage in memory.
    storage: Option<Disk>,
    sessions: Arena<Session>,
    /// The token that each investigation got last, until it is released.
    tokens: SideTable<Inv, Key<Session>>,
    leases: Arena<Lease>,
    leases_issued: u64,
    locks: Locks,
    expiration: Expiration,
    audit: AuditCount,
    token_reviews: u64,
}

impl Vault {
    pub fn new(plan: &Plan) -> Self {
        let knobs = &plan.scenario().vault;
        let raft = knobs.storage == VaultStorage::Raft;
        let seed = plan.scenario().seed;
        let fsync = plan.scenario().cluster.control_plane.etcd.fsync.dist;
        Self {
            sealed: false,
            storage: raft.then(|| Disk::new(fsync, streams::vault_storage(seed))),
            sessions: Arena::default(),
            tokens: SideTable::default(),
            leases: Arena::default(),
            leases_issued: 0,
            locks: Locks::new(&knobs.secrets),
            expiration: Expiration::new(knobs.revocation_workers.get(), streams::revocations(seed)),
            audit: AuditCount::default(),
            token_reviews: 0,
        }
    }

    pub fn has_leases(&self) -> bool {
        !self.leases.is_empty()
    }

    /// Leases whose time is over or that were given back, and that wait for a worker.
    pub fn waiting_for_revocation(&self) -> usize {
        self.expiration.depth()
    }

    pub fn waiting_for_locks(&self) -> usize {
        self.locks.depth()
    }

    pub fn lock_waits(&self) -> WaitSummary {
        self.locks.waits()
    }

    pub const fn audit(&self) -> AuditCount {
        self.audit
    }

    /// TokenReviews that Vault has asked of the API server.
    pub const fn token_reviews(&self) -> u64 {
        self.token_reviews
    }

    /// A write to the storage that begins at `at`: when it is durable.
    fn store(&mut self, at: Time) -> Time {
        self.storage.as_mut().map_or(at, |disk| disk.commit(at))
    }

    /// Entries in the audit log for a request with a token: one for the request, one for the
    /// response.
    fn audited(&mut self, entries: u64) {
        self.audit.entries += entries;
        self.audit.named_per_investigation += entries;
        if self.sessions.len() == 1 {
            self.audit.named_shared += entries;
        }
    }

    /// The investigation's token, unless it expired.
    fn valid_token(&self, who: Key<Inv>) -> Option<Key<Session>> {
        self.tokens.get(who).filter(|token| self.sessions.get(*token).is_some())
    }
}

impl World<'_> {
    /// Vault's processor time for a request; nothing where Vault is sealed.
    fn vault_work(&mut self, cost: Span) -> Option<Time> {
        (!self.vault.sealed).then(|| self.work_on(Server::Vault, cost))
    }

    /// Vault is sealed and answers 503; the agent pauses before it tries again.
    fn refuse_as_sealed(&mut self, who: Key<Inv>) {
        let answered = REFUSED + self.plan.scenario().cluster.network_rtt;
        self.wait(who, Component::VaultDown, answered);
        self.engine.after(answered, Ev::VaultUnavailable(who));
    }

    pub(crate) fn seal(&mut self) {
        self.vault.sealed = true;
    }

    /// Vault is unsealed; after a restart it loads its leases first. Revocations that came due
    /// meanwhile are made up for.
    pub(crate) fn unseal(&mut self, restarted: bool) {
        self.vault.sealed = false;
        if restarted {
            let load = costs::VAULT_LOAD_LEASE * self.vault.leases.len() as u64;
            self.work_on(Server::Vault, load);
        }
        for lease in self.vault.expiration.take_overdue() {
            self.queue_revocation(lease);
        }
        self.run_revocations();
    }
}
