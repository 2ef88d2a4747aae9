//! Distributions as a scenario writes them.
//!
//! ```
//! use alertstorm_model::dist::Dist;
//! use alertstorm_model::spread::Spread;
//! use alertstorm_model::time::Span;
//!
//! let constant: Spread<Span> = Spread::parse("5s").unwrap();
//! assert_eq!(constant.dist, Dist::constant(Span::secs(5)));
//! assert!(Spread::<Span>::parse("2s..5s").is_some());
//! ```

use deserr::{DeserializeError, Deserr, IntoValue, Map, Value, ValuePointerRef};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use crate::dist::{Dist, Shape};
use crate::quantity::Quantity;

/// A constant (`5s`), a uniform range (`2s..5s`), or a mapping: `{mean: 5s}` is exponential,
/// `{median: 4s, p95: 20s}` log-normal; `min` and `max` clamp either.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread<Q> {
    /// What it means.
    pub dist: Dist<Q>,
    written: serde_json::Value,
}

const FIELDS: [&str; 5] = ["mean", "median", "p95", "min", "max"];

impl<Q: Quantity> Spread<Q> {
    /// Reads the short form.
    pub fn parse(text: &str) -> Option<Self> {
        let dist = match text.split_once("..") {
            Some((low, high)) => {
                let (low, high) = (Q::parse(low)?.base(), Q::parse(high)?.base());
                (low <= high).then(|| Dist::new(Shape::Uniform(low, high)))?
            }
            None => Dist::constant(Q::parse(text)?),
        };
        Some(Self { dist, written: text.into() })
    }

    /// The same from a literal of the source; for defaults.
    pub(crate) fn literal(text: &str) -> Self {
        Self::parse(text).unwrap_or_else(|| unreachable!("a default is well-formed: {text}"))
    }

    /// Log-normal from literals of the source; for defaults.
    pub(crate) fn log_normal(median: &str, p95: &str) -> Self {
        let fields = [("median", median), ("p95", p95)];
        let parsed = fields.map(|(name, text)| (name.to_owned(), Q::parse(text), text.to_owned()));
        let made = Self::of_fields(parsed.into_iter().filter_map(|(n, q, t)| Some((n, q?, t))));
        made.unwrap_or_else(|why| unreachable!("a default is well-formed: {why}"))
    }

    fn of_fields(fields: impl Iterator<Item = (String, Q, String)>) -> Result<Self, String> {
        let mut values: [Option<f64>; 5] = [None; 5];
        let mut written = serde_json::Map::new();
        for (name, quantity, text) in fields {
            if let Some(i) = FIELDS.iter().position(|field| *field == name) {
                values[i] = Some(quantity.base());
                written.insert(name, text.into());
            }
        }
        let [mean, median, p95, min, max] = values;
        let (low, high) = (min.unwrap_or(0.0), max.unwrap_or(f64::MAX));
        if low > high {
            return Err("`min` is above `max`".to_owned());
        }
        let shape = match (mean, median, p95) {
            (Some(mean), None, None) => Shape::Exponential(mean),
            (None, Some(median), Some(p95)) if median > 0.0 && p95 >= median => {
                Dist::<Q>::log_normal_shape(median, p95)
            }
            (None, Some(_), Some(_)) => {
                return Err("`median` must be above 0 and `p95` not below it".to_owned());
            }
            (None, None, None) if min.is_some() && max.is_some() => Shape::Uniform(low, high),
            _ => {
                let ways = "`mean`, or `median` and `p95`, or `min` and `max`";
                return Err(format!("a distribution is given by {ways}"));
            }
        };
        Ok(Self { dist: Dist::new(shape).clamped(low, high), written: written.into() })
    }
}

impl<Q: Quantity, E: DeserializeError> Deserr<E> for Spread<Q> {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, E> {
        let expected = format!(
            "{}, a range of two with `..` between, or a mapping with median and p95",
            Q::EXPECTED
        );
        let Value::Map(map) = value else {
            return crate::input::parsed(value, location, Self::parse, &expected);
        };
        let mut errors: Option<E> = None;
        let mut fields = Vec::new();
        for (name, value) in map.into_iter() {
            let at = location.push_key(&name);
            let read = if FIELDS.contains(&name.as_str()) {
                let keep = |text: &str| Some((Q::parse(text)?, text.to_owned()));
                crate::input::parsed::<_, V, E>(value.into_value(), at, keep, Q::EXPECTED)
                    .map(|(q, text)| fields.push((name.clone(), q, text)))
            } else {
                let kind = deserr::ErrorKind::UnknownKey { key: &name, accepted: &FIELDS };
                Err(deserr::take_cf_content(E::error::<V>(None, kind, location)))
            };
            if let Err(error) = read {
                errors = Some(deserr::take_cf_content(E::merge(errors, error, at)));
            }
        }
        match errors {
            Some(errors) => Err(errors),
            None => Self::of_fields(fields.into_iter()).map_err(|why| {
                let kind = deserr::ErrorKind::Unexpected { msg: why };
                deserr::take_cf_content(E::error::<V>(None, kind, location))
            }),
        }
    }
}

impl<Q> Serialize for Spread<Q> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.written.serialize(serializer)
    }
}

impl<Q: Quantity + JsonSchema> JsonSchema for Spread<Q> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("SpreadOf{}", Q::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<Q>();
        json_schema!({
            "description": "A constant, a range with `..`, or the parameters of a distribution.",
            "anyOf": [
                one,
                { "type": "string", "pattern": r"^[^.]+(\.[0-9]+[^.]*)?\.\.[^.]+(\.[0-9]+[^.]*)?$" },
                {
                    "type": "object",
                    "additionalProperties": false,
                    "properties": {
                        "mean": one, "median": one, "p95": one, "min": one, "max": one,
                    },
                },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Span;

    #[test]
    fn the_short_forms_are_a_constant_and_a_range() {
        let dist = |text| Spread::<Span>::parse(text).map(|s| s.dist);
        assert_eq!(dist("5s"), Some(Dist::constant(Span::secs(5))));
        assert_eq!(dist("1s..3s"), Some(Dist::new(Shape::Uniform(1.0, 3.0))));
        assert_eq!(dist("3s..1s"), None);
        assert_eq!(dist("3"), None);
    }
}
