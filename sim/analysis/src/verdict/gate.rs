//! The gate: whether runs are slower than a baseline's, by a test that accounts for the noise
//! between repeated runs.
//!
//! ```
//! use alertstorm_analysis::verdict::gate::{self, Rule, Sample, StageCounts, Verdict};
//! use alertstorm_model::investigation::Stage;
//!
//! // A run of 100 investigations that all start their pod after the same time.
//! let run = |milliseconds| {
//!     let counts = vec![(milliseconds, 100)];
//!     let stage = StageCounts { to: Stage::PodRunning, counts, failed: 0, censored: 0 };
//!     Sample { seed: 1, digest: String::new(), stages: vec![stage] }
//! };
//! let before = [run(1_000), run(1_010), run(990)];
//! let after = [run(1_500), run(1_520), run(1_490)];
//! let rule = Rule { false_alarms: 0.05, least_effect: 0.1, paired: false };
//!
//! let judged = gate::judge(&before, &after, rule);
//! assert_eq!(judged[0].metric, "pod_running.p50");
//! assert_eq!(judged[0].verdict, Verdict::Regressed);
//! ```

mod sample;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::stats::{Effect, paired, welch};

pub use sample::{Sample, StageCounts, Trail};

alertstorm_model::words! {
    /// Verdict on one figure.
    pub enum Verdict {
        /// A slowdown by the least effect or more is excluded.
        Held = "held",
        /// Significantly slower, by at least the least effect.
        Regressed = "regressed",
        /// Significantly faster, by at least the least effect.
        Improved = "improved",
        /// A slowdown by the least effect is neither shown nor excluded; more repeats may decide.
        Inconclusive = "inconclusive",
    }
}

/// Parameters of the test.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rule {
    /// Probability of at least one false alarm over all figures if nothing changed; 0 to 1.
    pub false_alarms: f64,
    /// Smallest relative change that counts; 0.1 is 10 %.
    pub least_effect: f64,
    /// Whether runs before and after were made alternately, so that pairs are compared.
    pub paired: bool,
}

/// Verdict on one figure, with its evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Judged {
    /// Stage and quantile, such as `pod_running.p95`, counted from the alert.
    pub metric: String,
    /// The verdict.
    pub verdict: Verdict,
    /// Geometric mean over the baseline's repeats, in seconds.
    pub before_s: f64,
    /// Geometric mean over the new repeats, in seconds.
    pub after_s: f64,
    /// Ratio of after to before, with an interval that is valid for all figures at once
    /// (Bonferroni); empty with fewer than two repeats.
    pub effect: Option<Effect>,
}

fn geometric_mean(values: &[f64]) -> f64 {
    let sum: f64 = values.iter().map(|value| value.max(f64::MIN_POSITIVE).ln()).sum();
    (sum / values.len().max(1) as f64).exp()
}

/// Judges every figure that all samples have, by Welch's or the paired t interval. Bonferroni's
/// correction keeps the probability of any false alarm at the rule's. Only a slowdown is an alarm,
/// so each interval leaves `false_alarms` / figures to either side.
pub fn judge(before: &[Sample], after: &[Sample], rule: Rule) -> Vec<Judged> {
    let figures: Vec<(String, Vec<f64>, Vec<f64>)> = Sample::metrics()
        .filter_map(|metric| {
            let of = |samples: &[Sample]| -> Option<Vec<f64>> {
                samples.iter().map(|sample| metric.of(sample)).collect()
            };
            Some((metric.to_string(), of(before)?, of(after)?))
        })
        .filter(|(_, before, after)| !before.is_empty() && !after.is_empty())
        .collect();
    let confidence = 1.0 - 2.0 * rule.false_alarms / figures.len().max(1) as f64;
    let one = |(metric, before, after): (String, Vec<f64>, Vec<f64>)| {
        let test = if rule.paired { paired } else { welch };
        let effect = test(&before, &after, confidence);
        let verdict = effect.map_or(Verdict::Inconclusive, |effect| verdict(effect, rule));
        Judged {
            metric,
            verdict,
            before_s: geometric_mean(&before),
            after_s: geometric_mean(&after),
            effect,
        }
    };
    figures.into_iter().map(one).collect()
}

fn verdict(effect: Effect, rule: Rule) -> Verdict {
    let most = 1.0 + rule.least_effect;
    let Effect { ratio, interval } = effect;
    if interval.low > 1.0 && ratio >= most {
        Verdict::Regressed
    } else if interval.high < 1.0 && ratio <= 1.0 / most {
        Verdict::Improved
    } else if interval.high < most {
        Verdict::Held
    } else {
        Verdict::Inconclusive
    }
}

/// Judges runs of the twin. They have no noise between repeats, so the ratio alone decides.
pub fn judge_exactly(before: &Sample, after: &Sample, least_effect: f64) -> Vec<Judged> {
    let one = |metric: sample::Metric| {
        let (before_s, after_s) = (metric.of(before)?, metric.of(after)?);
        let ratio = after_s / before_s;
        let verdict = match ratio {
            _ if ratio >= 1.0 + least_effect => Verdict::Regressed,
            _ if ratio <= 1.0 / (1.0 + least_effect) => Verdict::Improved,
            _ => Verdict::Held,
        };
        let interval = crate::stats::Interval { low: ratio, high: ratio };
        let effect = Some(Effect { ratio, interval });
        Some(Judged { metric: metric.to_string(), verdict, before_s, after_s, effect })
    };
    Sample::metrics().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alertstorm_model::seed::{Purpose, Stream};

    /// Runs of 100 investigations, with noise between investigations and between runs.
    fn runs(seed: u64, count: u64, slower: f64) -> Vec<Sample> {
        let run = |n: u64| {
            let stream = &mut Stream::new(seed, Purpose::Simulation, n);
            let of_run = 1.0 + 0.02 * stream.normal();
            let latencies: Vec<f64> = (0..100)
                .map(|_| 10.0 * slower * of_run * (1.0 + 0.3 * stream.exponential()))
                .collect();
            Sample::of_latencies("pod_running", &latencies)
        };
        (0..count).map(run).collect()
    }

    const RULE: Rule = Rule { false_alarms: 0.05, least_effect: 0.1, paired: false };

    #[test]
    fn noise_raises_at_most_the_allowed_false_alarms_and_a_slowdown_is_detected() {
        let alarms = |slower: f64| {
            let alarm = |pair: &u64| {
                let judged = judge(&runs(2 * pair, 5, 1.0), &runs(2 * pair + 1, 5, slower), RULE);
                judged.iter().any(|judged| judged.verdict == Verdict::Regressed)
            };
            (0..200_u64).filter(alarm).count()
        };
        assert!(alarms(1.0) <= 10, "{} of 200", alarms(1.0));
        assert!(alarms(1.15) >= 180, "{} of 200", alarms(1.15));
    }

    #[test]
    fn a_single_run_is_inconclusive_and_the_twin_needs_no_second() {
        let (before, after) = (runs(1, 1, 1.0), runs(1, 1, 1.2));
        let judged = judge(&before, &after, RULE);
        assert!(judged.iter().all(|judged| judged.verdict == Verdict::Inconclusive));
        let exact = judge_exactly(&before[0], &after[0], 0.1);
        assert!(exact.iter().all(|judged| judged.verdict == Verdict::Regressed), "{exact:?}");
    }
}
