//! The agent: the model's state machine, with a real Vault, a real PostgreSQL and a real API server
//! to answer it. Hollow kubelets run it as a task, a pod as its program.

mod credentials;
mod driver;
pub mod journal;
pub mod names;
pub mod postgres;
mod task;
pub mod trust;
pub mod vault;

pub use driver::{Acted, Places, Told, World, run};
pub use task::{Source, Task};
