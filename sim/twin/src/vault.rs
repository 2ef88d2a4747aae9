//! Vault: tokens, leases, storage and seal. Requests are in [`login`], [`credential`] and
//! [`renewal`], revocations in [`expiration`], the database plugin in [`database`]. A client's time-out (30 s
//! on real servers) is not modelled: an agent waits until Vault answers, so no response is lost after one.

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

/// The time until a client gets an error, without the network.
const REFUSED: Span = Span::millis(2);

#[derive(Debug)]
pub(crate) struct Vault {
    sealed: bool,
    /// The disk of integrated storage; `None` for storage in memory.
    storage: Option<Disk>,
    sessions: Arena<Session>,
    tokens_issued: u64,
    /// The last token of each investigation, until it is released.
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
            tokens_issued: 0,
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

    /// Expired and released leases that wait for a worker.
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

    /// The number of TokenReviews requested from the API server.
    pub const fn token_reviews(&self) -> u64 {
        self.token_reviews
    }

    /// A write to the storage that begins at `at`; returns when it is durable.
    fn store(&mut self, at: Time) -> Time {
        self.storage.as_mut().map_or(at, |disk| disk.commit(at))
    }

    /// Counts entries in the audit log that carry a token's identity. A request has two: one for
    /// itself, one for the response.
    fn audited(&mut self, entries: u64) {
        self.audit.entries += entries;
        self.audit.named_per_investigation += entries;
        if self.sessions.len() == 1 {
            self.audit.named_shared += entries;
        }
    }

    /// The investigation's token; `None` if it has expired.
    fn valid_token(&self, who: Key<Inv>) -> Option<Key<Session>> {
        self.tokens.get(who).filter(|token| self.sessions.get(*token).is_some())
    }
}

impl World<'_> {
    /// Vault's processor time for a request; returns when it ends, `None` if Vault is sealed.
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

    /// Unseals Vault; after a restart it loads its leases first. Revocations that came due while it
    /// was sealed are queued.
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
