//! Creates a platform of real servers. A provider starts or finds the servers, `bootstrap` and
//! `vault` configure them for a plan, and [`Platform`] is the result: addresses, identities and
//! audit trails.
//!
//! Futures that another crate awaits are boxed here. The compiler generates the code of a future in
//! the crate that polls it, so an unboxed one would compile the Kubernetes client a second time
//! there.

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
