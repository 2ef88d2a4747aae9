//! The agent. What it does is a [`Trace`], drawn from a profile or recorded. How it does it is a state
//! machine without I/O: it returns the next command, and receives its result.
//!
//! ```
//! use alertstorm_model::agent::{Agent, AgentInput, Profile, AgentCommand, draw};
//! use alertstorm_model::investigation::{Domain, InvestigationId};
//! use alertstorm_model::time::{Span, Time};
//!
//! let trace = draw::trace(1, InvestigationId(0), Domain::Network, &Profile::default());
//! let mut agent = Agent::new(trace, Span::secs(120));
//! assert_eq!(agent.next(Time::ZERO, AgentInput::Started), AgentCommand::Login);
//! let command = agent.next(Time::ZERO, AgentInput::Done);
//! assert_eq!(command, AgentCommand::Credential(Domain::Network));
//! ```

pub mod draw;
pub mod machine;
pub mod profile;
pub mod trace;

pub use machine::{Agent, AgentCommand, AgentInput};
pub use profile::{Profile, Profiles};
pub use trace::{End, Ending, Step, Tool, Trace};
