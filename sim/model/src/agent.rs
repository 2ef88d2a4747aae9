//! The agent. What it does is a [`Trace`], drawn from a profile or recorded. How it does it is a state
//! machine without I/O: it returns what it wants next, and receives what became of that.
//!
//! ```
//! use alertstorm_model::agent::{Agent, Heard, Profile, Want, draw};
//! use alertstorm_model::investigation::{Domain, InvestigationId};
//! use alertstorm_model::time::{Span, Time};
//!
//! let trace = draw::trace(1, InvestigationId(0), Domain::Network, &Profile::default());
//! let mut agent = Agent::new(trace, Span::secs(120));
//! assert_eq!(agent.next(Time::ZERO, Heard::Started), Want::Login);
//! let want = agent.next(Time::ZERO, Heard::Done);
//! assert_eq!(want, Want::Credential(Domain::Network));
//! ```

pub mod draw;
pub mod machine;
pub mod profile;
pub mod trace;

pub use machine::{Agent, Heard, Want};
pub use profile::{Profile, Profiles};
pub use trace::{End, Ending, Step, Tool, Trace};
