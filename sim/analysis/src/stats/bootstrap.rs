//! The bootstrap over investigations: percentile intervals of the ratio and the difference of a
//! quantile between two runs.

use super::Interval;
use alertstorm_model::seed::{Purpose, Stream};

/// Ratio of a figure between two samples.
#[derive(
    Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
pub struct Effect {
    /// The second sample's value divided by the first's.
    pub ratio: f64,
    /// Confidence interval of the ratio.
    pub interval: Interval,
}

/// Number of resamples.
const RESAMPLES: u64 = 1_000;

/// The q-quantile (nearest rank) of an ascending sample; `None` if it is empty.
pub fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    sorted.get(rank(sorted.len(), q)?).copied()
}

/// Index of the q-quantile in an ascending sample of `n` values; `None` if `n` is 0.
fn rank(n: usize, q: f64) -> Option<usize> {
    let rank = (q * n as f64).ceil().max(1.0) as usize;
    rank.min(n).checked_sub(1)
}

/// The q-quantile of one resample: as many values as the sample, drawn with replacement.
fn resampled_quantile(sorted: &[f64], q: f64, stream: &mut Stream) -> f64 {
    let n = sorted.len() as u64;
    let mut indices: Vec<u64> = (0..n).map(|_| stream.below(n)).collect();
    let Some(rank) = rank(indices.len(), q) else { return 0.0 };
    // The sample is sorted, so selecting among indices selects among values.
    let (_, at, _) = indices.select_nth_unstable(rank);
    sorted[*at as usize]
}

/// Percentile interval of a statistic; `draw` computes it for one resample.
fn interval(confidence: f64, mut draw: impl FnMut() -> f64) -> Option<Interval> {
    let mut draws: Vec<f64> = (0..RESAMPLES).map(|_| draw()).collect();
    draws.sort_by(f64::total_cmp);
    let tail = (1.0 - confidence) / 2.0;
    Some(Interval { low: quantile(&draws, tail)?, high: quantile(&draws, 1.0 - tail)? })
}

/// The random stream for a pair of samples, derived from their sizes, so that the same data give
/// the same interval.
fn stream_of(a: &[f64], b: &[f64], which: u64) -> Stream {
    Stream::new(which, Purpose::Bootstrap, (a.len() as u64) << 32 | b.len() as u64)
}

/// Ratio of the q-quantiles of two ascending samples, `b` to `a`, with its percentile interval.
/// `None` if a sample is empty or the quantile of `a` is 0.
pub fn ratio_of_quantiles(a: &[f64], b: &[f64], q: f64, confidence: f64) -> Option<Effect> {
    let (before, after) = (quantile(a, q).filter(|value| *value > 0.0)?, quantile(b, q)?);
    let stream = &mut stream_of(a, b, 0);
    let interval = interval(confidence, || {
        let from = resampled_quantile(a, q, stream);
        resampled_quantile(b, q, stream) / from.max(f64::MIN_POSITIVE)
    })?;
    Some(Effect { ratio: after / before, interval })
}

/// Difference of the q-quantiles of two ascending samples, `b` minus `a`, with its percentile
/// interval. `None` if a sample is empty.
pub fn difference_of_quantiles(
    a: &[f64],
    b: &[f64],
    q: f64,
    confidence: f64,
) -> Option<(f64, Interval)> {
    let (before, after) = (quantile(a, q)?, quantile(b, q)?);
    let stream = &mut stream_of(a, b, 1);
    let interval = interval(confidence, || {
        resampled_quantile(b, q, stream) - resampled_quantile(a, q, stream)
    })?;
    Some((after - before, interval))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_excludes_one_for_a_slower_run_and_includes_it_for_an_equal_run() {
        let sample = |seed: u64, scale: f64| {
            let stream = &mut Stream::new(seed, Purpose::Simulation, 0);
            let mut all: Vec<f64> =
                (0..400).map(|_| scale * (1.0 + stream.exponential())).collect();
            all.sort_by(f64::total_cmp);
            all
        };
        let (a, b, slow) = (sample(1, 1.0), sample(2, 1.0), sample(3, 1.3));
        let same = ratio_of_quantiles(&a, &b, 0.5, 0.95).unwrap().interval;
        assert!(same.low < 1.0 && same.high > 1.0, "{same:?}");
        let slower = ratio_of_quantiles(&a, &slow, 0.5, 0.95).unwrap();
        assert!(slower.interval.low > 1.1 && slower.interval.high < 1.6, "{slower:?}");
        assert_eq!(ratio_of_quantiles(&a, &slow, 0.5, 0.95), Some(slower));
        assert_eq!(ratio_of_quantiles(&[], &a, 0.5, 0.95), None);
    }
}
