//! Intervals: how much a sample settles. Rates by their exact or score intervals, rates that are
//! looked at again and again by a mixture martingale, order statistics, and the bootstrap.

mod bootstrap;
mod rate;
mod sequential;
mod shift;

pub use bootstrap::{Effect, difference_of_quantiles, quantile, ratio_of_quantiles};
pub use rate::{Interval, clopper_pearson, median_interval, quantile_interval, wilson};
pub use sequential::{Evidence, Side};
pub use shift::{paired, welch};
