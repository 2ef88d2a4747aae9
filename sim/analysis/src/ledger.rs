//! The ledger of leases. At every instant and for every investigation: issued = active + revoked +
//! expired + irrevocable.
//!
//! An *orphan* is a lease that is active after its investigation ended. A lease that was returned
//! and awaits its revocation is no orphan; it becomes one when an attempt to revoke it fails.
//!
//! ```
//! use alertstorm_analysis::ledger::Ledger;
//! use alertstorm_model::event::{Event, Fact};
//! use alertstorm_model::investigation::{Domain, InvestigationId, Outcome};
//! use alertstorm_model::time::{Span, Time};
//!
//! # fn main() -> Result<(), alertstorm_analysis::ledger::LedgerError> {
//! let investigation = InvestigationId(1);
//! let at = |seconds| Time::ZERO + Span::secs(seconds);
//! let events = [
//!     (1, Fact::LeaseIssued { lease: 7, domain: Domain::Network, expires: at(60) }),
//!     (20, Fact::Ended { outcome: Outcome::Crashed }),
//!     (60, Fact::LeaseExpired { lease: 7, lag: Span::ZERO }),
//! ];
//!
//! let mut ledger = Ledger::default();
//! for (seconds, fact) in events {
//!     ledger.fold(&Event::of(at(seconds), investigation, fact))?;
//! }
//! assert_eq!(ledger.counts().orphaned, 1);
//! assert_eq!(ledger.exposure(at(60)), (Span::secs(40), Span::secs(40)));
//! assert!(ledger.counts().balances());
//! # Ok(())
//! # }
//! ```

use rustc_hash::FxHashMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use alertstorm_model::event::{Event, Fact};
use alertstorm_model::investigation::{InvestigationId, Stage};
use alertstorm_model::time::{Span, Time};

/// Totals of the ledger. Every lease issued is in exactly one of `revoked`, `expired`,
/// `irrevocable` and `active`; the other fields count events or overlap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeaseCounts {
    /// Leases issued by Vault.
    pub issued: u64,
    /// Renewals; one lease may be renewed several times.
    pub renewed: u64,
    /// Leases revoked before they expired: returned by the agent, or revoked with their token.
    pub revoked: u64,
    /// Leases that expired and were then revoked by Vault's expiration manager.
    pub expired: u64,
    /// Leases that Vault gave up revoking. Their credentials still work in the backend.
    pub irrevocable: u64,
    /// Leases that have not ended.
    pub active: u64,
    /// The maximum of `active` so far.
    pub active_peak: u64,
    /// Leases that were active after their investigation ended, whether they have ended since or
    /// not.
    pub orphaned: u64,
    /// Failed attempts to revoke a lease; one lease may have several.
    pub revoke_failures: u64,
}

impl LeaseCounts {
    /// Whether issued = active + revoked + expired + irrevocable.
    pub const fn balances(&self) -> bool {
        self.issued == self.active + self.revoked + self.expired + self.irrevocable
    }
}

/// A lease that has not ended.
#[derive(Clone, Copy, Debug)]
struct Open {
    inv: InvestigationId,
    returned: bool,
    /// Start of the exposure: the end of the investigation, or the issue if that was later. `None`
    /// while the lease is no orphan.
    orphaned_at: Option<Time>,
}

/// An event that contradicts the ledger.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// A lease number was issued a second time in the same run.
    #[error("lease {0} was issued twice")]
    IssuedTwice(u64),
    /// An event refers to a lease that was not issued, or that has already ended.
    #[error("lease {0} is not active")]
    NotActive(u64),
}

/// State of the ledger after the events folded so far.
#[derive(Debug, Default)]
pub struct Ledger {
    open: FxHashMap<u64, Open>,
    /// Numbers of the open leases, by investigation.
    by_investigation: FxHashMap<InvestigationId, Vec<u64>>,
    /// Ends of investigations whose Job is not collected yet.
    ended: FxHashMap<InvestigationId, Time>,
    counts: LeaseCounts,
    exposure_sum: Span,
    exposure_max: Span,
}

