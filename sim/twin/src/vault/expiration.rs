//! Vault's expiration manager: leases whose time is over or that were given back are revoked by a
//! bounded number of workers; a failure is tried again with a back-off, and given up at last.
//! Facts from vault/expiration.go v1.21.1: 200 workers, 6 attempts, a back-off of
//! 10 s · 2^attempts ± 50 %.

use std::collections::VecDeque;

use alertstorm_model::event::Fact;
use alertstorm_model::time::Span;

use super::LeaseState;
use crate::agenda::Ev;
use crate::arena::Key;
use crate::costs;
use crate::world::World;

/// `maxRevokeAttempts`.
const ATTEMPTS_MAX: u32 = 6;
/// `revokeRetryBase`.
const RETRY_BASE: Span = Span::secs(10);

#[derive(Debug)]
pub(crate) struct Expiration {
    idle: u32,
    waiting: VecDeque<Key>,
    /// Came due while Vault was sealed.
    overdue: Vec<Key>,
}

impl Expiration {
    pub const fn new(workers: u32) -> Self {
        Self { idle: workers, waiting: VecDeque::new(), overdue: Vec::new() }
    }

    pub fn depth(&self) -> usize {
        self.waiting.len()
    }

    pub fn take_overdue(&mut self) -> Vec<Key> {
        std::mem::take(&mut self.overdue)
    }
}

impl World<'_> {
    /// A lease's timer went off; renewals may have moved its end.
    pub(crate) fn lease_expires(&mut self, key: Key) {
        let now = self.now();
        let Some(lease) = self.vault.leases.get(key) else {
            return;
        };
        if lease.expires > now {
            let at = lease.expires;
            self.engine.at(at, Ev::LeaseExpires(key.slot, key.generation));
        } else {
            self.revoke(key, LeaseState::Expiring);
        }
    }

    /// A lease is to be revoked.
    pub(crate) fn revoke(&mut self, key: Key, because: LeaseState) {
        let Some(lease) = self.vault.leases.get_mut(key) else {
            return;
        };
        if lease.state != LeaseState::Alive {
            return;
        }
        lease.state = because;
        self.revoke_now(key);
    }

    pub(crate) fn revoke_now(&mut self, key: Key) {
        if self.vault.sealed {
            self.vault.expiration.overdue.push(key);
        } else {
            self.vault.expiration.waiting.push_back(key);
            self.revocation_workers();
        }
    }

    /// Idle workers take what is to be revoked.
    pub(crate) fn revocation_workers(&mut self) {
        while self.vault.expiration.idle > 0 && !self.vault.sealed {
            let Some(key) = self.vault.expiration.waiting.pop_front() else {
                return;
            };
            let Some(lease) = self.vault.leases.get(key) else {
                continue;
            };
            self.vault.expiration.idle -= 1;
            match lease.lock {
                Some(lock) => self.lock_drop(lock, key),
                None => {
                    let now = self.now();
                    let done = self.vault_work(costs::VAULT_SMALL).unwrap_or(now);
                    let stored = self.vault.store(done);
                    self.engine.at(stored, Ev::Revoked(key.slot, key.generation));
                }
            }
        }
    }

    /// A worker is done with an attempt.
    pub(crate) fn revoke_tried(&mut self, key: Key, succeeded: bool) {
        self.vault.expiration.idle += 1;
        let now = self.now();
        let Some(lease) = self.vault.leases.get_mut(key) else {
            return self.revocation_workers();
        };
        lease.attempts += 1;
        let lease = *lease;
        if succeeded {
            let fact = match lease.state {
                LeaseState::Expiring => {
                    Fact::LeaseExpired { lease: lease.id, lag: now.since(lease.expires) }
                }
                _ => Fact::LeaseRevoked { lease: lease.id },
            };
            self.close_lease(key, fact);
        } else {
            let attempts = lease.attempts;
            self.fact_of(lease.inv, Fact::RevokeFailed { lease: lease.id, attempts });
            if attempts >= ATTEMPTS_MAX {
                self.close_lease(key, Fact::LeaseIrrevocable { lease: lease.id });
            } else {
                // revokeExponentialBackoff: 2^attempts times the base, give or take half of it.
                let pause = (RETRY_BASE * (1 << attempts)).scale(0.5 + self.backoff.unit());
                self.engine.after(pause, Ev::RevokeAgain(key.slot, key.generation));
            }
        }
        self.revocation_workers();
    }

    fn close_lease(&mut self, key: Key, fact: Fact) {
        if let Some(lease) = self.vault.leases.remove(key) {
            if let Some(session) = self.vault.sessions.get_mut(lease.session) {
                session.leases.retain(|other| *other != key);
            }
            self.fact_of(lease.inv, fact);
        }
    }
}
