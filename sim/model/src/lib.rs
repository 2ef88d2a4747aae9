//! Alertstorm's pure core. It names no runtime, no file system, no clock and no ambient randomness:
//! what it needs is handed in, so the same code runs in virtual time and on real servers.
//!
//! Read it in the order of the data: [`scenario`] → [`alert`] → [`delivery`], [`controller`] and
//! [`agent`] → [`event`].

#[macro_use]
mod words;

pub mod agent;
pub mod alert;
pub mod controller;
pub mod delivery;
pub mod digest;
pub mod dist;
pub mod event;
pub mod input;
pub mod investigation;
pub mod kubelet;
pub mod phase;
pub mod quantity;
pub mod scenario;
pub mod seed;
pub mod spread;
pub mod time;

pub use words::UnknownWord;
