//! Errors of the local provider.

use std::io;

use alertstorm_agent::vault::VaultError;

use super::assets::Missing;
use super::flags::UnknownFlag;
use super::{ca, postgres};
use crate::bootstrap::BootstrapError;
use crate::connection::ConnectionError;
use crate::provider::causes::with_causes;
use crate::sweep::SweepError;

/// Why a local platform could not be started, used or removed.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// A start failed, and what it had created could not be removed.
    #[error(
        "{}; and then what it had created could not be removed: {}; `alertstorm clean` removes it",
        with_causes(.first),
        with_causes(.cleanup)
    )]
    AndCleanup {
        /// Why the start failed.
        first: Box<Self>,
        /// Why the removal failed.
        cleanup: Box<Self>,
    },
    /// Programs that are not installed; each message says how to install it.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Missing(Vec<Missing>),
    /// The scenario sets flags that the servers do not have.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    UnknownFlags(Vec<UnknownFlag>),
    /// A file or a process could not be created, read or removed.
    #[error("could not {what}")]
    Io {
        /// The attempted action, as an infinitive.
        what: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A certificate could not be created.
    #[error(transparent)]
    Ca(#[from] ca::CaError),
    /// `initdb` or its preparation failed.
    #[error(transparent)]
    Postgres(#[from] postgres::PostgresError),
    /// A server ended, or was not ready in time.
    #[error("{program} did not become ready: {why}; the end of its log is:\n{log}")]
    NotReady {
        /// Name of the server.
        program: &'static str,
        /// The result of the last readiness check.
        why: String,
        /// The last ten lines of its log.
        log: String,
    },
    /// The client of Vault could not be built.
    #[error("could not connect to the local Vault")]
    Vault(#[from] VaultError),
    /// The CA certificate of the platform is not valid.
    #[error("could not read the CA certificate of the local platform")]
    Authority(#[from] rustls::Error),
    /// The client of the API server could not be built.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The kept platform was started with other settings: which ones differ.
    #[error(
        "the kept platform differs from this scenario in its {0}; `alertstorm down` removes it"
    )]
    KeptDiffers(String),
    /// Another run uses the kept platform: its process.
    #[error("the kept platform is in use by the run of process {0}; one run at a time can use it")]
    InUse(i32),
    /// The namespace of a run, or its Lease, could not be created.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// What a run created on the kept platform could not be deleted.
    #[error("what a run created on the kept platform could not be deleted")]
    Sweep(#[from] SweepError),
    /// What a run created in the Vault of the kept platform could not be deleted.
    #[error("what a run created in the Vault of the kept platform could not be deleted")]
    SweepVault(#[source] VaultError),
    /// The database or the roles of a run could not be created or dropped.
    #[error("the database and the roles of a run could not be created or dropped")]
    Roles(#[from] alertstorm_agent::postgres::PostgresError),
}

/// Names what was attempted in an error of the operating system.
pub(super) fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> LocalError {
    let what = what.into();
    move |source| LocalError::Io { what, source }
}
