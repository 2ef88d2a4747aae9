//! The local servers, whose platform a test has changed.

use std::collections::BTreeMap;
use std::pin::Pin;

use alertstorm_agent::vault::{Vault, VaultError};
use alertstorm_model::scenario::FaultKind;
use alertstorm_platform::Platform;
use alertstorm_platform::provider::local::Local;
use alertstorm_platform::provider::{Program, Provider, ProviderError, Usage};

/// What [`Provider`] returns.
type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The local servers, with another description of their platform.
pub struct Altered {
    pub local: Local,
    pub platform: Platform,
}

impl Provider for Altered {
    fn platform(&self) -> Result<Platform, ProviderError> {
        Ok(self.platform.clone())
    }

    fn can(&self, fault: FaultKind) -> bool {
        self.local.can(fault)
    }

    fn vault(&self) -> Result<Vault, VaultError> {
        self.local.vault()
    }

    fn generation(&self) -> u64 {
        self.local.generation()
    }

    fn vault_ready(&self) -> BoxFuture<'_, Result<(), ProviderError>> {
        self.local.vault_ready()
    }

    fn usage(&self) -> BoxFuture<'_, BTreeMap<Program, Usage>> {
        self.local.usage()
    }

    fn outage(&self, program: Program, begins: bool) -> BoxFuture<'_, Result<(), ProviderError>> {
        self.local.outage(program, begins)
    }

    fn deaths(&self) -> Vec<Program> {
        self.local.deaths()
    }

    fn power(&self, node: u32, on: bool) -> BoxFuture<'_, Result<(), ProviderError>> {
        self.local.power(node, on)
    }

    fn settle_trails(&self) -> BoxFuture<'_, Result<(), ProviderError>> {
        self.local.settle_trails()
    }

    fn is_kept(&self) -> bool {
        self.local.is_kept()
    }

    fn end(&self) -> BoxFuture<'_, Result<(), ProviderError>> {
        self.local.end()
    }
}
