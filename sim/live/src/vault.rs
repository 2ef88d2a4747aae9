//! Vault as the harness uses it: what makes it ready for a run, and the book of its leases.

pub mod leases;
pub mod setup;

pub use alertstorm_agent::vault::{Address, Vault, VaultError};
