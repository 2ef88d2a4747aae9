//! Objectives such as `job_startup.p99 <= 30s`, as parsed: a metric, a comparison and a limit in the
//! metric's base unit. `alertstorm-analysis` judges them.

use std::fmt;

use deserr::{DeserializeError, Deserr, IntoValue, Value, ValuePointerRef};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use crate::input::{self, worded};
use crate::investigation::{Outcome, Stage};
use crate::quantity::{Amount, Quantity, Share};
use crate::time::Span;

/// What an objective is about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Metric {
    /// A quantile of the latency from the alert to a stage; 1 is the longest.
    Latency(Stage, f64),
    /// A plain count.
    Count(Counter),
    /// A share of something.
    Share(Outcome),
    /// The longest exposure of an orphan.
    ExposureMax,
    /// Dollars: of all, or a quantile an investigation.
    Cost(Option<f64>),
}

words! {
    /// What can be counted.
    pub enum Counter {
        /// Leases that outlived their investigation.
        Orphaned = "leases.orphaned",
        /// Leases that Vault could not revoke.
        Irrevocable = "leases.irrevocable",
        /// Most leases at once.
        ActivePeak = "leases.active_peak",
        /// Leases issued.
        Issued = "leases.issued",
        /// Leases that ran out.
        Expired = "leases.expired",
        /// Alerts turned away.
        Shed = "accounting.shed",
        /// Investigations without an outcome.
        Unfinished = "accounting.unfinished",
        /// Repeats.
        Deduplicated = "accounting.deduplicated",
        /// Investigations with an outcome.
        Finished = "accounting.finished",
        /// Writes done.
        Writes = "actions.writes",
        /// Writes refused.
        DeniedWrites = "actions.denied_writes",
        /// Reads refused.
        DeniedReads = "actions.denied_reads",
        /// Calls to the API server.
        ApiCalls = "api_calls.count",
    }
}

words! {
    /// How a value is held against its limit.
    pub enum Comparison {
        /// Not above it.
        AtMost = "<=",
        /// Not below it.
        AtLeast = ">=",
        /// Just it.
        Exactly = "==",
        /// Below it.
        Below = "<",
        /// Above it.
        Above = ">",
    }
}

const QUANTILES: [(&str, f64); 6] =
    [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p999", 0.999), ("max", 1.0)];

/// Names of latencies: those of the words of the field, and each stage's own.
fn latency(name: &str) -> Option<Stage> {
    match name {
        "job_startup" => Some(Stage::PodRunning),
        "agent_ready" => Some(Stage::CredentialsReady),
        stage => stage.parse().ok().filter(|stage| *stage != Stage::Alert),
    }
}

/// Every metric that there is, for messages and completion.
pub fn metrics() -> Vec<String> {
    let names = ["job_startup", "agent_ready"].into_iter();
    let latencies = names.chain(Stage::WORDS.iter().skip(1).copied());
    let quantiles = |name: &str| QUANTILES.map(|(q, _)| format!("{name}.{q}"));
    let mut all: Vec<String> = latencies.flat_map(quantiles).collect();
    all.extend(Counter::WORDS.iter().map(|word| (*word).to_owned()));
    all.extend(Outcome::WORDS.iter().map(|word| format!("outcomes.{word}")));
    all.extend(["leases.orphan_exposure_max".to_owned(), "cost.total".to_owned()]);
    all.extend(quantiles("cost"));
    all
}

fn metric(text: &str) -> Option<Metric> {
    if let Ok(counter) = text.parse() {
        return Some(Metric::Count(counter));
    }
    match text {
        "leases.orphan_exposure_max" => return Some(Metric::ExposureMax),
        "cost.total" => return Some(Metric::Cost(None)),
        _ => {}
    }
    let (name, which) = text.split_once('.')?;
    if name == "outcomes" {
        return which.parse().ok().map(Metric::Share);
    }
    let (_, quantile) = QUANTILES.iter().find(|(q, _)| *q == which)?;
    if name == "cost" {
        return Some(Metric::Cost(Some(*quantile)));
    }
    latency(name).map(|stage| Metric::Latency(stage, *quantile))
}

/// An objective.
#[derive(Clone, Debug, PartialEq)]
pub struct Slo {
    text: String,
    /// What is measured.
    pub metric: Metric,
    /// How the value is compared with the limit.
    pub comparison: Comparison,
    /// In the metric's base unit: seconds, dollars, a share, a count.
    pub limit: f64,
}

impl Slo {
    /// Reads an objective.
    ///
    /// # Errors
    /// What was expected, and the nearest metric.
    pub fn parse(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [name, sign, limit] = words[..] else {
            return Err("an objective like `job_startup.p99 <= 30s`".to_owned());
        };
        let Some(metric) = metric(name) else {
            let all = metrics();
            let near = nearest(name, &all);
            let like = near.map_or_else(String::new, |near| format!(" (did you mean `{near}`?)"));
            return Err(format!("a metric like `job_startup.p99` or `leases.orphaned`{like}"));
        };
        let comparison = sign.parse().map_err(|_| "one of <=, <, ==, >=, > between".to_owned())?;
        let limit = match metric {
            Metric::Latency(..) | Metric::ExposureMax => {
                Span::parse(limit).map(Quantity::base).ok_or(Span::EXPECTED)
            }
            Metric::Share(_) => Share::parse(limit).map(Quantity::base).ok_or(Share::EXPECTED),
            Metric::Count(_) | Metric::Cost(_) => {
                Amount::parse(limit).map(Quantity::base).ok_or(Amount::EXPECTED)
            }
        };
        let limit = limit.map_err(|expected| format!("{expected}, as the limit"))?;
        Ok(Self { text: words.join(" "), metric, comparison, limit })
    }

    /// The stage and the limit in seconds of an objective that is the latency to one.
    pub const fn latency(&self) -> Option<(Stage, f64)> {
        match self.metric {
            Metric::Latency(stage, _) => Some((stage, self.limit)),
            _ => None,
        }
    }
}

fn nearest<'a>(name: &str, all: &'a [String]) -> Option<&'a str> {
    input::nearest(name, all.iter().map(String::as_str))
}

impl<E: DeserializeError> Deserr<E> for Slo {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, E> {
        worded(value, location, Self::parse)
    }
}

impl Serialize for Slo {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl JsonSchema for Slo {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Slo".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let signs = Comparison::WORDS.join("|");
        let names = metrics().join("|").replace('.', r"\.");
        json_schema!({
            "type": "string",
            "description": "An objective: a metric, a comparison and a limit with its unit.",
            "pattern": format!(r"^\s*({names})\s+({signs})\s+\S+\s*$"),
            "examples": ["job_startup.p99 <= 30s", "leases.orphaned == 0"],
        })
    }
}

impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
