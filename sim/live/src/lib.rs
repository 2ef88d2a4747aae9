//! The platform on real servers. A provider hands over a platform (addresses, identities, trails); the engine runs a
//! plan on it with the model's controller and the model's agents, and writes the same events.

mod agent;
mod alerts;
mod bootstrap;
mod call;
mod connection;
mod engine;
mod forensics;
mod identity;
mod jobs;
mod kubelet;
pub mod local;
mod metrics;
mod platform;
mod postgres;
mod reporter;
mod run;
mod scrape;
mod throttle;
mod timeline;
mod vault;
mod watch;

pub use run::{RunError, check_faults, run};
