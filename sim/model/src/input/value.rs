//! Values of scalars: words, numbers with units, and texts with a grammar of their own.

use deserr::{DeserializeError, ErrorKind, IntoValue, Value, ValueKind, ValuePointerRef};

/// Reads one of the words in `accepted`.
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

/// Reads a scalar with `parse`, which gets its text. The error is "expected {expected}".
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

/// Reads a text with `parse`, whose error completes "expected …".
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

/// The error "expected {expected}, found `{found}`".
pub fn unexpected<V: IntoValue, E: DeserializeError>(
    location: ValuePointerRef<'_>,
    found: &str,
    expected: &str,
) -> E {
    let msg = format!("expected {expected}, found `{found}`");
    deserr::take_cf_content(E::error::<V>(None, ErrorKind::Unexpected { msg }, location))
}
