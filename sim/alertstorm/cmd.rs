//! The verbs, one file each.

pub mod check;
pub mod report;
pub mod run;
pub mod schema;
pub mod trace;
