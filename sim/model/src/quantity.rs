//! Quantities with units, as in scenarios: `5m`, `200Mi`, `2/s`, `80%`. For a missing unit the error
//! lists the accepted ones.
//!
//! ```
//! use alertstorm_model::quantity::{Bytes, QuantityError, Rate};
//! use alertstorm_model::time::Span;
//!
//! assert_eq!("1h30m".parse(), Ok(Span::secs(5400)));
//! assert_eq!("30/m".parse(), Ok(Rate(0.5)));
//! let error: QuantityError = "200".parse::<Bytes>().unwrap_err();
//! assert!(error.to_string().contains("like 200Mi"));
//! ```

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::time::Span;

/// The text is no quantity of the expected kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub struct QuantityError {
    /// [`Quantity::EXPECTED`] of that kind.
    pub expected: String,
}

/// A quantity that is written as a number with its unit.
pub trait Quantity: Copy + Sized {
    /// What is expected, with an example; continues "expected …".
    const EXPECTED: &'static str;
    /// Regular expression of the written form, for the JSON schema.
    const PATTERN: &'static str;

    /// Parses the written form.
    fn parse(text: &str) -> Option<Self>;
    /// The value in its base unit: seconds, bytes, per second, or 1 for shares and amounts.
    fn base(self) -> f64;
    /// The quantity of `base` base units.
    fn of_base(base: f64) -> Self;
}

/// Splits `12.5Mi` into 12.5 and `Mi`; the number must be finite and not negative.
fn number_and_unit(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    number.is_finite().then(|| (number, text[end..].trim()))
}

fn with_units(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let (number, unit) = number_and_unit(text)?;
    units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| number * factor)
}

impl Quantity for Span {
    const EXPECTED: &'static str =
        "a duration with its unit (ns, us, ms, s, m, h, d), like 90s or 5m";
    const PATTERN: &'static str = r"^\s*([0-9]+(\.[0-9]+)?\s*(ns|us|ms|s|m|h|d)\s*)+$";

    fn parse(text: &str) -> Option<Self> {
        const UNITS: [(&str, f64); 7] = [
            ("ns", 1e-9),
            ("us", 1e-6),
            ("ms", 1e-3),
            ("s", 1.0),
            ("m", 60.0),
            ("h", 3600.0),
            ("d", 86_400.0),
        ];
        let mut rest = text.trim();
        let mut seconds = 0.0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
            let unit = rest[digits..]
                .find(|c: char| c.is_ascii_digit() || c.is_whitespace())
                .map_or(rest.len(), |n| digits + n);
            seconds += with_units(&rest[..unit], &UNITS)?;
            rest = rest[unit..].trim_start();
        }
        (seconds <= 3650.0 * 86_400.0 && !text.trim().is_empty())
            .then(|| Self::from_secs_f64(seconds))
    }

    fn base(self) -> f64 {
        self.as_secs_f64()
    }

    fn of_base(base: f64) -> Self {
        Self::from_secs_f64(base)
    }
}

/// An amount of memory, in bytes. Written with a binary or decimal unit, like `200Mi` or `500M`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

impl Bytes {
    /// `n` mebibytes.
    pub const fn mebi(n: u64) -> Self {
        Self(n << 20)
    }

    /// `n` gibibytes.
    pub const fn gibi(n: u64) -> Self {
        Self(n << 30)
    }
}

impl Quantity for Bytes {
    const EXPECTED: &'static str =
        "an amount of memory with its unit (Ki, Mi, Gi, k, M, G), like 200Mi";
    const PATTERN: &'static str = r"^\s*[0-9]+(\.[0-9]+)?\s*(Ki|Mi|Gi|Ti|k|M|G|T)\s*$";

    fn parse(text: &str) -> Option<Self> {
        const UNITS: [(&str, f64); 8] = [
            ("Ki", 1024.0),
            ("Mi", 1_048_576.0),
            ("Gi", 1_073_741_824.0),
            ("Ti", 1_099_511_627_776.0),
            ("k", 1e3),
            ("M", 1e6),
            ("G", 1e9),
            ("T", 1e12),
        ];
        with_units(text, &UNITS).map(Self::of_base)
    }

    fn base(self) -> f64 {
        self.0 as f64
    }

    fn of_base(base: f64) -> Self {
        Self((base + 0.5).clamp(0.0, (1_u64 << 60) as f64) as u64)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mi = self.0 as f64 / 1_048_576.0;
        if mi >= 1024.0 { write!(f, "{:.1} GiB", mi / 1024.0) } else { write!(f, "{mi:.0} MiB") }
    }
}

/// A rate per second. Written with its unit, like `2/s` or `30/m`.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Rate(pub f64);

impl Quantity for Rate {
    const EXPECTED: &'static str = "a rate with its unit (/s, /m, /h, /d), like 2/s or 30/m";
    const PATTERN: &'static str = r"^\s*[0-9]+(\.[0-9]+)?\s*/\s*(s|m|h|d)\s*$";

    fn parse(text: &str) -> Option<Self> {
        const UNITS: [(&str, f64); 4] =
            [("/s", 1.0), ("/m", 1.0 / 60.0), ("/h", 1.0 / 3600.0), ("/d", 1.0 / 86_400.0)];
        with_units(&text.replace(' ', ""), &UNITS).map(Self)
    }

