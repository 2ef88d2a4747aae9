//! The interface between a provider and the run on its platform.

use std::collections::BTreeMap;

use alertstorm_agent::vault::{Vault, VaultError};
use alertstorm_model::scenario::FaultKind;
use futures::future::BoxFuture;

use super::error::ProviderError;
use super::program::{Program, Usage};
use crate::platform::Platform;

/// A platform while a run lasts.
pub trait Provider: Send + Sync {
    /// Addresses, identities and audit trails.
    ///
    /// # Errors
    /// If a file of the platform cannot be read.
    fn platform(&self) -> Result<Platform, ProviderError>;

    /// Whether this provider supports a fault.
    fn can(&self, fault: FaultKind) -> bool;

    /// A client of Vault that may configure it.
    ///
    /// # Errors
    /// If the HTTP client cannot be built.
    fn vault(&self) -> Result<Vault, VaultError>;

    /// How often Vault's storage was created. A new one has none of the configuration and leases of
    /// the one before.
    fn generation(&self) -> u64;

    /// Waits until Vault is active; unseals it if it is sealed.
    fn vault_ready(&self) -> BoxFuture<'_, Result<(), ProviderError>>;

    /// Processor time of each server since its first start, and its memory now.
    fn usage(&self) -> BoxFuture<'_, BTreeMap<Program, Usage>>;

    /// Kills a server (`begins`), or starts it again.
    fn outage(&self, program: Program, begins: bool) -> BoxFuture<'_, Result<(), ProviderError>>;

    /// Servers that died unexpectedly since the last call.
    fn deaths(&self) -> Vec<Program>;

    /// What else happened to the platform since the last call: a sentence each, for the report.
    fn remarks(&self) -> Vec<String> {
        Vec::new()
    }

    /// Powers a node off or on. Does nothing for hollow nodes, which the run itself stops.
    fn power(&self, node: u32, on: bool) -> BoxFuture<'_, Result<(), ProviderError>>;

    /// Waits until the audit trails contain all requests until now.
    fn settle_trails(&self) -> BoxFuture<'_, Result<(), ProviderError>>;

    /// Whether the platform outlives the run, which then has to delete its objects.
    fn is_kept(&self) -> bool;

    /// Removes what the provider created, unless it is kept.
    fn end(&self) -> BoxFuture<'_, Result<(), ProviderError>>;
}
