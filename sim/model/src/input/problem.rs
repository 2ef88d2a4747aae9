//! Problems of input files: the place, what was expected, and the nearest valid name.

use std::fmt;
use std::ops::ControlFlow;

use deserr::{
    DeserializeError, ErrorKind, IntoValue, MergeWithError, Value, ValueKind, ValuePointerRef,
};

use super::place::Place;

/// One thing that is wrong with an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, or the option (`--set …`) that it came from.
    pub source: String,
    /// None if the file as a whole is wrong, or if the value came from an option.
    pub place: Option<Place>,
    /// Lower case, without a full stop.
    pub message: String,
    /// What to write instead, such as the nearest valid name.
    pub help: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.source)?;
        if let Some(place) = self.place {
            write!(f, ":{}:{}", place.line, place.column)?;
        }
        write!(f, ": {}", self.message)?;
        self.help.iter().try_for_each(|help| write!(f, "; {help}"))
    }
}

/// One step of the path to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

/// A problem whose place is still a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AtPath {
    pub path: Vec<Step>,
    /// The place is that of the key, not of its value.
    pub key: bool,
    pub message: String,
    pub help: Option<String>,
}

/// All problems found in a document: the error type of everything that is read from YAML.
#[derive(Clone, Debug, Default)]
pub struct Problems(pub(crate) Vec<AtPath>);

impl Problems {
    /// A problem with the value at `path`, whose steps are keys or indices separated by dots.
    pub fn add(&mut self, path: &str, message: impl Into<String>, help: Option<String>) {
        let step = |s: &str| s.parse().map_or_else(|_| Step::Key(s.to_owned()), Step::Index);
        let path = path.split('.').filter(|s| !s.is_empty()).map(step).collect();
        self.0.push(AtPath { path, key: false, message: message.into(), help });
    }
}

/// The accepted name nearest to what was typed, if one is near.
pub fn nearest<'a>(typed: &str, accepted: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let close = |name: &&str| strsim::jaro_winkler(typed, name);
    accepted
        .into_iter()
        .map(|name| (close(&name), name))
        .filter(|(score, _)| *score > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

fn did_you_mean<'a>(typed: &str, accepted: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(typed, accepted).map(|name| format!("did you mean `{name}`?"))
}

fn kind_name(kind: ValueKind) -> &'static str {
    match kind {
        ValueKind::Null => "nothing",
        ValueKind::Boolean => "true or false",
        ValueKind::Integer => "a whole number",
        ValueKind::NegativeInteger => "a negative number",
        ValueKind::Float => "a number",
        ValueKind::String => "text",
        ValueKind::Sequence => "a list",
        ValueKind::Map => "a mapping",
    }
}

fn found<V: IntoValue>(value: &Value<V>) -> String {
    match value {
        Value::Integer(n) => format!("the number `{n}`"),
        Value::NegativeInteger(n) => format!("the number `{n}`"),
        Value::Float(n) => format!("the number `{n}`"),
        Value::String(s) => format!("`{s}`"),
        Value::Boolean(b) => format!("`{b}`"),
        other => kind_name(other.kind()).to_owned(),
    }
}

impl DeserializeError for Problems {
    fn error<V: IntoValue>(
        so_far: Option<Self>,
        error: ErrorKind<'_, V>,
        location: ValuePointerRef<'_>,
    ) -> ControlFlow<Self, Self> {
        let mut all = so_far.unwrap_or_default();
        let mut path = steps(location);
        let mut key = false;
        let (message, help) = match error {
            ErrorKind::IncorrectValueKind { actual, accepted } => {
                let accepted: Vec<_> = accepted.iter().map(|kind| kind_name(*kind)).collect();
                (format!("expected {}, found {}", accepted.join(" or "), found(&actual)), None)
            }
            ErrorKind::MissingField { field } => {
                (format!("the field `{field}` is missing"), Some(format!("add `{field}:`")))
            }
            ErrorKind::UnknownKey { key: name, accepted } => {
                path.push(Step::Key(name.to_owned()));
                key = true;
                let help = did_you_mean(name, accepted.iter().copied());
                let expected = accepted.join(", ");
                (format!("unknown field `{name}`: expected one of {expected}"), help)
            }
            ErrorKind::UnknownValue { value, accepted } => {
                let help = did_you_mean(value, accepted.iter().copied());
                (format!("unknown value `{value}`: expected one of {}", accepted.join(", ")), help)
            }
            ErrorKind::BadSequenceLen { expected, .. } => {
                (format!("expected a list of {expected}"), None)
            }
            ErrorKind::Unexpected { msg } => (msg, None),
        };
        all.0.push(AtPath { path, key, message, help });
        ControlFlow::Continue(all)
    }
}

impl MergeWithError<Self> for Problems {
    fn merge(so_far: Option<Self>, other: Self, _: ValuePointerRef<'_>) -> ControlFlow<Self, Self> {
        let mut all = so_far.unwrap_or_default();
        all.0.extend(other.0);
        ControlFlow::Continue(all)
    }
}

fn steps(location: ValuePointerRef<'_>) -> Vec<Step> {
    let mut steps = match location {
        ValuePointerRef::Origin => return Vec::new(),
        ValuePointerRef::Key { prev, .. } | ValuePointerRef::Index { prev, .. } => steps(*prev),
    };
    match location {
        ValuePointerRef::Key { key, .. } => steps.push(Step::Key(key.to_owned())),
        ValuePointerRef::Index { index, .. } => steps.push(Step::Index(index)),
        ValuePointerRef::Origin => {}
    }
    steps
}
