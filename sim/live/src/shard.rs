//! Past one machine: the load generator as an Indexed Job in the target cluster. Each of its pods is
//! a *shard*, which runs the engine on its part of the plan and writes what it sees as lines of its
//! log; the *fleet* here deploys them, reads their logs, and makes one run of it all. Everything
//! else (Vault's leases, faults, metrics, trails, the books) stays here.

pub(crate) mod fleet;
mod manifests;
mod memory;
mod runner;
mod wire;

use std::num::NonZeroU32;

pub use fleet::FleetError;
pub(crate) use runner::Wire;
pub use runner::{RunnerError, orders, run};
pub use wire::Orders;
pub(crate) use wire::{Memory, OpenMemory};

/// How many shards a run has, and their image.
#[derive(Clone, Debug)]
pub struct Shards {
    /// How many.
    pub count: NonZeroU32,
    /// The image of this program, as the cluster's nodes have it.
    pub image: String,
    /// What a shard runs: files below the folder of its plan, by name.
    pub files: Vec<(String, String)>,
}

/// Where a shard finds its plan, in its pod.
pub const PLAN_FOLDER: &str = "/plan";
