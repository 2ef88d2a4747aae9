//! Vault's expiration manager: a bounded number of workers revokes expired and released leases. A
//! failed revocation is repeated after a back-off; after the last attempt the lease is irrevocable.
//! Facts from vault/expiration.go v1.21.1: 200 workers, 6 attempts, a back-off of
//! 10 s · 2^attempts ± 50 %.

use std::collections::VecDeque;

use alertstorm_model::event::Fact;
use alertstorm_model::seed::Stream;
use alertstorm_model::time::Span;

use crate::agenda::Ev;
use crate::arena::Key;
use crate::costs;
use crate::lease::{Lease, LeaseState};
use crate::world::World;

/// `maxRevokeAttempts`.
const ATTEMPTS_MAX: u32 = 6;
/// `revokeRetryBase`.
const RETRY_BASE: Span = Span::secs(10);

#[derive(Debug)]
pub(super) struct Expiration {
    idle: u32,
    waiting: VecDeque<Key<Lease>>,
    /// Leases that came due while Vault was sealed.
    overdue: Vec<Key<Lease>>,
    jitter: Stream,
}

impl Expiration {
    pub const fn new(workers: u32, jitter: Stream) -> Self {
        Self { idle: workers, waiting: VecDeque::new(), overdue: Vec::new(), jitter }
    }

    pub fn depth(&self) -> usize {
        self.waiting.len()
    }

    pub fn take_overdue(&mut self) -> Vec<Key<Lease>> {
        std::mem::take(&mut self.overdue)
    }

    /// revokeExponentialBackoff: 2^attempts times the base, give or take half of it.
    fn pause(&mut self, attempts: u32) -> Span {
        (RETRY_BASE * (1 << attempts)).scale(0.5 + self.jitter.unit())
    }

    /// The next lease to revoke, if a worker is idle.
    fn next(&mut self) -> Option<Key<Lease>> {
        if self.idle == 0 {
            return None;
        }
        self.waiting.pop_front()
    }
}

impl World<'_> {
    /// The timer of a lease fires; renewals may have extended the lease since.
    pub(crate) fn on_lease_timer(&mut self, key: Key<Lease>) {
        let now = self.now();
        let Some(expires) = self.vault.leases.get(key).map(Lease::expires) else {
            return;
        };
        if expires > now {
            self.engine.at(expires, Ev::LeaseExpires(key));
        } else {
            self.begin_revocation(key, LeaseState::Expiring);
        }
    }

    pub(super) fn begin_revocation(&mut self, key: Key<Lease>, because: LeaseState) {
        if self.vault.leases.get_mut(key).is_some_and(|lease| lease.begin_revocation(because)) {
            self.queue_revocation(key);
        }
    }

    pub(crate) fn queue_revocation(&mut self, key: Key<Lease>) {
        if self.vault.sealed {
            self.vault.expiration.overdue.push(key);
        } else {
            self.vault.expiration.waiting.push_back(key);
            self.run_revocations();
        }
    }

    /// Idle workers take leases from the queue.
    pub(super) fn run_revocations(&mut self) {
        while !self.vault.sealed {
            let Some(key) = self.vault.expiration.next() else {
                return;
            };
            let Some(lease) = self.vault.leases.get(key) else {
                continue;
            };
            self.vault.expiration.idle -= 1;
            match lease.lock() {
                Some(lock) => self.lock_drop(lock, key),
                None => {
                    let now = self.now();
                    let done = self.vault_work(costs::VAULT_SMALL).unwrap_or(now);
                    let stored = self.vault.store(done);
                    self.engine.at(stored, Ev::Revoked(key));
                }
            }
        }
    }

    /// An attempt to revoke a lease has ended.
    pub(crate) fn on_revocation_tried(&mut self, key: Key<Lease>, succeeded: bool) {
        self.vault.expiration.idle += 1;
        let now = self.now();
        let Some(lease) = self.vault.leases.get_mut(key) else {
            return self.run_revocations();
        };
        let (number, inv) = (lease.number(), lease.inv());
        if succeeded {
            let fact = match lease.state() {
                LeaseState::Expiring => {
                    Fact::LeaseExpired { lease: number, lag: now.since(lease.expires()) }
                }
                _ => Fact::LeaseRevoked { lease: number },
            };
            self.close_lease(key, fact);
        } else {
            let attempts = lease.revocation_failed();
            self.fact_of(inv, Fact::RevokeFailed { lease: number, attempts });
            if attempts >= ATTEMPTS_MAX {
                self.close_lease(key, Fact::LeaseIrrevocable { lease: number });
            } else {
                let pause = self.vault.expiration.pause(attempts);
                self.engine.after(pause, Ev::RevokeAgain(key));
            }
        }
        self.run_revocations();
    }

    fn close_lease(&mut self, key: Key<Lease>, fact: Fact) {
        if let Some(lease) = self.vault.leases.remove(key) {
            if let Some(session) = self.vault.sessions.get_mut(lease.session()) {
                session.forget(key);
            }
            self.fact_of(lease.inv(), fact);
        }
    }
}
