//! Objectives such as `job_startup.p99 <= 30s`, parsed: a metric, a comparison and a limit in the
//! metric's base unit. `alertstorm-analysis` judges them.

use std::fmt;

use deserr::{DeserializeError, Deserr, IntoValue, Value, ValuePointerRef};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use crate::input::{self, worded};
use crate::investigation::{Outcome, Stage};
use crate::quantity::{Amount, Quantity, Rate, Share};
use crate::time::Span;

/// The figure that an objective limits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Metric {
    /// Quantile (0 to 1) of the latency in seconds from the alert to a stage; 1 is the maximum.
    Latency(Stage, f64),
    /// A count over the whole run.
    Count(Counter),
    /// Share of investigations with this outcome, of all alerts that were not duplicates; 0 to 1.
    Share(Outcome),
    /// A count of alerts as a share of all that were not duplicates; 0 to 1.
    ShareOf(Counter),
    /// Investigations with a conclusion per second, from the first alert to the end of the last
    /// investigation, or to the end of the run if one is unfinished. A run that is cut off is shorter:
    /// limit `accounting.unfinished`, too.
    Goodput,
    /// The longest time in seconds that an orphaned lease outlived its investigation.
    ExposureMax,
    /// LLM cost in dollars: the total, or a quantile over investigations.
    Cost(Option<f64>),
}

words! {
    /// A count that an objective can limit.
    pub enum Counter {
        /// Leases that outlived their investigation, unless they were returned, and Vault tokens that
        /// outlived it: they mint further leases.
        Orphaned = "leases.orphaned",
        /// Vault tokens that outlived their investigation; also part of `leases.orphaned`.
        OrphanedTokens = "vault_tokens.orphaned",
        /// Leases that Vault gave up revoking after six failed attempts.
        Irrevocable = "leases.irrevocable",
        /// Largest number of leases alive at the same time.
        ActivePeak = "leases.active_peak",
        /// Leases issued.
        Issued = "leases.issued",
        /// Leases that Vault revoked because their TTL was over.
        Expired = "leases.expired",
        /// Alerts refused by back pressure whose senders had no retries left.
        Shed = "accounting.shed",
        /// Investigations without an outcome when the run ended.
        Unfinished = "accounting.unfinished",
        /// Alerts of which no agent could begin or finish its work: shed, unfinished, without Vault,
        /// evicted, or never started.
        NotInvestigated = "accounting.not_investigated",
        /// Alerts that repeated one within the deduplication window.
        Deduplicated = "accounting.deduplicated",
        /// Investigations with an outcome.
        Finished = "accounting.finished",
        /// Writes that succeeded.
        Writes = "actions.writes",
        /// Writes that were refused.
        DeniedWrites = "actions.denied_writes",
        /// Reads and requests for credentials that were refused.
        DeniedReads = "actions.denied_reads",
        /// Requests to the API server.
        ApiCalls = "api_calls.count",
    }
}

impl Counter {
    /// Whether it counts alerts by their final state, so that it has a share of them.
    const fn is_of_alerts(self) -> bool {
        matches!(self, Self::Shed | Self::Unfinished | Self::NotInvestigated | Self::Finished)
    }
}

words! {
    /// How a value is compared with the limit.
    pub enum Comparison {
        /// The value is not above the limit.
        AtMost = "<=",
        /// The value is not below the limit.
        AtLeast = ">=",
        /// The value equals the limit.
        Exactly = "==",
        /// The value is below the limit.
        Below = "<",
        /// The value is above the limit.
        Above = ">",
    }
}

const QUANTILES: [(&str, f64); 6] =
    [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p999", 0.999), ("max", 1.0)];

/// The stage of a latency's name: the name of the stage, or one of two common aliases.
fn latency(name: &str) -> Option<Stage> {
    match name {
        "job_startup" => Some(Stage::PodRunning),
        "agent_ready" => Some(Stage::CredentialsReady),
        stage => stage.parse().ok().filter(|stage| *stage != Stage::Alert),
    }
}

/// The names of all metrics, as in an objective.
pub fn metrics() -> Vec<String> {
    let names = ["job_startup", "agent_ready"].into_iter();
    let latencies = names.chain(Stage::WORDS.iter().skip(1).copied());
    let quantiles = |name: &str| QUANTILES.map(|(q, _)| format!("{name}.{q}"));
    let mut all: Vec<String> = latencies.flat_map(quantiles).collect();
    all.extend(Counter::WORDS.iter().map(|word| (*word).to_owned()));
    all.extend(Outcome::WORDS.iter().map(|word| format!("outcomes.{word}")));
    let others = ["leases.orphan_exposure_max", "cost.total", "goodput"];
    all.extend(others.map(str::to_owned));
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
        "goodput" => return Some(Metric::Goodput),
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

/// An objective of a scenario, parsed.
#[derive(Clone, Debug, PartialEq)]
pub struct Slo {
    text: String,
    /// The figure that is limited.
    pub metric: Metric,
    /// How the figure is compared with the limit.
    pub comparison: Comparison,
    /// The limit in the metric's base unit: seconds, dollars, a share (0 to 1) or a count.
    pub limit: f64,
}

impl Slo {
    /// Parses a metric, a comparison and a limit with its unit, separated by spaces.
    ///
    /// # Errors
    /// The expected syntax, with the nearest metric for an unknown one; it continues "expected …".
    pub fn parse(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [name, sign, ref limit @ ..] = words[..] else {
            return Err("an objective like `job_startup.p99 <= 30s`".to_owned());
        };
        // A unit may be a word of its own, as in `1 %`.
        let limit = match limit {
            [number, unit] if !unit.starts_with(|c: char| c.is_ascii_digit()) => {
                format!("{number}{unit}")
            }
            [limit] => (*limit).to_owned(),
            _ => return Err("an objective like `job_startup.p99 <= 30s`".to_owned()),
        };
        let limit = limit.as_str();
        let Some(metric) = metric(name) else {
            let all = metrics();
            let near = nearest(name, &all);
            let like = near.map_or_else(String::new, |near| format!(" (did you mean `{near}`?)"));
            return Err(format!("a metric like `job_startup.p99` or `leases.orphaned`{like}"));
        };
        // Counts of alerts can also be limited as a share.
        let metric = match metric {
            Metric::Count(counter) if counter.is_of_alerts() && limit.ends_with('%') => {
                Metric::ShareOf(counter)
            }
            metric => metric,
        };
        let comparison = sign.parse().map_err(|_| "one of <=, <, ==, >=, > between".to_owned())?;
        let limit = match metric {
            Metric::Latency(..) | Metric::ExposureMax => {
                Span::parse(limit).map(Quantity::base).ok_or(Span::EXPECTED)
            }
            Metric::Share(_) | Metric::ShareOf(_) => {
                Share::parse(limit).map(Quantity::base).ok_or(Share::EXPECTED)
            }
            Metric::Goodput => Rate::parse(limit).map(Quantity::base).ok_or(Rate::EXPECTED),
            Metric::Count(_) | Metric::Cost(_) => {
                Amount::parse(limit).map(Quantity::base).ok_or(Amount::EXPECTED)
            }
        };
        let limit = limit.map_err(|expected| format!("{expected}, as the limit"))?;
        Ok(Self { text: words.join(" "), metric, comparison, limit })
    }

    /// The stage and the limit in seconds, if the metric is a latency.
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
            "pattern": format!(r"^\s*({names})\s+({signs})\s+\S+(\s\D+)?\s*$"),
            "examples": ["job_startup.p99 <= 30s", "leases.orphaned == 0"],
        })
    }
}

impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
