//! Providers: each creates a platform in its own way; runs on all of them are driven alike.

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
