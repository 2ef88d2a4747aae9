//! Drives a platform of real servers. The engine runs a plan on it with the model's controller and
//! the model's agents, and writes the same events as the twin.
//!
//! Futures that another crate awaits are boxed here. The code of a future is generated in the crate
//! that polls it, and the Kubernetes client would be compiled there a second time.

mod agent_reports;
mod alerts;
mod book;
mod cores;
mod engine;
mod faults;
mod forensics;
mod jobs;
mod kubelet;
mod lags;
mod leases;
mod metrics;
mod pods;
mod probe;
mod reporter;
mod run;
mod scrape;
mod seen;
pub mod shard;
mod task;
mod throttle;
mod timeline;
mod tokens;
mod usage;
mod watch;
mod watchdog;

pub use run::{RunError, TeardownError, check_faults, run};
