//! Makes a platform of real servers and hands it over. A provider starts or finds the servers, the
//! bootstrap and the Vault set-up make them ready for a plan, and [`Platform`] is what the driver gets:
//! addresses, identities and trails.
//!
//! Futures that another crate awaits are boxed here. The code of a future is generated in the crate
//! that polls it, and the Kubernetes client would be compiled there a second time.

pub mod bootstrap;
pub mod call;
pub mod connection;
pub mod doctor;
pub mod identity;
pub mod manifests;
mod platform;
mod postgres;
pub mod provider;
pub mod render;
pub mod vault;

pub use platform::{
    Agents, Clients, Identities, MetricsOf, NAMESPACE, Page, Platform, PodSpec, Surroundings,
    Tokens, Trails,
};
