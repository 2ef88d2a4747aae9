//! The lock of Vault's database plugin: for each database config one credential at a time is made,
//! renewed or dropped, each a round trip to PostgreSQL (sdk/database and the postgresql plugin of
//! Vault v1.21.1 hold a mutex in NewUser, UpdateUser and DeleteUser).

use std::collections::VecDeque;

use alertstorm_model::event::Component;
use alertstorm_model::time::{Span, Time};

use crate::agenda::Ev;
use crate::arena::Key;
use crate::costs;
use crate::investigation::Who;
use crate::world::{Machine, World};

/// What waits for the lock.
#[derive(Clone, Copy, Debug)]
enum Turn {
    Create(Who, Time),
    Renew(Key),
    Drop(Key),
}

#[derive(Debug, Default)]
pub(crate) struct Lock {
    waiting: VecDeque<Turn>,
    holder: Option<Turn>,
    /// Whether the holder's round trip succeeds.
    succeeds: bool,
}

impl Lock {
    pub fn depth(&self) -> usize {
        self.waiting.len()
    }
}

impl World<'_> {
    pub(super) fn lock_create(&mut self, lock: usize, who: Who, at: Time) {
        self.lock_wait(lock, Turn::Create(who, at));
    }

    pub(super) fn lock_renew(&mut self, lock: usize, lease: Key) {
        self.lock_wait(lock, Turn::Renew(lease));
    }

    pub(super) fn lock_drop(&mut self, lock: usize, lease: Key) {
        self.lock_wait(lock, Turn::Drop(lease));
    }

    fn lock_wait(&mut self, lock: usize, turn: Turn) {
        self.vault.locks[lock].waiting.push_back(turn);
        self.lock_next(lock);
    }

    fn lock_next(&mut self, lock: usize) {
        if self.vault.locks[lock].holder.is_some() {
            return;
        }
        let Some(turn) = self.vault.locks[lock].waiting.pop_front() else {
            return;
        };
        let now = self.now();
        let (vault, postgres) = match turn {
            Turn::Create(..) => (costs::VAULT_DB_CREATE, costs::POSTGRES_CREATE_ROLE),
            Turn::Drop(_) => (costs::VAULT_DB_CHANGE, costs::POSTGRES_DROP_ROLE),
            Turn::Renew(_) => (costs::VAULT_DB_CHANGE, costs::POSTGRES_ALTER_ROLE),
        };
        // What Vault began before it was sealed, it finishes.
        let cpu = self.work_on(Machine::Vault, vault);
        let committed = self.transaction(cpu, postgres);
        let done = committed.map_or(cpu, |at| self.vault.store(at));
        if let Turn::Create(who, at) = turn {
            let waited = now.since(at);
            self.meters.lock.record(waited);
            self.wait(who, Component::VaultDatabaseLock, waited);
            self.wait(who, Component::VaultCpu, cpu.since(now));
            self.wait(who, Component::Postgres, done.since(cpu));
        }
        let state = &mut self.vault.locks[lock];
        state.holder = Some(turn);
        state.succeeds = committed.is_some();
        self.engine.at(done, Ev::LockDone(lock as u32));
    }

    /// The holder's round trip is over.
    pub(crate) fn lock_done(&mut self, lock: usize) {
        let state = &mut self.vault.locks[lock];
        let Some(turn) = state.holder.take() else {
            return;
        };
        let succeeds = state.succeeds;
        self.lock_next(lock);
        match (turn, succeeds) {
            (Turn::Create(who, _), true) => self.credential_made(who, Some(lock)),
            (Turn::Create(who, _), false) => {
                self.wait(who, Component::Postgres, Span::millis(1));
                self.vault_unavailable(who);
            }
            (Turn::Renew(key), true) => self.renewed(key),
            (Turn::Renew(key), false) => {
                self.engine.after(Span::secs(1), Ev::RenewDue(key.slot, key.generation));
            }
            (Turn::Drop(key), succeeds) => self.revoke_tried(key, succeeds),
        }
    }
}
