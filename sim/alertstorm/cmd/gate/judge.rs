//! The judgement of two lists of runs.

use alertstorm_analysis::verdict::gate::{self, Rule, Sample};
use alertstorm_reports::gate::{Gate, SCHEMA, of_all};

use super::runs::EMBEDDED;
use crate::source::Loaded;

/// Compares the runs `after` with those `before`. Two single runs of the twin are compared exactly:
/// they carry no noise.
pub fn judge(
    loaded: &Loaded,
    against: String,
    provider: String,
    (before, after): (&[Sample], &[Sample]),
    rule: Rule,
) -> Gate {
    let judged = match (before, after) {
        ([before], [after]) if provider == EMBEDDED => {
            gate::judge_exactly(before, after, rule.least_effect)
        }
        (before, after) => gate::judge(before, after, rule),
    };
    Gate {
        schema: SCHEMA.to_owned(),
        name: loaded.plan.scenario().name.clone(),
        provider,
        against,
        repeats: (before.len() as u64, after.len() as u64),
        rule,
        verdict: of_all(&judged),
        judged,
        first_difference: None,
        remarks: Vec::new(),
    }
}
