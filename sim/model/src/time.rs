//! Time in integer nanoseconds: [`Time`] is an instant, counted from the start of the run; [`Span`] is
//! a duration.
//!
//! ```
//! use alertstorm_model::time::{Span, Time};
//!
//! let at = Time::ZERO + Span::secs(90);
//! assert_eq!(at.since(Time::ZERO).to_string(), "1 min 30 s");
//! assert_eq!(Time::ZERO.since(at), Span::ZERO, "never negative");
//! ```

use std::fmt;
use std::ops::{Add, AddAssign, Div, Mul, Sub};

use serde::{Deserialize, Serialize};

/// Nanoseconds in a second.
const NANOS: u64 = 1_000_000_000;

/// An instant, in nanoseconds since the start of the run.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Time(pub u64);

/// A duration in nanoseconds. It is written with its unit in scenarios, like `5m`, and as an integer
/// in the event log ([`nanos`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub u64);

/// Serializes a [`Span`] as integer nanoseconds, as in the event log.
pub mod nanos {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Span;

    /// For `#[serde(with)]`.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(span: &Span, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(span.0)
    }

    /// For `#[serde(with)]`.
    ///
    /// # Errors
    /// Those of the deserializer.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        u64::deserialize(deserializer).map(Span)
    }
}

impl Time {
    /// The start of the run.
    pub const ZERO: Self = Self(0);
    /// Later than the end of any run.
    pub const NEVER: Self = Self(u64::MAX);

    /// The time since `earlier`; zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }

    /// Seconds since the start of the run.
    pub const fn as_secs_f64(self) -> f64 {
        Span(self.0).as_secs_f64()
    }
}

impl Span {
    /// The empty duration.
    pub const ZERO: Self = Self(0);

    /// `n` nanoseconds.
    pub const fn nanos(n: u64) -> Self {
        Self(n)
    }

    /// `n` microseconds.
    pub const fn micros(n: u64) -> Self {
        Self(n * 1_000)
    }

    /// `n` milliseconds.
    pub const fn millis(n: u64) -> Self {
        Self(n * 1_000_000)
    }

    /// `n` seconds.
    pub const fn secs(n: u64) -> Self {
        Self(n * NANOS)
    }

    /// `s` seconds, rounded to a nanosecond. Clamped to the range from 0 to about 146 years.
    pub fn from_secs_f64(s: f64) -> Self {
        Self((s * NANOS as f64 + 0.5).clamp(0.0, (u64::MAX / 4) as f64) as u64)
    }

    /// The duration in seconds.
    pub const fn as_secs_f64(self) -> f64 {
        self.0 as f64 / NANOS as f64
    }

    /// The difference; zero if `other` is longer.
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The duration times `factor`, rounded to a nanosecond.
    pub fn scale(self, factor: f64) -> Self {
        Self::from_secs_f64(self.as_secs_f64() * factor)
    }
}

impl Add<Span> for Time {
    type Output = Self;
    fn add(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl AddAssign<Span> for Time {
    fn add_assign(&mut self, span: Span) {
        *self = *self + span;
    }
}

impl Add for Span {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Span {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Span {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self.saturating_sub(other)
    }
}

impl Mul<u64> for Span {
    type Output = Self;
    fn mul(self, n: u64) -> Self {
        Self(self.0.saturating_mul(n))
    }
}

impl Div<u64> for Span {
    type Output = Self;
    fn div(self, n: u64) -> Self {
        Self(self.0 / n)
    }
}

/// Three significant digits in the largest suitable unit: `9.10 s`, `250 ms`, `1 min 31 s`.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.as_secs_f64();
        let text = if self.0 == 0 {
            "0 s".to_owned()
        } else if s < 0.001 {
            format!("{:.0} µs", s * 1e6)
        } else if s < 0.1 {
            format!("{:.1} ms", s * 1e3)
        } else if s < 1.0 {
            format!("{:.0} ms", s * 1e3)
        } else if s < 10.0 {
            format!("{s:.2} s")
        } else if s < 60.0 {
            format!("{s:.1} s")
        } else {
            clock(s.round() as u64)
        };
        f.pad(&text)
    }
}

fn clock(s: u64) -> String {
    let (h, m, s) = (s / 3600, s / 60 % 60, s % 60);
    match (h, m, s) {
        (0, m, 0) => format!("{m} min"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, 0, _) => format!("{h} h"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_reads_as_a_person_would_write_it() {
        let shown = |s: f64| Span::from_secs_f64(s).to_string();
        assert_eq!(shown(0.000_25), "250 µs");
        assert_eq!(shown(0.025), "25.0 ms");
        assert_eq!(shown(9.1), "9.10 s");
        assert_eq!(shown(91.0), "1 min 31 s");
        assert_eq!(shown(3600.0), "1 h");
        assert_eq!(shown(86_340.0), "23 h 59 min");
    }
}
