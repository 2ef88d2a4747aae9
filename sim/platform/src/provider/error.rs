//! The error of [`Provider`](super::interface::Provider): one variant for each provider.

use super::cluster::ClusterError;
use super::kind::KindError;
use super::local::LocalError;

/// An error of a provider.
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
