//! The names of container images, in one place.

/// The agent's image, as `alertstorm setup kind` makes it.
pub const AGENT: &str = concat!("alertstorm/agent:", env!("CARGO_PKG_VERSION"));

/// The shards' image, as a run on kind makes it of its own program.
pub const SHARD: &str = concat!("alertstorm/alertstorm:", env!("CARGO_PKG_VERSION"));

/// Vault's image beside a kind cluster; `ALERTSTORM_VAULT_IMAGE` names another.
pub const VAULT: &str = "hashicorp/vault:1.21";

/// PostgreSQL's image beside a kind cluster; `ALERTSTORM_POSTGRES_IMAGE` names another.
pub const POSTGRES: &str = "postgres:17";
