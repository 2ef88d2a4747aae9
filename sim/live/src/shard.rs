//! Past one machine: the load generator as an Indexed Job in the target cluster. Each of its pods is
//! a *shard*, which runs the engine on its part of the plan and writes what it sees as lines of its
//! log; the *fleet* here deploys them, reads their logs, and makes one run of it all. Everything
//! else (Vault's leases, faults, metrics, trails, the books) stays here.

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
