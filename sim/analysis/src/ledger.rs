//! The ledger of leases: issued = active + revoked + expired + irrevocable, at every instant and
//! for every investigation. An orphan is a lease alive after its investigation ended, unless it was
//! given back and is only waiting to be revoked; a first failure to revoke it makes it one after
//! all.

use rustc_hash::FxHashMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use alertstorm_model::event::{Event, Fact};
use alertstorm_model::investigation::{InvestigationId, Stage};
use alertstorm_model::time::{Span, Time};

/// The sums of the ledger. Every lease issued is in exactly one of the last four.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeaseCounts {
    /// Leases that Vault gave out.
    pub issued: u64,
    /// Renewals (a lease may be renewed often).
    pub renewed: u64,
    /// Leases given back, or revoked with their token.
    pub revoked: u64,
    /// Leases that ran out.
    pub expired: u64,
    /// Leases that Vault gave up revoking: they are alive at their source.
    pub irrevocable: u64,
    /// Leases alive now.
    pub active: u64,
    /// Most leases alive at once.
    pub active_peak: u64,
    /// Leases that outlived their investigation.
    pub orphaned: u64,
    /// Failed attempts to revoke.
    pub revoke_failures: u64,
}

impl LeaseCounts {
    /// Whether every lease issued is accounted for.
    pub const fn balances(&self) -> bool {
        self.issued == self.active + self.revoked + self.expired + self.irrevocable
    }
}

/// A lease that has not ended.
#[derive(Clone, Copy, Debug)]
struct Open {
    inv: InvestigationId,
    returned: bool,
    /// When its investigation ended, where it did.
    orphaned_at: Option<Time>,
}

/// What the ledger cannot book.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// A lease number was issued a second time.
    #[error("lease {0} was issued twice")]
    IssuedTwice(u64),
    /// A lease ended or was renewed that is not alive.
    #[error("lease {0} is not alive")]
    NotAlive(u64),
}

/// Folds lease events.
#[derive(Debug, Default)]
pub struct Ledger {
    open: FxHashMap<u64, Open>,
    /// Leases alive, by investigation.
    of: FxHashMap<InvestigationId, Vec<u64>>,
    /// When investigations ended, until they are collected.
    ended: FxHashMap<InvestigationId, Time>,
    counts: LeaseCounts,
    exposure_sum: Span,
    exposure_max: Span,
}

impl Ledger {
    /// Books an event; events that are not about leases change nothing.
    ///
    /// # Errors
    /// Where the event contradicts the ledger; nothing is booked then.
    pub fn fold(&mut self, event: &Event) -> Result<(), LedgerError> {
        match (&event.fact, event.inv) {
            (&Fact::LeaseIssued { lease, .. }, Some(inv)) => {
                if self.open.contains_key(&lease) {
                    return Err(LedgerError::IssuedTwice(lease));
                }
                // Vault may answer an agent that is no more: nobody will give this one back.
                let orphaned_at = self.ended.get(&inv).map(|_| event.at);
                self.counts.orphaned += u64::from(orphaned_at.is_some());
                self.open.insert(lease, Open { inv, returned: false, orphaned_at });
                self.of.entry(inv).or_default().push(lease);
                self.counts.issued += 1;
                self.counts.active += 1;
                self.counts.active_peak = self.counts.active_peak.max(self.counts.active);
            }
            (&Fact::LeaseRenewed { lease }, _) => {
                self.open.get(&lease).ok_or(LedgerError::NotAlive(lease))?;
                self.counts.renewed += 1;
            }
            (&Fact::LeaseRevoked { lease }, _) => {
                self.close(event.at, lease)?;
                self.counts.revoked += 1;
            }
            (&Fact::LeaseExpired { lease, .. }, _) => {
                self.close(event.at, lease)?;
                self.counts.expired += 1;
            }
            (&Fact::LeaseIrrevocable { lease }, _) => {
                self.close(event.at, lease)?;
                self.counts.irrevocable += 1;
            }
            (&Fact::LeaseReturned { lease }, _) => {
                let open = self.open.get_mut(&lease).ok_or(LedgerError::NotAlive(lease))?;
                open.returned = true;
            }
            (&Fact::RevokeFailed { lease, .. }, _) => {
                let open = self.open.get_mut(&lease).ok_or(LedgerError::NotAlive(lease))?;
                self.counts.revoke_failures += 1;
                if let (None, Some(ended)) = (open.orphaned_at, self.ended.get(&open.inv)) {
                    open.orphaned_at = Some(*ended);
                    self.counts.orphaned += 1;
                }
            }
            (Fact::Ended { .. }, Some(inv)) => self.investigation_ended(event.at, inv),
            (Fact::Stage { stage: Stage::JobCollected }, Some(inv)) => {
                self.ended.remove(&inv);
            }
            _ => {}
        }
        Ok(())
    }

