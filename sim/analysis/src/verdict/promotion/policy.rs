//! A policy: one step of the ladder, and what must be shown for it.

use std::collections::BTreeMap;
use std::fmt;

use deserr::{DeserializeError, Deserr, IntoValue, Value, ValuePointerRef};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use super::{Length, Rate, Violation};
use crate::stats::Side;
use alertstorm_model::investigation::Domain;
use alertstorm_model::phase::Phase;
use alertstorm_model::quantity::{Amount, Quantity, Share};
use alertstorm_model::scenario::{Problem, Problems, nearest, read_document};
use alertstorm_model::time::Span;

/// What a criterion is about.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Measure {
    /// A rate.
    Rate(Rate),
    /// A quantile of a length: that so large a share of the investigations keeps within the limit.
    Quantile(Length, f64),
}

/// A criterion like `success >= 85%` or `cost.p95 <= 2`.
#[derive(Clone, Debug, PartialEq)]
pub struct Criterion {
    text: String,
    measure: Measure,
    side: Side,
    /// A share, seconds or dollars.
    limit: f64,
}

const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)];

impl Criterion {
    /// Every measure that there is.
    pub fn measures() -> Vec<String> {
        let quantiles = |name: &&str| QUANTILES.map(|(q, _)| format!("{name}.{q}"));
        let rates = Rate::WORDS.iter().map(|word| (*word).to_owned());
        rates.chain(Length::WORDS.iter().flat_map(quantiles)).collect()
    }

    /// Reads a criterion.
    ///
    /// # Errors
    /// What was expected, and the nearest measure.
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
                return Err("`<=` between: a quantile has a limit that it keeps below".to_owned());
            }
            _ => return Err("`<=` or `>=` between".to_owned()),
        };
        let parsed = match measure {
            Measure::Rate(_) => Share::parse(limit)
                .map(Quantity::base)
                .filter(|share| *share > 0.0 && *share < 1.0)
                .ok_or("a share above 0 and below 1, like 85%: of all or none no number is proof"),
            Measure::Quantile(Length::Cost, _) => {
                Amount::parse(limit).map(Quantity::base).ok_or(Amount::EXPECTED)
            }
            Measure::Quantile(..) => Span::parse(limit).map(Quantity::base).ok_or(Span::EXPECTED),
        };
        let limit = parsed.map_err(|expected| format!("{expected}, as the limit"))?;
        Ok(Self { text: words.join(" "), measure, side, limit })
    }

    /// The rate that is judged: its threshold, and the side on which it must be.
    pub(super) const fn threshold(&self) -> (f64, Side) {
        match self.measure {
            Measure::Rate(_) => (self.limit, self.side),
            // Those that exceed the limit are few enough.
            Measure::Quantile(_, q) => (1.0 - q, Side::Below),
        }
    }

    /// Whether it happened in an investigation; nothing where that says nothing of it.
    pub(super) fn happened(&self, case: &super::Case) -> Option<bool> {
        match self.measure {
            Measure::Rate(rate) => case.counts(rate),
            // What never came is later than anything.
            Measure::Quantile(length, _) => {
                Some(case.length(length).is_none_or(|value| value > self.limit))
            }
        }
    }

    /// Whether it depends on the platform rather than on the agent.
    pub const fn is_platforms(&self) -> bool {
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
    /// A criterion and its reason.
    pub struct Must {
        /// What must be shown, like `success >= 85%`.
        must: Option<Criterion> = None,
        /// Why.
        because: String = String::new(),
    }

    /// What is never tolerated, and its reason.
    pub struct Zero {
        /// What.
        never: Option<Violation> = None,
        /// The rate below which the evidence must show it to be: none of a few proves little.
        proven_below: Share = Share(0.01),
        /// Why.
        because: String = String::new(),
    }

    /// What there must be at least, before anything is judged.
    pub struct Least {
        /// Investigations with an outcome.
        investigations: u64 = 100,
        /// Days over which alerts came.
        days: Amount = Amount(0.0),
        /// Investigations of each domain.
        domains: BTreeMap<Domain, u64> = BTreeMap::new(),
    }

    /// One step of the ladder.
    pub struct Policy {
        /// The phase that the evidence is of.
        from: Option<Phase> = None,
        /// The phase that it may justify; none from the last, which only ends.
        to: Option<Phase> = None,
        /// What the step is about.
        because: String = String::new(),
        /// How sure a promotion must be: an agent that does not deserve it gets it with at most the
        /// rest of the probability, however often it is looked.
        confidence: Share = Share(0.95),
        /// Whether evidence of the twin counts, or only that of real servers.
        twin_counts: bool = true,
        /// What there must be at least.
        least: Least = Least::default(),
        /// What must be shown.
        criteria: Vec<Must> = Vec::new(),
        /// What is never tolerated: one case holds a promotion back, and ends a phase above shadow.
        zero_tolerance: Vec<Zero> = Vec::new(),
        /// What ends the phase, if the evidence shows it.
        demote: Vec<Must> = Vec::new(),
    }
}

impl Must {
    /// The rate that is judged: its threshold, and the side on which it must be.
    pub(super) fn threshold(&self) -> Option<(f64, Side)> {
        self.must.as_ref().map(Criterion::threshold)
    }
}

/// Reads a policy. `source` names it in problems.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(text: &str, source: &str) -> Result<Policy, Vec<Problem>> {
    read_document(text, source, check)
}

fn check(policy: &Policy, found: &mut Problems) {
    let words = Phase::WORDS.join(", ");
    // From the last phase there is no way but back.
    let last = policy.from == Phase::ALL.last().copied();
    for (name, given, needed) in [("from", policy.from, true), ("to", policy.to, !last)] {
        if given.is_none() && needed {
            let help = Some(format!("add `{name}:`, one of {words}"));
            found.add("", format!("a policy needs the phase `{name}`"), help);
        }
    }
    if let (Some(from), Some(to)) = (policy.from, policy.to)
        && to.index() != from.index() + 1
    {
        let message = format!("from {from} the next phase is not {to}");
        let next = Phase::ALL.get(from.index() + 1);
        let help = next.map(|next| format!("the next phase is `{next}`"));
        found.add("to", message, help.or_else(|| Some("leave `to` out: it is the last".into())));
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
            found.add(&format!("{list}.{i}"), "a criterion needs what `must` be", help);
        }
    }
    for (i, zero) in policy.zero_tolerance.iter().enumerate() {
        let at = format!("zero_tolerance.{i}");
        if zero.never.is_none() {
            let help = Some(format!("add `never:`, one of {}", Violation::WORDS.join(", ")));
            found.add(&at, "a tolerance of zero needs of what", help);
        }
        if !(zero.proven_below.0 > 0.0 && zero.proven_below.0 < 1.0) {
            let message = "expected a share above 0 and below 1: no number proves that nothing is";
            found.add(&format!("{at}.proven_below"), message, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_wrong_with_a_policy_is_told_with_its_place() {
        let text = "from: shadow\nto: autonomous\nconfidence: 120%\ncriteria:\n  \
                    - {must: sucess >= 85%}\n  - {because: none}\nzero_tolerance: [{never: write}]\n";
        let problems = load(text, "policy.yaml").unwrap_err();
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let all = told.join("\n");
        for expected in ["did you mean `success`?", "policy.yaml:5:", "foreign-write", "120%"] {
            assert!(all.contains(expected), "{expected}\n{all}");
        }
    }

    #[test]
    fn a_policy_is_read_with_its_defaults() {
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
