//! The bootstrap over investigations: what a quantile's ratio between two runs may be, for all that
//! the samples say.

use super::Interval;
use alertstorm_model::seed::{Purpose, Stream};

/// How much larger one is than the other.
#[derive(
    Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
pub struct Effect {
    /// The second's value by the first's.
    pub ratio: f64,
    /// Its interval.
    pub interval: Interval,
}

/// Resamples.
const RESAMPLES: u64 = 1_000;

/// The q-quantile of an ascending sample, by its nearest rank; nothing of an empty one.
pub fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    sorted.get(rank(sorted.len(), q)?).copied()
}

/// The index of the q-quantile in an ascending sample of `n`.
fn rank(n: usize, q: f64) -> Option<usize> {
    let rank = (q * n as f64).ceil().max(1.0) as usize;
    rank.min(n).checked_sub(1)
}

/// A draw of a sample's quantile: of as many values, each of which is one of the sample's.
fn redraw(sorted: &[f64], q: f64, stream: &mut Stream) -> f64 {
    let n = sorted.len() as u64;
    let mut picked: Vec<u64> = (0..n).map(|_| stream.below(n)).collect();
    let Some(rank) = rank(picked.len(), q) else { return 0.0 };
    // Ranks of a sorted sample order as its values do.
    let (_, at, _) = picked.select_nth_unstable(rank);
    sorted[*at as usize]
}

/// The percentile interval of a figure that `draw` draws anew.
fn interval(confidence: f64, mut draw: impl FnMut() -> f64) -> Option<Interval> {
    let mut draws: Vec<f64> = (0..RESAMPLES).map(|_| draw()).collect();
    draws.sort_by(f64::total_cmp);
    let tail = (1.0 - confidence) / 2.0;
    Some(Interval { low: quantile(&draws, tail)?, high: quantile(&draws, 1.0 - tail)? })
}

/// The stream of a pair of samples: the same data give the same interval.
fn stream_of(a: &[f64], b: &[f64], which: u64) -> Stream {
    Stream::new(which, Purpose::Bootstrap, (a.len() as u64) << 32 | b.len() as u64)
}

/// The ratio of the q-quantiles of two ascending samples, with its percentile interval.
pub fn ratio_of_quantiles(a: &[f64], b: &[f64], q: f64, confidence: f64) -> Option<Effect> {
    let (before, after) = (quantile(a, q).filter(|value| *value > 0.0)?, quantile(b, q)?);
    let stream = &mut stream_of(a, b, 0);
    let interval = interval(confidence, || {
        let from = redraw(a, q, stream);
        redraw(b, q, stream) / from.max(f64::MIN_POSITIVE)
    })?;
    Some(Effect { ratio: after / before, interval })
}

/// The difference of the q-quantiles of two ascending samples, second less first, with its
/// percentile interval.
pub fn difference_of_quantiles(
    a: &[f64],
    b: &[f64],
    q: f64,
    confidence: f64,
) -> Option<(f64, Interval)> {
    let (before, after) = (quantile(a, q)?, quantile(b, q)?);
    let stream = &mut stream_of(a, b, 1);
    let interval = interval(confidence, || redraw(b, q, stream) - redraw(a, q, stream))?;
    Some((after - before, interval))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slower_run_is_seen_and_the_same_run_is_not() {
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
