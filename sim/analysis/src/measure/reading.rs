//! A figure over everything that was attempted, in which what never arrived is infinite.

use std::borrow::Cow;
use std::fmt;

use alertstorm_model::time::Span;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A quantile, such as of latencies in seconds. In JSON a number, or the text `never`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reading {
    /// Seconds.
    At(f64),
    /// It falls on an investigation that never reached the stage.
    Never,
}

/// [`Reading::Never`] in JSON and in messages.
const NEVER: &str = "never";

impl Reading {
    /// Seconds, of which infinity is [`Self::Never`].
    pub fn of(seconds: f64) -> Self {
        if seconds.is_finite() { Self::At(seconds) } else { Self::Never }
    }

    /// Seconds; infinite for [`Self::Never`].
    pub const fn or_infinite(self) -> f64 {
        match self {
            Self::At(seconds) => seconds,
            Self::Never => f64::INFINITY,
        }
    }

    /// Seconds; `None` for [`Self::Never`]. Not for comparisons: a run in which less arrives has fewer
    /// of them.
    pub const fn finite(self) -> Option<f64> {
        match self {
            Self::At(seconds) => Some(seconds),
            Self::Never => None,
        }
    }
}

impl From<Span> for Reading {
    fn from(span: Span) -> Self {
        Self::At(span.as_secs_f64())
    }
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(seconds) => f.pad(&Span::from_secs_f64(*seconds).to_string()),
            Self::Never => f.pad(NEVER),
        }
    }
}

impl Serialize for Reading {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::At(seconds) => serializer.serialize_f64(*seconds),
            Self::Never => serializer.serialize_str(NEVER),
        }
    }
}

impl<'de> Deserialize<'de> for Reading {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Seconds(f64),
            Word(String),
        }
        match Either::deserialize(deserializer)? {
            Either::Seconds(seconds) => Ok(Self::At(seconds)),
            Either::Word(word) if word == NEVER => Ok(Self::Never),
            Either::Word(word) => {
                Err(serde::de::Error::custom(format!("expected seconds or `never`, got `{word}`")))
            }
        }
    }
}

impl JsonSchema for Reading {
    fn schema_name() -> Cow<'static, str> {
        "Reading".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Seconds, or `never` if the quantile falls on an investigation that never \
                            reached the stage.",
            "anyOf": [{"type": "number"}, {"const": NEVER}],
        })
    }
}
