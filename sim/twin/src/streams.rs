//! All random streams of the twin, so that a test can show that no two of them are the same.

use alertstorm_model::investigation::InvestigationId;
use alertstorm_model::seed::{Purpose, Stream};

/// Sync times of etcd's disk.
pub(crate) fn etcd(seed: u64) -> Stream {
    Stream::new(seed, Purpose::Etcd, 0)
}

/// Sync times of Vault's disk.
pub(crate) fn vault_storage(seed: u64) -> Stream {
    Stream::new(seed, Purpose::VaultStorage, 0)
}

/// Sync times of PostgreSQL's disk.
pub(crate) fn postgres(seed: u64) -> Stream {
    Stream::new(seed, Purpose::Postgres, 0)
}

/// Jitter of requests to the API server that are sent again.
pub(crate) fn api_retries(seed: u64) -> Stream {
    Stream::new(seed, Purpose::Backoff, 0)
}

/// Jitter of revocations that are tried again.
pub(crate) fn revocations(seed: u64) -> Stream {
    Stream::new(seed, Purpose::Revocation, 0)
}

/// The phase of a node's relists.
pub(crate) fn relist(seed: u64, node: u32) -> Stream {
    Stream::new(seed, Purpose::Relist, u64::from(node))
}

/// Image pull, sandbox and container start of an investigation's pod.
pub(crate) fn pod_start(seed: u64, inv: InvestigationId) -> Stream {
    Stream::new(seed, Purpose::PodStart, inv.0)
}

/// The hand of queues that API Priority and Fairness deals a flow.
pub(crate) fn hand(seed: u64, flow: u64) -> Stream {
    Stream::new(seed, Purpose::FlowHash, flow)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn no_two_uses_and_no_two_seeds_share_a_stream() {
        let mut first_draws = BTreeMap::new();
        for seed in 0..64 {
            let platform = [
                ("etcd", etcd(seed)),
                ("vault storage", vault_storage(seed)),
                ("postgres", postgres(seed)),
                ("api retries", api_retries(seed)),
                ("revocations", revocations(seed)),
            ];
            let entities = [0, 1, u64::MAX].into_iter().flat_map(|entity| {
                [
                    ("pod start", pod_start(seed, InvestigationId(entity))),
                    ("hand", hand(seed, entity)),
                ]
            });
            let nodes = [0, 1, u32::MAX].map(|node| ("relist", relist(seed, node)));
            for (of, mut stream) in platform.into_iter().chain(entities).chain(nodes) {
                let other = first_draws.insert(stream.bits(), (of, seed));
                assert_eq!(other, None, "shared by {of} of seed {seed}");
            }
        }
    }
}
