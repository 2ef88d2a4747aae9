//! Confidence intervals and tests: Clopper-Pearson and Wilson intervals of rates, intervals of
//! quantiles from order statistics, e-values from a mixture martingale for rates that are checked
//! repeatedly, Welch's t interval, and the bootstrap.
//!
//! ```
//! use alertstorm_analysis::stats::{Evidence, Side, clopper_pearson};
//!
//! // 17 hits in 20 observations: the exact 95 % interval of the rate is 0.62 to 0.97.
//! let interval = clopper_pearson(17, 20, 0.95);
//! assert!((interval.low - 0.621).abs() < 0.001 && (interval.high - 0.968).abs() < 0.001);
//!
//! // 190 of 200 show at level 5 % that the rate is above 0.85, however often it is checked.
//! let evidence = Evidence { hits: 190, n: 200 };
//! assert!(evidence.is_significant(0.85, Side::Above, 0.05));
//! ```

mod bootstrap;
mod rate;
mod sequential;
mod shift;

pub use bootstrap::{Effect, difference_of_quantiles, quantile, ratio_of_quantiles};
pub use rate::{
    Interval, clopper_pearson, median_interval, more_often, none_and_all, quantile_interval, wilson,
};
pub use sequential::{Evidence, Side};
pub use shift::{paired, welch};
