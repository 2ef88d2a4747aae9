//! Scenarios in two stages: [`raw::Scenario`] has the fields of the file; a [`Plan`] is checked and
//! can run. [`load`] reports the problems of all files together.
//!
//! ```
//! use alertstorm_model::scenario::{NoFiles, load};
//!
//! let text = "alerts: [{flood: 300, over: 60s}]\ncontroller: {concurrency: 150}";
//! let plan = load(text, "flood.yaml", &[], &NoFiles).unwrap();
//! assert_eq!((plan.scenario().name.as_str(), plan.alerts_expected()), ("flood", 300));
//!
//! let larger = plan.with_knob("controller.concurrency", "300").unwrap();
//! assert_eq!(larger.scenario().controller.concurrency.get(), 300);
//! assert!(plan.with_knob("cluster.nodes", "0").is_err(), "a changed plan is checked too");
//! ```

mod bounds;
mod change;
mod check;
mod files;
pub mod knobs;
mod objective;
mod part;
mod plan;
mod profiles;
pub mod raw;

pub use crate::input::{Problem, Problems, nearest, read_document, worded};
pub use crate::spread;
pub use check::{BUILT_IN_PROFILES, Override, load, locate};
pub use files::{Files, NoFiles};
pub use objective::{Comparison, Counter, Metric, Slo, metrics};
pub use part::{Indivisible, Part};
pub use plan::{Agents, FaultPlan, Plan};
pub use profiles::load_profiles;
pub use raw::{FaultKind, Scenario};
