//! The ledger of leases, and of the Vault tokens that they are issued to. At every instant and for
//! every investigation: leases issued = active + revoked + expired + irrevocable, and tokens issued =
//! active + revoked + expired. A token cannot be irrevocable: Vault no longer accepts it once its
//! revocation has begun (`tokenRevocationPending` in vault/token_store.go).
//!
//! An *orphan* is a lease or a token that is active after its investigation ended: a token mints
//! further leases for as long as it lives. A lease that was returned and awaits its revocation is no
//! orphan; it becomes one when an attempt to revoke it fails. A lease or a token whose response no agent
//! received is an orphan from its issue on: nobody holds it, and nobody will return it.
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

/// Totals of the leases in the ledger. Every lease issued is in exactly one of `revoked`, `expired`,
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
    /// Leases that were active after their investigation ended, or that no agent received, whether
    /// they have ended since or not.
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

/// Totals of the tokens in the ledger: of agents' logins to Vault. Every token issued is in exactly
/// one of `revoked`, `expired` and `active`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenCounts {
    /// Tokens issued by Vault, one for each login.
    pub issued: u64,
    /// Tokens revoked before they expired: by their agent or, at the end of a live run, by the
    /// harness.
    pub revoked: u64,
    /// Tokens that expired.
    pub expired: u64,
    /// Tokens that have not ended. A run does not wait for the expiry of a token.
    pub active: u64,
    /// The maximum of `active` so far.
    pub active_peak: u64,
    /// Tokens that were active after their investigation ended, or that no agent received, whether
    /// they have ended since or not.
    pub orphaned: u64,
}

impl TokenCounts {
    /// Whether issued = active + revoked + expired.
    pub const fn balances(&self) -> bool {
        self.issued == self.active + self.revoked + self.expired
    }
}

/// A lease or a token that has not ended.
#[derive(Clone, Copy, Debug)]
struct Open {
    inv: Option<InvestigationId>,
    returned: bool,
    /// Start of the exposure: the end of the investigation, or the issue if that was later or if no
    /// agent received it. `None` while it is no orphan.
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
    /// A token number was issued a second time in the same run.
    #[error("token {0} was issued twice")]
    TokenIssuedTwice(u64),
    /// An event refers to a token that was not issued, or that has already ended.
    #[error("token {0} is not active")]
    TokenNotActive(u64),
}

/// The leases, or the tokens, that have not ended.
#[derive(Debug, Default)]
struct Alive {
    open: FxHashMap<u64, Open>,
    /// Numbers of the open ones, by investigation.
    by_investigation: FxHashMap<InvestigationId, Vec<u64>>,
    issued: u64,
    peak: u64,
    orphaned: u64,
    exposure_sum: Span,
    exposure_max: Span,
}

impl Alive {
    /// Whether the number was free. If the investigation has `ended`, nobody will return it.
    fn issue(&mut self, at: Time, number: u64, inv: Option<InvestigationId>, ended: bool) -> bool {
        if self.open.contains_key(&number) {
            return false;
        }
        let orphaned_at = ended.then_some(at);
        self.orphaned += u64::from(ended);
        self.open.insert(number, Open { inv, returned: false, orphaned_at });
        if let Some(inv) = inv {
            self.by_investigation.entry(inv).or_default().push(number);
        }
        self.issued += 1;
        self.peak = self.peak.max(self.active());
        true
    }

    /// Whether it was open.
    fn close(&mut self, at: Time, number: u64) -> bool {
        let Some(open) = self.open.remove(&number) else { return false };
        if let Some(inv) = open.inv
            && let Some(numbers) = self.by_investigation.get_mut(&inv)
        {
            numbers.retain(|n| *n != number);
            if numbers.is_empty() {
                self.by_investigation.remove(&inv);
            }
        }
        if let Some(since) = open.orphaned_at {
            let exposure = at.since(since);
            self.exposure_sum += exposure;
            self.exposure_max = self.exposure_max.max(exposure);
        }
        true
    }

    /// Nobody holds it. Whether it was open.
    fn unclaimed(&mut self, at: Time, number: u64) -> bool {
        let Some(open) = self.open.get_mut(&number) else { return false };
        self.orphaned += u64::from(open.orphaned_at.is_none());
        open.orphaned_at.get_or_insert(at);
        true
    }

    fn investigation_ended(&mut self, at: Time, inv: InvestigationId) {
        for number in self.by_investigation.get(&inv).into_iter().flatten() {
            if let Some(open) = self.open.get_mut(number)
                && open.orphaned_at.is_none()
                && !open.returned
            {
                open.orphaned_at = Some(at);
                self.orphaned += 1;
            }
        }
    }

    fn active(&self) -> u64 {
        self.open.len() as u64
    }

