//! What the driver of a run asks of the provider that made the platform.

use std::collections::BTreeMap;

use alertstorm_agent::vault::{Vault, VaultError};
use alertstorm_model::scenario::FaultKind;
use futures::future::BoxFuture;

use super::error::ProviderError;
use super::program::{Program, Usage};
use crate::platform::Platform;

/// What the engine asks of whoever made the platform, while a run lasts.
pub trait Provider: Send + Sync {
    /// The platform.
    ///
    /// # Errors
    /// Where a file of it cannot be read.
    fn platform(&self) -> Result<Platform, ProviderError>;

    /// Whether it can make a fault.
    fn can(&self, fault: FaultKind) -> bool;

    /// A client of Vault that may configure it.
    ///
    /// # Errors
    /// Where the HTTP client cannot be made.
    fn vault(&self) -> Result<Vault, VaultError>;

    /// Which Vault it is, counted by how often one was made: a later one knows nothing of an
    /// earlier one.
    fn generation(&self) -> u64;

    /// Waits until Vault does its work, and unseals it on the way.
    fn vault_ready(&self) -> BoxFuture<'_, Result<(), ProviderError>>;

    /// What each server has used since it began.
    fn usage(&self) -> BoxFuture<'_, BTreeMap<Program, Usage>>;

    /// Kills a server, or starts it again.
    fn outage(&self, program: Program, begins: bool) -> BoxFuture<'_, Result<(), ProviderError>>;

    /// Servers that died and were started again since it was asked last.
    fn deaths(&self) -> Vec<Program>;

    /// Takes a node's power, or gives it back; nothing where the harness plays the nodes.
    fn power(&self, node: u32, on: bool) -> BoxFuture<'_, Result<(), ProviderError>>;

    /// Makes sure that the trails hold what happened until now.
    fn settle_trails(&self) -> BoxFuture<'_, Result<(), ProviderError>>;

    /// Whether the platform outlives the run, so that the run cleans up after itself.
    fn is_kept(&self) -> bool;

    /// The end of a run: what the provider made is ended, unless it is kept.
    fn end(&self) -> BoxFuture<'_, Result<(), ProviderError>>;
}
