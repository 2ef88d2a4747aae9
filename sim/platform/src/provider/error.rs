//! Why a provider could not do what it was asked.

use super::cluster::ClusterError;
use super::kind::KindError;
use super::local::LocalError;

/// Why a provider could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The local provider.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// The kind provider.
    #[error(transparent)]
    Kind(#[from] KindError),
    /// The cluster provider.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}
