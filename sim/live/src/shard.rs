//! Generates the load of a run in the target cluster, for runs that need more than one machine. An
//! Indexed Job has one pod per *shard*. A shard runs the engine on its part of the plan and writes
//! messages to its log. The *fleet*, in this process, deploys the shards, reads their logs, and
//! merges them into one run. Leases, faults, metrics and audit logs are handled in this process
//! only.

pub(crate) mod fleet;
mod manifests;
mod memory;
mod runner;
pub(crate) mod wire;

pub use fleet::FleetError;
pub use manifests::{PLAN_FOLDER, Shards};
pub use runner::{RunnerError, orders, run};
pub use wire::Orders;
pub(crate) use wire::{Memory, OpenMemory};
