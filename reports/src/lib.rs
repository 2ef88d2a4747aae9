//! What a person or a script reads of a run: the terminal summary, `report.json` with its schema,
//! and one HTML file with charts. Everything is rendered from a [`Report`], which is computed from
//! measures.

pub mod capacity;
mod charts;
pub mod compare;
pub mod effects;
pub mod gate;
pub mod html;
pub mod plan_diff;
pub mod promotion;
mod report;
pub mod schema;
pub mod spread;
pub mod terminal;

pub use report::{
    Advice, Attribution, Bottleneck, Cost, Harness, LeaseReport, OutcomeCount, Report, SCHEMA,
    Tried, World,
};
