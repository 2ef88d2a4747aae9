//! Distributions of quantities, such as the duration of an image pull.
//!
//! ```
//! use alertstorm_model::dist::Dist;
//! use alertstorm_model::seed::{Purpose, Stream};
//! use alertstorm_model::time::Span;
//!
//! let pull = Dist::log_normal(Span::secs(6), Span::secs(15));
//! let mut stream = Stream::new(1, Purpose::PodStart, 0);
//! assert!(pull.draw(&mut stream) > Span::ZERO);
//! ```

use std::marker::PhantomData;

use crate::quantity::Quantity;
use crate::seed::Stream;

/// The standard normal's 95th percentile.
const Z95: f64 = 1.644_853_626_951_472_2;

/// A distribution of a quantity `Q`. All numbers are in Q's base unit, see [`Quantity::base`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dist<Q> {
    shape: Shape,
    min: f64,
    max: f64,
    quantity: PhantomData<Q>,
}

/// The family of a distribution, with its parameters in the base unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// Always the same value.
    Constant(f64),
    /// Uniform between the two values.
    Uniform(f64, f64),
    /// Exponential with this mean.
    Exponential(f64),
    /// Log-normal, `median · exp(sigma · Z)`, as latencies often are.
    LogNormal {
        /// The median.
        median: f64,
        /// Standard deviation of the natural logarithm.
        sigma: f64,
    },
}

impl<Q: Quantity> Dist<Q> {
    /// Always `value`.
    pub fn constant(value: Q) -> Self {
        Self::new(Shape::Constant(value.base()))
    }

    /// Log-normal from its median and its 95th percentile.
    pub fn log_normal(median: Q, p95: Q) -> Self {
        Self::new(Self::log_normal_shape(median.base(), p95.base()))
    }

    /// The log-normal shape with this median and 95th percentile, in the base unit.
    pub fn log_normal_shape(median: f64, p95: f64) -> Shape {
        Shape::LogNormal { median, sigma: libm::log(p95 / median).max(0.0) / Z95 }
    }

    /// The distribution with this shape. Negative draws are clamped to 0.
    pub const fn new(shape: Shape) -> Self {
        Self { shape, min: 0.0, max: f64::MAX, quantity: PhantomData }
    }

    /// The same distribution, with draws clamped to the range from `min` to `max` (base unit).
    pub const fn clamped(mut self, min: f64, max: f64) -> Self {
        self.min = min;
        self.max = max;
        self
    }

    /// Draws a value in the base unit.
    pub fn draw_base(&self, stream: &mut Stream) -> f64 {
        let value = match self.shape {
            Shape::Constant(value) => value,
            Shape::Uniform(low, high) => low + (high - low) * stream.unit(),
            Shape::Exponential(mean) => mean * stream.exponential(),
            Shape::LogNormal { median, sigma } => median * libm::exp(sigma * stream.normal()),
        };
        value.clamp(self.min, self.max)
    }

    /// Draws a value as a quantity.
    pub fn draw(&self, stream: &mut Stream) -> Q {
        Q::of_base(self.draw_base(stream))
    }

    /// The mean in the base unit, without regard to clamping.
    pub fn mean_base(&self) -> f64 {
        match self.shape {
            Shape::Constant(value) | Shape::Exponential(value) => value,
            Shape::Uniform(low, high) => low.midpoint(high),
            Shape::LogNormal { median, sigma } => median * libm::exp(sigma * sigma / 2.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Purpose;
    use crate::time::Span;

    #[test]
    fn a_log_normal_has_the_median_and_p95_it_was_made_of() {
        let dist = Dist::log_normal(Span::secs(4), Span::secs(20));
        let mut stream = Stream::new(1, Purpose::Trace, 0);
        let mut drawn: Vec<f64> = (0..20_000).map(|_| dist.draw_base(&mut stream)).collect();
        drawn.sort_by(f64::total_cmp);
        assert!((drawn[10_000] / 4.0 - 1.0).abs() < 0.05, "median {}", drawn[10_000]);
        assert!((drawn[19_000] / 20.0 - 1.0).abs() < 0.08, "p95 {}", drawn[19_000]);
    }
}
