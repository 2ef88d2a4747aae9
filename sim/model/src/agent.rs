//! The agent: what it does is a trace, drawn from a profile or recorded; how it does it is a state
//! machine without I/O that says what it wants next and is told what happened.

pub mod draw;
pub mod machine;
pub mod profile;
pub mod trace;

pub use machine::{Agent, Heard, Want};
pub use profile::{Profile, Profiles};
pub use trace::{End, Ending, Step, Tool, Trace};
