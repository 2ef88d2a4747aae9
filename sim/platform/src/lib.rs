//! Creates a platform of real servers. A provider starts or finds the servers, `bootstrap` and
//! `vault` configure them for a plan, and [`Platform`] is the result: addresses, identities and
//! audit trails.
//!
//! Futures that another crate awaits are boxed here. The compiler generates the code of a future in
//! the crate that polls it, so an unboxed one would compile the Kubernetes client a second time
//! there.

pub mod bearer;
pub mod bootstrap;
pub mod call;
pub mod connection;
pub mod doctor;
pub mod identity;
pub mod inventory;
pub mod lease;
pub mod manifests;
pub mod objects;
mod platform;
mod postgres;
pub mod provider;
pub mod reach;
pub mod render;
pub mod sweep;
pub mod vault;

pub use alertstorm_agent::names::{InvalidRunId, Names, RunId};
pub use kube::Client;
pub use platform::{
    Agents, Clients, Identities, MetricsOf, NodeTokens, Page, Platform, PodSpec, Surroundings,
    Tokens, Trails,
};
