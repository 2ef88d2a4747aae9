//! The gate: whether runs became slower than those of a baseline, by a test that knows the noise.

mod sample;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::stats::{Effect, paired, welch};

pub use sample::{Sample, StageCounts, Trail};

alertstorm_model::words! {
    /// What became of a figure.
    pub enum Verdict {
        /// A change that matters is ruled out.
        Held = "held",
        /// It is worse, by more than the least effect that matters.
        Regressed = "regressed",
        /// It is better, by more than that.
        Improved = "improved",
        /// The repeats do not settle it.
        Inconclusive = "inconclusive",
    }
}

/// How the gate judges.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rule {
    /// The probability of any false alarm at all, where nothing changed.
    pub false_alarms: f64,
    /// The least change that matters, as a share.
    pub least_effect: f64,
    /// Whether repeats were made in turns with the baseline's.
    pub paired: bool,
}

/// One figure's judgement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Judged {
    /// Like `pod_running.p95`.
    pub metric: String,
    /// Its verdict.
    pub verdict: Verdict,
    /// The baseline's geometric mean over repeats, in seconds.
    pub before_s: f64,
    /// The same now.
    pub after_s: f64,
    /// The change, with an interval that holds for all figures at once; nothing where there are too
    /// few repeats.
    pub effect: Option<Effect>,
}

fn geometric(values: &[f64]) -> f64 {
    let sum: f64 = values.iter().map(|value| value.max(f64::MIN_POSITIVE).ln()).sum();
    (sum / values.len().max(1) as f64).exp()
}

/// Judges every figure that both have, each at a confidence that makes one false alarm in all as
/// rare as the rule says (Bonferroni). An alarm is one-sided: that something is better is none.
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
        Judged { metric, verdict, before_s: geometric(&before), after_s: geometric(&after), effect }
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

/// Judges runs of the twin, which have no noise: by their difference alone.
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

    /// Runs of 100 investigations whose latencies have a noise of their own and one of the run.
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
    fn noise_raises_no_more_alarms_than_it_may_and_a_slowdown_is_caught() {
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
    fn a_single_run_settles_nothing_and_the_twin_needs_no_second() {
        let (before, after) = (runs(1, 1, 1.0), runs(1, 1, 1.2));
        let judged = judge(&before, &after, RULE);
        assert!(judged.iter().all(|judged| judged.verdict == Verdict::Inconclusive));
        let exact = judge_exactly(&before[0], &after[0], 0.1);
        assert!(exact.iter().all(|judged| judged.verdict == Verdict::Regressed), "{exact:?}");
    }
}
