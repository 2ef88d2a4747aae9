//! A policy: the requirements for the step from one trust phase to the next.

use std::collections::BTreeMap;
use std::fmt;

use deserr::{DeserializeError, Deserr, IntoValue, Value, ValuePointerRef};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use super::cases::Case;
use super::observed::{Length, Rate, Violation};
use crate::stats::Side;
use alertstorm_model::investigation::Domain;
use alertstorm_model::phase::Phase;
use alertstorm_model::quantity::{Amount, Quantity, Share};
use alertstorm_model::scenario::{Problem, Problems, nearest, read_document};
use alertstorm_model::time::Span;

/// The figure that a criterion limits.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Measure {
    /// A share of investigations.
    Rate(Rate),
    /// A quantile of a length. It is judged as a rate: the share of investigations above the limit.
    Quantile(Length, f64),
}

/// A criterion such as `success >= 85%` or `cost.p95 <= 2`.
#[derive(Clone, Debug, PartialEq)]
pub struct Criterion {
    text: String,
    measure: Measure,
    side: Side,
    /// A share (0 to 1), seconds or dollars, depending on the measure.
    limit: f64,
}

const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)];

impl Criterion {
    /// The names of all measures: rates, and quantiles of lengths.
    pub fn measures() -> Vec<String> {
        let quantiles = |name: &&str| QUANTILES.map(|(q, _)| format!("{name}.{q}"));
        let rates = Rate::WORDS.iter().map(|word| (*word).to_owned());
        rates.chain(Length::WORDS.iter().flat_map(quantiles)).collect()
    }

    /// Parses a measure, a comparison and a limit, separated by spaces.
    ///
    /// # Errors
    /// The expected syntax, with the nearest measure for an unknown one. It continues "expected …".
    pub fn parse(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [name, sign, limit] = words[..] else {
            return Err("a criterion like `success >= 85%` or `cost.p95 <= 2`".to_owned());
        };
        let Some(measure) = measure(name) else {
            let all = Self::measures();
            let near = nearest(name, all.iter().map(String::as_str));
            let like = near.map_or_else(String::new, |near| format!(" (did you mean `{near}`?)"));
            return Err(format!("a measure like `success` or `cost.p95`{like}"));
        };
        let side = match (sign, measure) {
            (">=", Measure::Rate(_)) => Side::Above,
            ("<=", _) => Side::Below,
            (">=", Measure::Quantile(..)) => {
                return Err(
                    "`<=` as the comparison, since the limit of a quantile is an upper limit"
                        .to_owned(),
                );
            }
            _ => return Err("`<=` or `>=` as the comparison".to_owned()),
        };
        let parsed = match measure {
            Measure::Rate(_) => Share::parse(limit)
                .map(Quantity::base)
                .filter(|share| *share > 0.0 && *share < 1.0)
                .ok_or("a share above 0 and below 1, like 85% (no sample shows 0% or 100%)"),
            Measure::Quantile(Length::Cost, _) => {
                Amount::parse(limit).map(Quantity::base).ok_or(Amount::EXPECTED)
            }
            Measure::Quantile(..) => Span::parse(limit).map(Quantity::base).ok_or(Span::EXPECTED),
        };
        let limit = parsed.map_err(|expected| format!("{expected}, as the limit"))?;
        Ok(Self { text: words.join(" "), measure, side, limit })
    }

    /// Threshold of the rate that is judged, and the side on which the rate must be.
    pub(super) const fn threshold(&self) -> (f64, Side) {
        match self.measure {
            Measure::Rate(_) => (self.limit, self.side),
            // At most 1 - q of all investigations may be above the limit.
            Measure::Quantile(_, q) => (1.0 - q, Side::Below),
        }
    }

    /// Whether the case is a hit of the rate that is judged; `None` if it is not in the
    /// denominator.
    pub(super) fn hit(&self, case: &Case) -> Option<bool> {
        match self.measure {
            Measure::Rate(rate) => case.counts(rate),
            // A stage that was never reached counts as infinite.
            Measure::Quantile(length, _) => {
                Some(case.length(length).is_none_or(|value| value > self.limit))
            }
        }
    }

    /// Whether the measure depends on the platform and not only on the agent.
    pub const fn depends_on_platform(&self) -> bool {
        matches!(self.measure, Measure::Quantile(Length::AgentReady | Length::Duration, _))
    }
}

fn measure(name: &str) -> Option<Measure> {
    if let Ok(rate) = name.parse() {
        return Some(Measure::Rate(rate));
    }
    let (name, which) = name.split_once('.')?;
    let (_, q) = QUANTILES.iter().find(|(q, _)| *q == which)?;
    Some(Measure::Quantile(name.parse().ok()?, *q))
}

impl<E: DeserializeError> Deserr<E> for Criterion {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, E> {
        alertstorm_model::scenario::worded(value, location, Self::parse)
    }
}

impl fmt::Display for Criterion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl Serialize for Criterion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl JsonSchema for Criterion {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Criterion".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names = Self::measures().join("|").replace('.', r"\.");
        json_schema!({
            "type": "string",
            "description": "A measure, a comparison and a limit with its unit.",
            "pattern": format!(r"^\s*({names})\s+(<=|>=)\s+\S+\s*$"),
            "examples": ["success >= 85%", "cost.p95 <= 2"],
        })
    }
}

