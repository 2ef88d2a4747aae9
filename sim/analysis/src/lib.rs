//! Analysis of a run's event log: the ledger of leases, measures, statistics, verdicts and advice.
//!
//! Everything here is computed from the event log, during a run or from a log on disk. This crate
//! depends on the model, and the model does not depend on it. The modules in the order of the data:
//! [`ledger`] → [`measure`] → [`stats`] → [`verdict`] and [`advice`].

pub mod advice;
pub mod ledger;
pub mod measure;
pub mod stats;
pub mod verdict;
