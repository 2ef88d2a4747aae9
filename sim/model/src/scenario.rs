//! Scenarios, in two stages: what a person typed ([`raw`]) becomes what can run ([`Plan`]), and
//! the second cannot be wrong. Every problem of every file is found in one pass.

mod bounds;
mod change;
mod check;
mod document;
mod files;
pub mod knobs;
mod objective;
mod part;
mod plan;
mod problem;
mod profiles;
pub mod raw;
pub mod spread;
mod yaml;

use deserr::{DeserializeError, ErrorKind, IntoValue, Value, ValueKind, ValuePointerRef};

use crate::quantity::Quantity;

pub use check::{BUILT_IN_PROFILES, Override, load};
pub use document::read as read_document;
pub use files::{Files, NoFiles};
pub use objective::{Comparison, Counter, Metric, Slo, metrics};
pub use part::{Indivisible, Part};
pub use plan::{Agents, FaultPlan, Plan};
pub use problem::{Problem, Problems, nearest};
pub use profiles::load_profiles;
pub use raw::{FaultKind, Scenario};

/// Reads one of `accepted`, for the vocabularies.
pub fn keyword<T: std::str::FromStr, V: IntoValue, E: DeserializeError>(
    value: Value<V>,
    location: ValuePointerRef<'_>,
    accepted: &'static [&'static str],
) -> Result<T, E> {
    let error = match value {
        Value::String(word) => match word.parse() {
            Ok(value) => return Ok(value),
            Err(_) => {
                E::error::<V>(None, ErrorKind::UnknownValue { value: &word, accepted }, location)
            }
        },
        actual => {
            let accepted = &[ValueKind::String];
            E::error(None, ErrorKind::IncorrectValueKind { actual, accepted }, location)
        }
    };
    Err(deserr::take_cf_content(error))
}

/// Reads a quantity, from text or, for those without a unit, from a number.
pub fn quantity<Q: Quantity, V: IntoValue, E: DeserializeError>(
    value: Value<V>,
    location: ValuePointerRef<'_>,
) -> Result<Q, E> {
    parsed(value, location, Q::parse, Q::EXPECTED)
}

/// Reads what `parse` makes of a scalar's text; `expected` fits "expected …".
pub fn parsed<T, V: IntoValue, E: DeserializeError>(
    value: Value<V>,
    location: ValuePointerRef<'_>,
    parse: impl FnOnce(&str) -> Option<T>,
    expected: &str,
) -> Result<T, E> {
    let found = match &value {
        Value::String(text) => text.clone(),
        Value::Integer(n) => n.to_string(),
        Value::NegativeInteger(n) => n.to_string(),
        Value::Float(n) => n.to_string(),
        Value::Boolean(b) => b.to_string(),
        Value::Null => "nothing".to_owned(),
        Value::Sequence(_) => "a list".to_owned(),
        Value::Map(_) => "a mapping".to_owned(),
    };
    parse(&found).ok_or_else(|| unexpected::<V, E>(location, &found, expected))
}

/// Reads what `parse` makes of a text, and its own word for what was expected instead.
pub fn worded<T, V: IntoValue, E: DeserializeError>(
    value: Value<V>,
    location: ValuePointerRef<'_>,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, E> {
    let text = match &value {
        Value::String(text) => text.clone(),
        _ => String::new(),
    };
    parse(&text).map_err(|expected| unexpected::<V, E>(location, &text, &expected))
}

/// The error of a value that is not what was expected.
pub fn unexpected<V: IntoValue, E: DeserializeError>(
    location: ValuePointerRef<'_>,
    found: &str,
    expected: &str,
) -> E {
    let msg = format!("expected {expected}, found `{found}`");
    deserr::take_cf_content(E::error::<V>(None, ErrorKind::Unexpected { msg }, location))
}