impl Ledger {
    /// Applies an event. Facts that concern neither leases nor the end of an investigation are
    /// ignored.
    ///
    /// # Errors
    /// If the event contradicts the ledger. The ledger is then unchanged.
    pub fn fold(&mut self, event: &Event) -> Result<(), LedgerError> {
        match (&event.fact, event.inv) {
            (&Fact::LeaseIssued { lease, .. }, Some(inv)) => {
                if self.open.contains_key(&lease) {
                    return Err(LedgerError::IssuedTwice(lease));
                }
                // Vault's answer can arrive after the agent ended: nobody will return this lease.
                let orphaned_at = self.ended.get(&inv).map(|_| event.at);
                self.counts.orphaned += u64::from(orphaned_at.is_some());
                self.open.insert(lease, Open { inv, returned: false, orphaned_at });
                self.by_investigation.entry(inv).or_default().push(lease);
                self.counts.issued += 1;
                self.counts.active += 1;
                self.counts.active_peak = self.counts.active_peak.max(self.counts.active);
            }
            (&Fact::LeaseRenewed { lease }, _) => {
                self.open.get(&lease).ok_or(LedgerError::NotActive(lease))?;
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
                let open = self.open.get_mut(&lease).ok_or(LedgerError::NotActive(lease))?;
                open.returned = true;
            }
            (&Fact::RevokeFailed { lease, .. }, _) => {
                let open = self.open.get_mut(&lease).ok_or(LedgerError::NotActive(lease))?;
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
        let open = self.open.remove(&lease).ok_or(LedgerError::NotActive(lease))?;
        self.counts.active -= 1;
        if let Some(leases) = self.by_investigation.get_mut(&open.inv) {
            leases.retain(|l| *l != lease);
            if leases.is_empty() {
                self.by_investigation.remove(&open.inv);
            }
        }
        if let Some(since) = open.orphaned_at {
            self.record_exposure(at.since(since));
        }
        Ok(())
    }

    fn record_exposure(&mut self, exposure: Span) {
        self.exposure_sum += exposure;
        self.exposure_max = self.exposure_max.max(exposure);
    }

    fn investigation_ended(&mut self, at: Time, inv: InvestigationId) {
        self.ended.insert(inv, at);
        for lease in self.by_investigation.get(&inv).into_iter().flatten() {
            if let Some(open) = self.open.get_mut(lease)
                && open.orphaned_at.is_none()
                && !open.returned
            {
                open.orphaned_at = Some(at);
                self.counts.orphaned += 1;
            }
        }
    }

    /// The totals so far.
    pub const fn counts(&self) -> LeaseCounts {
        self.counts
    }

    /// Sum and maximum of the exposures of all orphans. An orphan's exposure lasts from the end of
    /// its investigation to the end of the lease, or to `now` if the lease is still active.
    pub fn exposure(&self, now: Time) -> (Span, Span) {
        let mut active: Vec<Span> = Vec::new();
        for (_, leases) in self.leases_by_investigation() {
            let orphans = leases.iter().filter_map(|lease| self.open[lease].orphaned_at);
            active.extend(orphans.map(|since| now.since(since)));
        }
        let sum = active.iter().fold(self.exposure_sum, |sum, span| sum + *span);
        (sum, active.into_iter().fold(self.exposure_max, Span::max))
    }

    fn leases_by_investigation(&self) -> Vec<(InvestigationId, &Vec<u64>)> {
        #[expect(clippy::disallowed_methods, reason = "sorted before use")]
        let mut all: Vec<_> =
            self.by_investigation.iter().map(|(inv, leases)| (*inv, leases)).collect();
        all.sort_unstable_by_key(|(inv, _)| *inv);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alertstorm_model::investigation::{Domain, Outcome};

    #[test]
    fn an_active_lease_of_an_ended_investigation_is_an_orphan_and_has_an_exposure() {
        let inv = InvestigationId(1);
        let mut ledger = Ledger::default();
        let mut fold = |s: u64, fact| ledger.fold(&Event::of(Time(s), inv, fact)).unwrap();
        fold(1, Fact::LeaseIssued { lease: 9, domain: Domain::Network, expires: Time(50) });
        fold(10, Fact::Ended { outcome: Outcome::Crashed });
        fold(55, Fact::LeaseExpired { lease: 9, lag: Span(5) });
        assert_eq!(ledger.counts().orphaned, 1);
        assert!(ledger.counts().balances());
        assert_eq!(ledger.exposure(Time(60)), (Span(45), Span(45)));
        let second_end = Event::of(Time(60), inv, Fact::LeaseRevoked { lease: 9 });
        assert_eq!(ledger.fold(&second_end), Err(LedgerError::NotActive(9)));
    }
}
