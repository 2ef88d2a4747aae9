//! Providers: each makes a platform in its own way and hands it over; the driver is the same.

mod causes;
pub mod cluster;
mod command;
mod error;
pub mod images;
mod interface;
pub mod kind;
pub mod local;
mod program;
mod progress;
mod secret;
pub mod state;

pub use command::CommandError;
pub use error::ProviderError;
pub use interface::Provider;
pub use program::{Program, Usage};
pub use progress::Progress;
