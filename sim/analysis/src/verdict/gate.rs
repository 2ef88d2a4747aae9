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

use crate::measure::Reading;
use crate::stats::{Effect, more_often, none_and_all, paired, welch};

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
    /// Geometric mean over the baseline's repeats; `never` if one of them is.
    pub before_s: Reading,
    /// Geometric mean over the new repeats; `never` if one of them is.
    pub after_s: Reading,
    /// Ratio of after to before, with an interval that is valid for all figures at once
    /// (Bonferroni); empty with fewer than two repeats, or if a repeat is `never`.
    pub effect: Option<Effect>,
}

/// The values in seconds; `None` if one of them is infinite.
fn all_finite(readings: &[Reading]) -> Option<Vec<f64>> {
    readings.iter().map(|reading| reading.finite()).collect()
}

fn geometric_mean(readings: &[Reading]) -> Reading {
    let Some(values) = all_finite(readings) else { return Reading::Never };
    let sum: f64 = values.iter().map(|value| value.max(f64::MIN_POSITIVE).ln()).sum();
    Reading::At((sum / values.len().max(1) as f64).exp())
}

/// Judges every figure that all samples have, by Welch's or the paired t interval. Bonferroni's
/// correction keeps the probability of any false alarm at the rule's. Only a slowdown is an alarm,
/// so each interval leaves `false_alarms` / figures to either side. If a figure of some repeats is
/// infinite, Fisher's exact test (1935) compares how many are.
pub fn judge(before: &[Sample], after: &[Sample], rule: Rule) -> Vec<Judged> {
    let figures: Vec<(String, Vec<Reading>, Vec<Reading>)> = Sample::metrics()
        .filter_map(|metric| {
            let of = |samples: &[Sample]| -> Option<Vec<Reading>> {
                samples.iter().map(|sample| metric.of(sample)).collect()
            };
            Some((metric.to_string(), of(before)?, of(after)?))
        })
        .filter(|(_, before, after)| !before.is_empty() && !after.is_empty())
        .collect();
    let level = rule.false_alarms / figures.len().max(1) as f64;
    let confidence = 1.0 - 2.0 * level;
    let one = |(metric, before, after): (String, Vec<Reading>, Vec<Reading>)| {
        let test = if rule.paired { paired } else { welch };
        let finite = all_finite(&before).zip(all_finite(&after));
        let effect = finite.as_ref().and_then(|(before, after)| test(before, after, confidence));
        let verdict = match (&finite, effect) {
            (None, _) => verdict_on_never(&before, &after, level),
            (Some(_), Some(effect)) => verdict(effect, rule),
            (Some(_), None) => Verdict::Inconclusive,
        };
        let (before_s, after_s) = (geometric_mean(&before), geometric_mean(&after));
        Judged { metric, verdict, before_s, after_s, effect }
    };
    figures.into_iter().map(one).collect()
}

/// The verdict on a figure that is infinite in some repeats.
fn verdict_on_never(before: &[Reading], after: &[Reading], level: f64) -> Verdict {
    let never = |readings: &[Reading]| {
        let never = readings.iter().filter(|reading| **reading == Reading::Never).count();
        (never as u64, readings.len() as u64)
    };
    let (before, after) = (never(before), never(after));
    if before.0 == before.1 && after.0 == after.1 {
        Verdict::Held
    } else if more_often(before, after) <= level || none_and_all(before, after) <= level {
        Verdict::Regressed
    } else if more_often(after, before) <= level || none_and_all(after, before) <= level {
        Verdict::Improved
    } else {
        Verdict::Inconclusive
    }
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
        let ratio = match (before_s, after_s) {
            (Reading::At(before), Reading::At(after)) => after / before,
            (Reading::At(_), Reading::Never) => f64::INFINITY,
            (Reading::Never, Reading::At(_)) => 0.0,
            (Reading::Never, Reading::Never) => 1.0,
        };
        let verdict = match ratio {
            _ if ratio >= 1.0 + least_effect => Verdict::Regressed,
            _ if ratio <= 1.0 / (1.0 + least_effect) => Verdict::Improved,
            _ => Verdict::Held,
        };
        let interval = crate::stats::Interval { low: ratio, high: ratio };
        let both = before_s.finite().and(after_s.finite());
        let effect = both.map(|_| Effect { ratio, interval });
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

    #[test]
    fn a_figure_that_becomes_infinite_is_a_regression() {
        let failing = |mut sample: Sample| {
            sample.stages[0].failed = 900;
            sample
        };
        let (before, after) = (runs(1, 5, 1.0), runs(2, 5, 1.0));
        let failed: Vec<Sample> = after.iter().cloned().map(failing).collect();
        let verdicts = |before: &[Sample], after: &[Sample]| -> Vec<Verdict> {
            judge(before, after, RULE).iter().map(|judged| judged.verdict).collect()
        };
        assert_eq!(verdicts(&before, &failed), [Verdict::Regressed; 2]);
        assert_eq!(verdicts(&failed, &after), [Verdict::Improved; 2]);
        assert_eq!(verdicts(&failed, &failed), [Verdict::Held; 2]);
        // Four repeats are enough, and three are not: 1/256 and 1/64, for six figures at 5 %.
        assert_eq!(verdicts(&before[..4], &failed[..4])[0], Verdict::Regressed);
        assert_eq!(verdicts(&before[..2], &failed[..2])[0], Verdict::Inconclusive);
        // One of five is no evidence.
        let one = [&failed[..1], &after[1..]].concat();
        assert_eq!(verdicts(&before, &one), [Verdict::Inconclusive; 2]);
        let exactly = judge_exactly(&before[0], &failed[0], 0.1);
        assert!(exactly.iter().all(|judged| judged.verdict == Verdict::Regressed), "{exactly:?}");
        assert!(exactly.iter().all(|judged| judged.after_s == Reading::Never));
    }
}
