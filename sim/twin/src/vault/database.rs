//! The lock of Vault's database plugin. For each database config, one role at a time is created,
//! extended or dropped in PostgreSQL: sdk/database and the postgresql plugin of Vault v1.21.1 hold a
//! mutex in NewUser, UpdateUser and DeleteUser.

use std::collections::VecDeque;

use alertstorm_model::event::{Component, WaitSummary};
use alertstorm_model::investigation::Domain;
use alertstorm_model::scenario::knobs::Secrets;
use alertstorm_model::time::{Span, Time};

use crate::agenda::Ev;
use crate::arena::Key;
use crate::costs;
use crate::investigation::Inv;
use crate::lease::{Lease, LockId};
use crate::machines::Server;
use crate::meter::Meter;
use crate::world::World;

/// A request that waits for the lock or holds it: to create, extend or drop a role.
#[derive(Clone, Copy, Debug)]
enum Turn {
    /// With the time at which the request was ready for the lock.
    Create(Key<Inv>, Time),
    Renew(Key<Lease>),
    Drop(Key<Lease>),
}

#[derive(Debug, Default)]
struct Lock {
    waiting: VecDeque<Turn>,
    /// With whether its round trip to PostgreSQL succeeds.
    holder: Option<(Turn, bool)>,
}

/// The locks of all database configs.
#[derive(Debug)]
pub(super) struct Locks {
    locks: Vec<Lock>,
    /// By domain: the index of its first config, and which of its configs was used last.
    first: [u32; Domain::COUNT],
    last_used: [u32; Domain::COUNT],
    waits: Meter,
}

impl Locks {
    pub fn new(secrets: &Secrets) -> Self {
        let mut locks = Vec::new();
        let mut first = [0; Domain::COUNT];
        for &domain in Domain::ALL {
            first[domain.index()] = locks.len() as u32;
            let configs = secrets.of(domain).configs.get();
            locks.extend((0..configs).map(|_| Lock::default()));
        }
        Self { locks, first, last_used: [0; Domain::COUNT], waits: Meter::default() }
    }

    /// The lock of a domain's next config; its `configs` are used in turn.
    pub fn next_of(&mut self, domain: Domain, configs: u32) -> LockId {
        let last = &mut self.last_used[domain.index()];
        *last = (*last + 1) % configs;
        LockId::new(self.first[domain.index()] + *last)
    }

    /// Requests that wait for a lock.
    pub fn depth(&self) -> usize {
        self.locks.iter().map(|lock| lock.waiting.len()).sum()
    }

    pub fn waits(&self) -> WaitSummary {
        self.waits.summary("vault: database lock")
    }

    const fn of(&mut self, lock: LockId) -> &mut Lock {
        &mut self.locks.as_mut_slice()[lock.place()]
    }
}

impl World<'_> {
    pub(super) fn lock_create(&mut self, lock: LockId, who: Key<Inv>, at: Time) {
        self.enqueue_turn(lock, Turn::Create(who, at));
    }

    pub(super) fn lock_renew(&mut self, lock: LockId, lease: Key<Lease>) {
        self.enqueue_turn(lock, Turn::Renew(lease));
    }

    pub(super) fn lock_drop(&mut self, lock: LockId, lease: Key<Lease>) {
        self.enqueue_turn(lock, Turn::Drop(lease));
    }

    fn enqueue_turn(&mut self, lock: LockId, turn: Turn) {
        self.vault.locks.of(lock).waiting.push_back(turn);
        self.grant_lock(lock);
    }

    fn grant_lock(&mut self, lock: LockId) {
        let state = self.vault.locks.of(lock);
        if state.holder.is_some() {
            return;
        }
        let Some(turn) = state.waiting.pop_front() else {
            return;
        };
        let now = self.now();
        let (vault, postgres) = match turn {
            Turn::Create(..) => (costs::VAULT_DB_CREATE, costs::POSTGRES_CREATE_ROLE),
            Turn::Drop(_) => (costs::VAULT_DB_CHANGE, costs::POSTGRES_DROP_ROLE),
            Turn::Renew(_) => (costs::VAULT_DB_CHANGE, costs::POSTGRES_ALTER_ROLE),
        };
        // Not `vault_work`: a request that began before Vault was sealed is finished.
        let cpu = self.work_on(Server::Vault, vault);
        let committed = self.transaction(cpu, postgres);
        let answered = committed.unwrap_or(cpu);
        let done = if committed.is_some() { self.vault.store(answered) } else { answered };
        if let Turn::Create(who, at) = turn {
            let waited = now.since(at);
            self.vault.locks.waits.record(waited);
            self.wait(who, Component::VaultDatabaseLock, waited);
            // The request's own processor time, until `at`, is booked where it began.
            self.wait(who, Component::VaultCpu, cpu.since(at.max(now)));
            self.wait(who, Component::Postgres, answered.since(cpu));
            self.wait(who, Component::VaultStorage, done.since(answered));
        }
        self.vault.locks.of(lock).holder = Some((turn, committed.is_some()));
        self.engine.at(done, Ev::LockDone(lock));
    }

    /// The holder's round trip to PostgreSQL has ended.
    pub(crate) fn on_lock_done(&mut self, lock: LockId) {
        let Some((turn, succeeds)) = self.vault.locks.of(lock).holder.take() else {
            return;
        };
        self.grant_lock(lock);
        match (turn, succeeds) {
            (Turn::Create(who, _), true) => self.issue_credential(who, Some(lock)),
            (Turn::Create(who, _), false) => self.on_vault_refusal(who, Some(Component::Postgres)),
            (Turn::Renew(key), true) => self.on_renewed(key),
            (Turn::Renew(key), false) => self.engine.after(Span::secs(1), Ev::RenewDue(key)),
            (Turn::Drop(key), succeeds) => self.on_revocation_tried(key, succeeds),
        }
    }
}
