//! What a run's events come to: the ledger of leases, measures, statistics, verdicts and advice.
//!
//! Everything here is computed from the event log, during a run or from a log on disk. It depends
//! on the model, and nothing in the model depends on it. Read it in the order of the data:
//! [`ledger`] → [`measure`] → [`stats`] → [`verdict`] and [`advice`].

pub mod advice;
pub mod ledger;
pub mod measure;
pub mod stats;
pub mod verdict;
