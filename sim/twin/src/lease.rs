//! Tokens and leases in Vault's storage.

use alertstorm_model::investigation::{Domain, InvestigationId};
use alertstorm_model::time::{Span, Time};

use crate::arena::Key;
use crate::investigation::Inv;

/// A token, and the leases issued to it.
#[derive(Debug)]
pub(crate) struct Session {
    number: u64,
    inv: InvestigationId,
    expires: Time,
    leases: Vec<Key<Lease>>,
}

impl Session {
    /// The number is unique in the run.
    pub const fn new(number: u64, inv: InvestigationId, expires: Time) -> Self {
        Self { number, inv, expires, leases: Vec::new() }
    }

    pub const fn number(&self) -> u64 {
        self.number
    }

    pub const fn inv(&self) -> InvestigationId {
        self.inv
    }

    pub fn add(&mut self, lease: Key<Lease>) {
        self.leases.push(lease);
    }

    pub fn forget(&mut self, lease: Key<Lease>) {
        self.leases.retain(|other| *other != lease);
    }

    pub fn into_leases(self) -> Vec<Key<Lease>> {
        self.leases
    }
}

/// The lock of a database config, by its index among all configs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LockId(u32);

impl LockId {
    pub const fn new(place: u32) -> Self {
        Self(place)
    }

    pub const fn place(self) -> usize {
        self.0 as usize
    }
}

/// A lease from its issue until it is revoked or irrevocable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease {
    number: u64,
    domain: Domain,
    inv: InvestigationId,
    holder: Key<Inv>,
    session: Key<Session>,
    expires: Time,
    max_expires: Time,
    state: LeaseState,
    failed_revocations: u32,
    lock: Option<LockId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeaseState {
    Alive,
    /// To be revoked before it expires.
    Revoking,
    /// Expired, and to be revoked.
    Expiring,
}

/// The investigation that a lease is issued to.
#[derive(Clone, Copy, Debug)]
pub struct Holder {
    pub inv: InvestigationId,
    pub key: Key<Inv>,
}

impl Lease {
    /// It expires after `ttl`, with renewals after `max_ttl`, and not later than its token.
    pub fn new(
        (number, domain): (u64, Domain),
        holder: Holder,
        (token, session): (Key<Session>, &Session),
        lock: Option<LockId>,
        (now, ttl, max_ttl): (Time, Span, Span),
    ) -> Self {
        Self {
            number,
            domain,
            inv: holder.inv,
            holder: holder.key,
            session: token,
            expires: (now + ttl).min(session.expires),
            max_expires: (now + max_ttl).min(session.expires),
            state: LeaseState::Alive,
            failed_revocations: 0,
            lock,
        }
    }

    /// Unique in the run.
    pub const fn number(&self) -> u64 {
        self.number
    }

    pub const fn domain(&self) -> Domain {
        self.domain
    }

    pub const fn inv(&self) -> InvestigationId {
        self.inv
    }

    pub const fn holder(&self) -> Key<Inv> {
        self.holder
    }

    pub const fn session(&self) -> Key<Session> {
        self.session
    }

    pub const fn expires(&self) -> Time {
        self.expires
    }

    pub const fn state(&self) -> LeaseState {
        self.state
    }

    /// The lock of the database config that issued it; its renewal and revocation need it.
    pub const fn lock(&self) -> Option<LockId> {
        self.lock
    }

    pub fn is_alive(&self) -> bool {
        self.state == LeaseState::Alive
    }

    pub fn can_renew(&self) -> bool {
        self.is_alive() && self.expires < self.max_expires
    }

    pub fn renew(&mut self, now: Time, ttl: Span) {
        self.expires = (now + ttl).min(self.max_expires);
    }

    /// Returns false if its revocation has begun before.
    pub fn begin_revocation(&mut self, because: LeaseState) -> bool {
        let alive = self.is_alive();
        if alive {
            self.state = because;
        }
        alive
    }

    /// A revocation failed; returns the number of failures.
    pub const fn revocation_failed(&mut self) -> u32 {
        self.failed_revocations += 1;
        self.failed_revocations
    }
}