    /// Sum and maximum of the exposures of all orphans up to `now`.
    fn exposure(&self, now: Time) -> (Span, Span) {
        #[expect(clippy::disallowed_methods, reason = "sum and maximum depend on no order")]
        let since = self.open.values().filter_map(|open| open.orphaned_at);
        since
            .map(|since| now.since(since))
            .fold((self.exposure_sum, self.exposure_max), |(sum, max), exposure| {
                (sum + exposure, max.max(exposure))
            })
    }
}

/// State of the ledger after the events folded so far.
#[derive(Debug, Default)]
pub struct Ledger {
    leases: Alive,
    tokens: Alive,
    /// Ends of investigations whose Job is not collected yet.
    ended: FxHashMap<InvestigationId, Time>,
    /// The fields that events count; the others come from `leases` and `tokens`.
    lease_counts: LeaseCounts,
    token_counts: TokenCounts,
}

impl Ledger {
    /// Applies an event. Facts that concern neither leases and tokens nor the end of an
    /// investigation are ignored.
    ///
    /// # Errors
    /// If the event contradicts the ledger. The ledger is then unchanged.
    pub fn fold(&mut self, event: &Event) -> Result<(), LedgerError> {
        match (&event.fact, event.inv) {
            (&Fact::LeaseIssued { lease, .. }, inv) => {
                let ended = inv.is_some_and(|inv| self.ended.contains_key(&inv));
                if !self.leases.issue(event.at, lease, inv, ended) {
                    return Err(LedgerError::IssuedTwice(lease));
                }
            }
            (&Fact::LeaseRenewed { lease }, _) => {
                self.lease(lease)?;
                self.lease_counts.renewed += 1;
            }
            (&Fact::LeaseRevoked { lease }, _) => {
                self.close(event.at, lease)?;
                self.lease_counts.revoked += 1;
            }
            (&Fact::LeaseExpired { lease, .. }, _) => {
                self.close(event.at, lease)?;
                self.lease_counts.expired += 1;
            }
            (&Fact::LeaseIrrevocable { lease }, _) => {
                self.close(event.at, lease)?;
                self.lease_counts.irrevocable += 1;
            }
            (&Fact::LeaseReturned { lease }, _) => self.lease(lease)?.returned = true,
            (&Fact::RevokeFailed { lease, .. }, _) => {
                let open = *self.lease(lease)?;
                self.lease_counts.revoke_failures += 1;
                let ended = open.inv.and_then(|inv| self.ended.get(&inv).copied());
                if let (None, Some(ended)) = (open.orphaned_at, ended) {
                    self.lease(lease)?.orphaned_at = Some(ended);
                    self.leases.orphaned += 1;
                }
            }
            (&Fact::TokenIssued { token, .. }, inv) => {
                let ended = inv.is_some_and(|inv| self.ended.contains_key(&inv));
                if !self.tokens.issue(event.at, token, inv, ended) {
                    return Err(LedgerError::TokenIssuedTwice(token));
                }
            }
            (&Fact::TokenRevoked { token }, _) => {
                self.close_token(event.at, token)?;
                self.token_counts.revoked += 1;
            }
            (&Fact::TokenExpired { token }, _) => {
                self.close_token(event.at, token)?;
                self.token_counts.expired += 1;
            }
            (&Fact::LeaseUnclaimed { lease }, _) => {
                let known = self.leases.unclaimed(event.at, lease);
                known.then_some(()).ok_or(LedgerError::NotActive(lease))?;
            }
            (&Fact::TokenUnclaimed { token }, _) => {
                let known = self.tokens.unclaimed(event.at, token);
                known.then_some(()).ok_or(LedgerError::TokenNotActive(token))?;
            }
            (Fact::Ended { .. }, Some(inv)) => {
                self.ended.insert(inv, event.at);
                self.leases.investigation_ended(event.at, inv);
                self.tokens.investigation_ended(event.at, inv);
            }
            (Fact::Stage { stage: Stage::JobCollected }, Some(inv)) => {
                self.ended.remove(&inv);
            }
            _ => {}
        }
        Ok(())
    }

    fn lease(&mut self, lease: u64) -> Result<&mut Open, LedgerError> {
        self.leases.open.get_mut(&lease).ok_or(LedgerError::NotActive(lease))
    }

    fn close(&mut self, at: Time, lease: u64) -> Result<(), LedgerError> {
        self.leases.close(at, lease).then_some(()).ok_or(LedgerError::NotActive(lease))
    }

    fn close_token(&mut self, at: Time, token: u64) -> Result<(), LedgerError> {
        self.tokens.close(at, token).then_some(()).ok_or(LedgerError::TokenNotActive(token))
    }

    /// The totals of leases so far.
    pub fn counts(&self) -> LeaseCounts {
        LeaseCounts {
            issued: self.leases.issued,
            active: self.leases.active(),
            active_peak: self.leases.peak,
            orphaned: self.leases.orphaned,
            ..self.lease_counts
        }
    }

