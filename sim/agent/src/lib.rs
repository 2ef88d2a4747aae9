//! The agent on real servers: runs the model's state machine against Vault, PostgreSQL and the API
//! server. Hollow kubelets run it as a task; a pod runs it as a program.

mod credentials;
mod driver;
pub mod journal;
pub mod names;
pub mod postgres;
mod task;
pub mod trust;
pub mod vault;
mod world;

pub use driver::run;
pub use task::{Source, Task};
pub use world::{Acted, AgentReport, Places, World};
