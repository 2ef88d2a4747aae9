//! What every input file has in common: a text, and places in it.

mod json_lines;
mod place;

pub use json_lines::{JsonLine, json_lines};
pub use place::{Place, Text};