    fn close(&mut self, at: Time, lease: u64) -> Result<(), LedgerError> {
        let open = self.open.remove(&lease).ok_or(LedgerError::NotAlive(lease))?;
        self.counts.active -= 1;
        if let Some(leases) = self.of.get_mut(&open.inv) {
            leases.retain(|l| *l != lease);
            if leases.is_empty() {
                self.of.remove(&open.inv);
            }
        }
        if let Some(since) = open.orphaned_at {
            self.expose(at.since(since));
        }
        Ok(())
    }

    fn expose(&mut self, exposure: Span) {
        self.exposure_sum += exposure;
        self.exposure_max = self.exposure_max.max(exposure);
    }

    fn investigation_ended(&mut self, at: Time, inv: InvestigationId) {
        self.ended.insert(inv, at);
        for lease in self.of.get(&inv).into_iter().flatten() {
            if let Some(open) = self.open.get_mut(lease)
                && open.orphaned_at.is_none()
                && !open.returned
            {
                open.orphaned_at = Some(at);
                self.counts.orphaned += 1;
            }
        }
    }

    /// The sums.
    pub const fn counts(&self) -> LeaseCounts {
        self.counts
    }

    /// Sum and maximum of the orphans' exposure, those still alive counted up to `now`.
    pub fn exposure(&self, now: Time) -> (Span, Span) {
        let mut alive: Vec<Span> = Vec::new();
        for (_, leases) in self.of_sorted() {
            let orphans = leases.iter().filter_map(|lease| self.open[lease].orphaned_at);
            alive.extend(orphans.map(|since| now.since(since)));
        }
        let sum = alive.iter().fold(self.exposure_sum, |sum, span| sum + *span);
        (sum, alive.into_iter().fold(self.exposure_max, Span::max))
    }

    fn of_sorted(&self) -> Vec<(InvestigationId, &Vec<u64>)> {
        #[expect(clippy::disallowed_methods, reason = "sorted before anyone sees the order")]
        let mut all: Vec<_> = self.of.iter().map(|(inv, leases)| (*inv, leases)).collect();
        all.sort_unstable_by_key(|(inv, _)| *inv);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alertstorm_model::investigation::{Domain, Outcome};

    #[test]
    fn a_lease_that_outlives_its_investigation_is_an_orphan_with_an_exposure() {
        let inv = InvestigationId(1);
        let mut ledger = Ledger::default();
        let mut fold = |s: u64, fact| ledger.fold(&Event::of(Time(s), inv, fact)).unwrap();
        fold(1, Fact::LeaseIssued { lease: 9, domain: Domain::Network, expires: Time(50) });
        fold(10, Fact::Ended { outcome: Outcome::Crashed });
        fold(55, Fact::LeaseExpired { lease: 9, lag: Span(5) });
        assert_eq!(ledger.counts().orphaned, 1);
        assert!(ledger.counts().balances());
        assert_eq!(ledger.exposure(Time(60)), (Span(45), Span(45)));
        let again = Event::of(Time(60), inv, Fact::LeaseRevoked { lease: 9 });
        assert_eq!(ledger.fold(&again), Err(LedgerError::NotAlive(9)));
    }
}
