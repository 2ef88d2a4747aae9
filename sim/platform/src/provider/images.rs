//! Names of container images.

/// The agent's image, built by `alertstorm setup kind`.
pub const AGENT: &str = concat!("alertstorm/agent:", env!("CARGO_PKG_VERSION"));

/// The shards' image. A run on kind builds it from its own program.
pub const SHARD: &str = concat!("alertstorm/alertstorm:", env!("CARGO_PKG_VERSION"));

/// Vault's image for the kind provider; `ALERTSTORM_VAULT_IMAGE` overrides it.
pub const VAULT: &str = "hashicorp/vault:1.21";

/// PostgreSQL's image for the kind provider; `ALERTSTORM_POSTGRES_IMAGE` overrides it.
pub const POSTGRES: &str = "postgres:17";

/// The `imagePullPolicy` of a container. An image that this machine built is on the nodes already and
/// is never pulled: a public registry may have given its name to others.
pub fn pull_policy(image: &str) -> &'static str {
    if [AGENT, SHARD].contains(&image) { "Never" } else { "IfNotPresent" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_that_this_machine_built_are_never_pulled() {
        assert_eq!(pull_policy(AGENT), "Never");
        assert_eq!(pull_policy(SHARD), "Never");
        assert_eq!(pull_policy("registry.example/alertstorm/agent:0.1.0"), "IfNotPresent");
    }
}
