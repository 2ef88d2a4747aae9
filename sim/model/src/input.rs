//! Input files: YAML and JSON Lines, with the place of everything that is wrong in them.
//!
//! ```
//! use alertstorm_model::scenario::{NoFiles, load};
//!
//! let text = "# 二時\nalerts: [{flod: 3}]";
//! let problems = load(text, "night.yaml", &[], &NoFiles).unwrap_err();
//! let place = problems[0].place.unwrap();
//! assert_eq!((place.line, place.column), (2, 11));
//! assert_eq!(problems[0].help.as_deref(), Some("did you mean `flood`?"));
//! ```

mod document;
mod json_lines;
mod mapping;
mod place;
mod problem;
mod value;
mod yaml;

pub use document::read as read_document;
pub(crate) use document::{in_order, make};
pub use json_lines::{JsonLine, json_lines};
pub use place::{Place, Text, without_mark};
pub use problem::{Problem, Problems, nearest};
pub use value::{keyword, parsed, unexpected, worded};
pub(crate) use yaml::Node;
