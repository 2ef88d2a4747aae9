//! The verbs, one file each.

pub mod capacity;
pub mod check;
pub mod clean;
pub mod compare;
pub mod doctor;
pub mod gate;
pub mod promote;
pub mod render;
pub mod report;
pub mod run;
pub mod schema;
pub mod setup;
pub mod shard;
pub mod trace;
pub mod up;
