//! The platform on real servers. A provider hands over a platform (addresses, identities, trails); the engine runs a
//! plan on it with the model's controller and the model's agents, and writes the same events.
//!
//! What others await here is boxed: the code of a future is made in the crate that makes it a
//! `dyn Future` or polls it, and all of Kubernetes' client would be made there once more.

mod alerts;
mod bootstrap;
mod call;
mod connection;
mod engine;
mod forensics;
mod hearing;
mod identity;
mod jobs;
mod kubelet;
mod manifests;
mod metrics;
mod platform;
mod pods;
mod postgres;
pub mod provider;
pub mod render;
mod reporter;
mod run;
mod scrape;
pub mod shard;
mod throttle;
mod timeline;
mod vault;
mod watch;

pub use run::{RunError, check_faults, run};