    /// The totals of tokens so far.
    pub fn tokens(&self) -> TokenCounts {
        TokenCounts {
            issued: self.tokens.issued,
            active: self.tokens.active(),
            active_peak: self.tokens.peak,
            orphaned: self.tokens.orphaned,
            ..self.token_counts
        }
    }

    /// Sum and maximum of the exposures of all orphaned leases. An orphan's exposure lasts from the
    /// end of its investigation to the end of the lease, or to `now` if the lease is still active.
    pub fn exposure(&self, now: Time) -> (Span, Span) {
        self.leases.exposure(now)
    }

    /// The same of all orphaned tokens.
    pub fn token_exposure(&self, now: Time) -> (Span, Span) {
        self.tokens.exposure(now)
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

    #[test]
    fn a_token_that_its_agent_did_not_revoke_is_an_orphan_although_every_lease_was_returned() {
        let (crashed, tidy) = (InvestigationId(1), InvestigationId(2));
        let mut ledger = Ledger::default();
        let mut fold = |s: u64, inv, fact| ledger.fold(&Event::of(Time(s), inv, fact));
        for (token, inv) in [(0, crashed), (1, tidy)] {
            fold(1, inv, Fact::TokenIssued { token, expires: Time(50) }).unwrap();
        }
        fold(2, tidy, Fact::LeaseIssued { lease: 0, domain: Domain::Network, expires: Time(9) })
            .unwrap();
        fold(3, tidy, Fact::TokenRevoked { token: 1 }).unwrap();
        fold(3, tidy, Fact::LeaseReturned { lease: 0 }).unwrap();
        fold(3, tidy, Fact::LeaseRevoked { lease: 0 }).unwrap();
        fold(4, tidy, Fact::Ended { outcome: Outcome::Resolved }).unwrap();
        fold(10, crashed, Fact::Ended { outcome: Outcome::Crashed }).unwrap();
        let again = fold(11, tidy, Fact::TokenExpired { token: 1 });
        assert_eq!(again, Err(LedgerError::TokenNotActive(1)));
        let tokens = ledger.tokens();
        assert_eq!((tokens.issued, tokens.active, tokens.active_peak), (2, 1, 2));
        assert_eq!((tokens.orphaned, ledger.counts().orphaned), (1, 0));
        assert_eq!(ledger.token_exposure(Time(30)), (Span(20), Span(20)));
        let expired = Event::of(Time(50), crashed, Fact::TokenExpired { token: 0 });
        ledger.fold(&expired).unwrap();
        assert_eq!(ledger.token_exposure(Time(90)), (Span(40), Span(40)));
        assert!(ledger.tokens().balances() && ledger.tokens().active == 0);
        // Its login was answered after the agent was killed.
        let late = Event::of(Time(91), crashed, Fact::TokenIssued { token: 2, expires: Time(99) });
        ledger.fold(&late).unwrap();
        assert_eq!(ledger.tokens().orphaned, 2);
    }

    #[test]
    fn a_lease_and_a_token_that_no_agent_received_are_orphans_from_their_issue_on() {
        let inv = InvestigationId(1);
        let mut ledger = Ledger::default();
        let issued =
            |lease| Fact::LeaseIssued { lease, domain: Domain::Network, expires: Time(50) };
        let mut fold = |s: u64, inv, fact| ledger.fold(&Event { at: Time(s), inv, fact }).unwrap();
        for (number, of) in [(0, Some(inv)), (1, None)] {
            fold(5, of, issued(number));
            fold(5, of, Fact::LeaseUnclaimed { lease: number });
            fold(5, of, Fact::TokenIssued { token: number, expires: Time(50) });
            fold(5, of, Fact::TokenUnclaimed { token: number });
        }
        // Its end does not count them again, nor does it begin their exposure.
        fold(10, Some(inv), Fact::Ended { outcome: Outcome::Resolved });
        fold(25, Some(inv), Fact::LeaseRevoked { lease: 0 });
        fold(50, None, Fact::LeaseExpired { lease: 1, lag: Span::ZERO });
        fold(25, Some(inv), Fact::TokenRevoked { token: 0 });
        assert_eq!((ledger.counts().orphaned, ledger.tokens().orphaned), (2, 2));
        assert_eq!(ledger.exposure(Time(60)), (Span(65), Span(45)));
        assert_eq!(ledger.token_exposure(Time(60)), (Span(75), Span(55)));
        assert!(ledger.counts().balances() && ledger.tokens().balances());
        let late = Event::of(Time(60), inv, Fact::LeaseUnclaimed { lease: 0 });
        assert_eq!(ledger.fold(&late), Err(LedgerError::NotActive(0)));
    }
}
