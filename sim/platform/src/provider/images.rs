//! Names of container images.

/// The agent's image, built by `alertstorm setup kind`.
pub const AGENT: &str = concat!("alertstorm/agent:", env!("CARGO_PKG_VERSION"));

/// The shards' image. A run on kind builds it from its own program.
pub const SHARD: &str = concat!("alertstorm/alertstorm:", env!("CARGO_PKG_VERSION"));

/// Vault's image for the kind provider; `ALERTSTORM_VAULT_IMAGE` overrides it.
pub const VAULT: &str = "hashicorp/vault:1.21";

/// PostgreSQL's image for the kind provider; `ALERTSTORM_POSTGRES_IMAGE` overrides it.
pub const POSTGRES: &str = "postgres:17";
