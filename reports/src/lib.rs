//! Reports for people and scripts: the terminal summary, `report.json` with its schema, and an HTML
//! file with charts. They are rendered from a [`Report`], which is computed from measures.

pub mod capacity;
mod charts;
pub mod compare;
pub mod effects;
pub mod gate;
pub mod html;
pub mod plan_diff;
pub mod printable;
pub mod promotion;
mod report;
pub mod report_v1;
pub mod schema;
pub mod spread;
pub mod terminal;

pub use report::{
    Advice, Attribution, Bottleneck, Cost, Harness, LeaseReport, OutcomeCount, Report, SCHEMA,
    TokenReport, Tried, TwinOf, World,
};
