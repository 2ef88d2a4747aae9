//! Promotion: whether the evidence justifies an agent's next trust phase.
//!
//! Each criterion is a rate of investigations, tested sequentially ([`crate::stats::Evidence`]).
//! The probability of a promotion by chance stays below the policy's limit, however often the
//! evidence is checked.
//!
//! ```
//! use alertstorm_analysis::verdict::promotion::{self, Tally, Verdict};
//!
//! let text = "from: shadow\nto: read-only-assist\ncriteria: [{must: success >= 50%}]\n";
//! let policy = promotion::load(text, "policy.yaml").expect("a valid policy");
//!
//! // Without any evidence, the agent stays in its phase; by default 100 investigations are needed.
//! let judgement = promotion::judge(&policy, &Tally::new(&policy));
//! assert_eq!(judgement.verdict, Verdict::Hold);
//! assert_eq!(judgement.records[0].more, Some(100));
//! ```

pub mod backtest;
mod cases;
mod judge;
mod observed;
mod policy;

pub use cases::{Case, Cases};
pub use judge::{Judgement, Record, State, Tally, Verdict, judge};
pub use observed::{Length, Rate, Violation};
pub use policy::{Criterion, Least, Must, Policy, Zero, load};