    fn base(self) -> f64 {
        self.0
    }

    fn of_base(base: f64) -> Self {
        Self(base)
    }
}

/// A share between 0 and 1. Written like `80%` or `0.8`.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Share(pub f64);

impl Quantity for Share {
    const EXPECTED: &'static str = "a share between 0 and 1, like 80% or 0.8";
    const PATTERN: &'static str = r"^\s*[0-9]+(\.[0-9]+)?\s*%?\s*$";

    fn parse(text: &str) -> Option<Self> {
        with_units(text, &[("%", 0.01), ("", 1.0)]).filter(|s| *s <= 1.0).map(Self)
    }

    fn base(self) -> f64 {
        self.0
    }

    fn of_base(base: f64) -> Self {
        Self(base.clamp(0.0, 1.0))
    }
}

/// A number that is not negative, such as of tokens or dollars. The only quantity without a unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Amount(pub f64);

impl Quantity for Amount {
    const EXPECTED: &'static str = "a number that is not negative, like 3 or 0.5";
    const PATTERN: &'static str = r"^\s*[0-9]+(\.[0-9]+)?\s*$";

    fn parse(text: &str) -> Option<Self> {
        with_units(text, &[("", 1.0)]).map(Self)
    }

    fn base(self) -> f64 {
        self.0
    }

    fn of_base(base: f64) -> Self {
        Self(base)
    }
}

/// The largest unit that writes a value without a remainder: `5m`, `90s`, `1500ms`.
fn exact(n: u64, units: &[(&str, u64)]) -> String {
    let fits = units.iter().find(|(_, size)| n > 0 && n.is_multiple_of(*size));
    let (unit, size) = fits.or(units.last()).map_or(("", 1), |(unit, size)| (*unit, *size));
    format!("{}{unit}", n / size)
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const UNITS: [(&str, u64); 6] = [
            ("h", 3_600_000_000_000),
            ("m", 60_000_000_000),
            ("s", 1_000_000_000),
            ("ms", 1_000_000),
            ("us", 1_000),
            ("ns", 1),
        ];
        serializer.serialize_str(&exact(self.0, &UNITS))
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !self.0.is_multiple_of(1024) {
            return serializer.serialize_str(&format!("{}k", self.0 as f64 / 1e3));
        }
        let units = [("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)];
        serializer.serialize_str(&exact(self.0, &units))
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{}/s", self.0))
    }
}

/// Parses a quantity.
///
/// # Errors
/// If the text is not a quantity of this kind.
pub fn parse<Q: Quantity>(text: &str) -> Result<Q, QuantityError> {
    Q::parse(text).ok_or_else(|| QuantityError { expected: Q::EXPECTED.to_owned() })
}

/// Reads a quantity from a scalar of an input file.
fn quantity<Q: Quantity, V: deserr::IntoValue, E: deserr::DeserializeError>(
    value: deserr::Value<V>,
    location: deserr::ValuePointerRef<'_>,
) -> Result<Q, E> {
    crate::input::parsed(value, location, Q::parse, Q::EXPECTED)
}

macro_rules! written {
    ($($Name:ident: $($plain:literal)?),+ $(,)?) => {$(
        impl FromStr for $Name {
            type Err = QuantityError;
            fn from_str(s: &str) -> Result<Self, Self::Err> {
                parse(s)
            }
        }

        impl<'de> Deserialize<'de> for $Name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                #[derive(Deserialize)]
                #[serde(untagged)]
                enum Written {
                    Text(String),
                    Number(f64),
                }
                let text = match Written::deserialize(deserializer)? {
                    Written::Text(text) => text,
                    Written::Number(n) => n.to_string(),
                };
                parse(&text).map_err(serde::de::Error::custom)
            }
        }

        impl JsonSchema for $Name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($Name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": ["string" $(, $plain)?],
                    "pattern": <$Name as Quantity>::PATTERN,
                    "description": <$Name as Quantity>::EXPECTED,
                })
            }
        }

        impl<E: deserr::DeserializeError> deserr::Deserr<E> for $Name {
            fn deserialize_from_value<V: deserr::IntoValue>(
                value: deserr::Value<V>,
                location: deserr::ValuePointerRef<'_>,
            ) -> Result<Self, E> {
                quantity(value, location)
            }
        }
    )+};
}
written!(Span:, Bytes:, Rate:, Share: "number", Amount: "number");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantity_needs_its_unit() {
        assert_eq!(Span::parse("5m"), Some(Span::secs(300)));
        assert_eq!(Span::parse("1h30m"), Some(Span::secs(5400)));
        assert_eq!(Span::parse("1.5 s"), None, "a blank between number and unit of a duration");
        assert_eq!(Span::parse("90"), None);
        assert_eq!(Span::parse(""), None);
        assert_eq!(Bytes::parse("200Mi"), Some(Bytes::mebi(200)));
        assert_eq!(Bytes::parse("200"), None);
        assert_eq!(Rate::parse("30/m"), Some(Rate(0.5)));
        assert_eq!(Rate::parse("2"), None);
        assert_eq!(Share::parse("80%"), Some(Share(0.8)));
        assert_eq!(Share::parse("1.2"), None);
        assert_eq!(Amount::parse("-1"), None);
    }
}