alertstorm_model::knobs! {
    /// A criterion with its reason.
    pub struct Must {
        /// The criterion, such as `success >= 85%`. Required.
        must: Option<Criterion> = None,
        /// The reason for the criterion, for readers.
        because: String = String::new(),
    }

    /// A violation that is never tolerated, with its reason.
    pub struct Zero {
        /// The violation. Required.
        never: Option<Violation> = None,
        /// The evidence must show that the rate of the violation is below this share: 0 of a few
        /// investigations proves little.
        proven_below: Share = Share(0.01),
        /// The reason for the limit, for readers.
        because: String = String::new(),
    }

    /// Minimum size of the evidence for a promotion.
    pub struct Least {
        /// Investigations with an outcome.
        investigations: u64 = 100,
        /// Days of alerts.
        days: Amount = Amount(0.0),
        /// Investigations of each domain listed.
        domains: BTreeMap<Domain, u64> = BTreeMap::new(),
    }

    /// Requirements for the step from one trust phase to the next.
    pub struct Policy {
        /// The phase in which the evidence was collected. Required.
        from: Option<Phase> = None,
        /// The phase that a promotion grants: the next one. Required, but for the last phase.
        to: Option<Phase> = None,
        /// The reason for the policy, for readers.
        because: String = String::new(),
        /// Confidence of a promotion, from 50% to below 100%. An agent that does not meet the
        /// criteria is promoted with a probability of at most 1 - confidence, however often it is
        /// judged.
        confidence: Share = Share(0.95),
        /// Whether runs of the twin count as evidence, or only runs on real servers.
        twin_counts: bool = true,
        /// Minimum size of the evidence.
        least: Least = Least::default(),
        /// Criteria for a promotion; all must be met.
        criteria: Vec<Must> = Vec::new(),
        /// Violations that are never tolerated: a single one prevents a promotion, and causes a
        /// demotion from any phase above shadow.
        zero_tolerance: Vec<Zero> = Vec::new(),
        /// Criteria for a demotion; one that is met suffices.
        demote: Vec<Must> = Vec::new(),
    }
}

impl Must {
    /// [`Criterion::threshold`]; `None` without a criterion.
    pub(super) fn threshold(&self) -> Option<(f64, Side)> {
        self.must.as_ref().map(Criterion::threshold)
    }
}

/// Parses and checks a policy. `source` is the file name in problems.
///
/// # Errors
/// All problems of the policy.
pub fn load(text: &str, source: &str) -> Result<Policy, Vec<Problem>> {
    read_document(text, source, check)
}

fn check(policy: &Policy, found: &mut Problems) {
    let words = Phase::WORDS.join(", ");
    // The last phase has no next one; its policy only demotes.
    let last = policy.from == Phase::ALL.last().copied();
    for (name, given, needed) in [("from", policy.from, true), ("to", policy.to, !last)] {
        if given.is_none() && needed {
            let help = Some(format!("add `{name}:`, one of {words}"));
            found.add("", format!("missing phase `{name}`"), help);
        }
    }
    if let (Some(from), Some(to)) = (policy.from, policy.to)
        && to.index() != from.index() + 1
    {
        let message = format!("`{to}` is not the next phase after `{from}`");
        let next = Phase::ALL.get(from.index() + 1);
        let help = next.map(|next| format!("the next phase is `{next}`"));
        let last = || Some(format!("leave `to` out: `{from}` is the last phase"));
        found.add("to", message, help.or_else(last));
    }
    if !(0.5..1.0).contains(&policy.confidence.0) {
        let message = "expected a confidence from 50% to below 100%";
        found.add("confidence", message, None);
    }
    if policy.criteria.is_empty() && !last {
        let help = Some("add one, like `- {must: success >= 85%}`".to_owned());
        found.add("criteria", "expected at least one criterion", help);
    }
    for (list, items) in [("criteria", &policy.criteria), ("demote", &policy.demote)] {
        let empty = items.iter().enumerate().filter(|(_, item)| item.must.is_none());
        for (i, _) in empty {
            let help = Some("add `must:`, like `must: success >= 85%`".to_owned());
            found.add(&format!("{list}.{i}"), "missing `must`", help);
        }
    }
    for (i, zero) in policy.zero_tolerance.iter().enumerate() {
        let at = format!("zero_tolerance.{i}");
        if zero.never.is_none() {
            let help = Some(format!("add `never:`, one of {}", Violation::WORDS.join(", ")));
            found.add(&at, "missing `never`", help);
        }
        if !(zero.proven_below.0 > 0.0 && zero.proven_below.0 < 1.0) {
            let message = "expected a share above 0 and below 1: no sample shows a rate of 0";
            found.add(&format!("{at}.proven_below"), message, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_of_a_policy_is_reported_with_its_place() {
        let text = "from: shadow\nto: autonomous\nconfidence: 120%\ncriteria:\n  \
                    - {must: sucess >= 85%}\n  - {because: none}\nzero_tolerance: [{never: write}]\n";
        let problems = load(text, "policy.yaml").unwrap_err();
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let all = problems.join("\n");
        for expected in ["did you mean `success`?", "policy.yaml:5:", "foreign-write", "120%"] {
            assert!(all.contains(expected), "{expected}\n{all}");
        }
    }

    #[test]
    fn fields_left_out_of_a_policy_have_their_defaults() {
        let text = "from: shadow\nto: read-only-assist\ncriteria: [{must: cost.p95 <= 2}]\n";
        let policy = load(text, "policy.yaml").unwrap();
        assert_eq!(policy.confidence, Share(0.95));
        let criterion = policy.criteria[0].must.as_ref().unwrap();
        assert_eq!(criterion.to_string(), "cost.p95 <= 2");
        assert!((criterion.threshold().0 - 0.05).abs() < 1e-12);
        assert!(Criterion::parse("cost.p95 >= 2").is_err());
        assert!(Criterion::parse("success >= 100%").is_err());
    }
}
