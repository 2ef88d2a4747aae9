//! Fixed-sample confidence intervals of rates and quantiles: valid for one look at the sample.

use statrs::distribution::{Beta, Binomial, ContinuousCDF, DiscreteCDF, Hypergeometric, Normal};

/// A confidence interval; both ends are included.
#[derive(
    Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

fn normal_quantile(p: f64) -> f64 {
    Normal::standard().inverse_cdf(p)
}

/// Wilson score interval (1927) of a rate, for `hits` of `n`, two-sided at `confidence`. Its
/// coverage averaged over rates is close to nominal. [0, 1] if `n` is 0.
pub fn wilson(hits: u64, n: u64, confidence: f64) -> Interval {
    if n == 0 {
        return Interval { low: 0.0, high: 1.0 };
    }
    let z = normal_quantile(0.5 + confidence / 2.0);
    let (n, hits) = (n as f64, hits as f64);
    let p = hits / n;
    let center = p + z * z / (2.0 * n);
    let half_width = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z * z / n;
    Interval {
        low: ((center - half_width) / scale).max(0.0),
        high: ((center + half_width) / scale).min(1.0),
    }
}

/// Clopper-Pearson (exact) interval (1934) of a rate, for `hits` of `n`, two-sided at `confidence`.
/// Its coverage is never below nominal. [0, 1] if `n` is 0.
pub fn clopper_pearson(hits: u64, n: u64, confidence: f64) -> Interval {
    let tail = (1.0 - confidence) / 2.0;
    let quantile = |a: u64, b: u64, p: f64| {
        Beta::new(a as f64, b as f64).map_or(f64::NAN, |beta| beta.inverse_cdf(p))
    };
    Interval {
        low: if hits == 0 { 0.0 } else { quantile(hits, n - hits + 1, tail) },
        high: if hits >= n { 1.0 } else { quantile(hits + 1, n - hits, 1.0 - tail) },
    }
}

/// Interval of the q-quantile from order statistics, two-sided at `confidence`, valid for any
/// distribution. `sorted` is ascending. `None` if the sample is too small to bound the quantile.
pub fn quantile_interval(sorted: &[f64], q: f64, confidence: f64) -> Option<Interval> {
    let n = sorted.len() as u64;
    let tail = (1.0 - confidence) / 2.0;
    let below = Binomial::new(q, n).ok()?;
    // The number of values below the quantile is binomial, which gives the ranks of both ends.
    let low = (0..n).take_while(|&rank| below.cdf(rank) <= tail).count();
    let high = (0..n).find(|&rank| below.cdf(rank) >= 1.0 - tail)? + 1;
    let low = low.checked_sub(1)?;
    Some(Interval { low: sorted[low], high: *sorted.get(high as usize - 1)? })
}

/// Probability that at least as many events as in `after` occur there, if all events of both sets are
/// dealt out at random: Fisher's exact test (1935), one-sided. Each set is a number of events and of
/// trials.
pub fn more_often(before: (u64, u64), after: (u64, u64)) -> f64 {
    let (events, trials) = (before.0 + after.0, before.1 + after.1);
    let Ok(dealt) = Hypergeometric::new(trials, events, after.1) else { return 1.0 };
    match after.0.checked_sub(1) {
        Some(fewer) => dealt.sf(fewer),
        None => 1.0,
    }
}

/// The largest probability, over all rates that are the same in both sets, that no trial of `before` and
/// every trial of `after` is an event. 1 if that is not so in these. Fisher's test is less sure of it in
/// few trials, as it takes their number of events as given.
pub fn none_and_all(before: (u64, u64), after: (u64, u64)) -> f64 {
    if before.0 > 0 || after.0 < after.1 {
        return 1.0;
    }
    let (n, m) = (before.1 as f64, after.1 as f64);
    let rate = m / (n + m);
    (1.0 - rate).powf(n) * rate.powf(m)
}

/// Median of an ascending sample with its interval from order statistics. If the sample is too
/// small for `confidence`, the interval is the sample's range. `None` if the sample is empty.
pub fn median_interval(sorted: &[f64], confidence: f64) -> Option<(f64, Interval)> {
    let (first, last) = (sorted.first()?, sorted.last()?);
    let n = sorted.len();
    let median = sorted[(n - 1) / 2].midpoint(sorted[n / 2]);
    let range = Interval { low: *first, high: *last };
    Some((median, quantile_interval(sorted, 0.5, confidence).unwrap_or(range)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_equal_published_values() {
        // 17 of 20 is a rate of 0.85.
        let exact = clopper_pearson(17, 20, 0.95);
        assert!((exact.low - 0.6211).abs() < 1e-3 && (exact.high - 0.9679).abs() < 1e-3);
        let score = wilson(17, 20, 0.95);
        assert!((score.low - 0.6396).abs() < 1e-3 && (score.high - 0.9476).abs() < 1e-3);
        // The rule of three: 0 of 300 does not exclude a rate of 1 %.
        let none = clopper_pearson(0, 300, 0.90);
        assert_eq!(none.low, 0.0);
        assert!((none.high - 3.0 / 300.0).abs() < 2e-4, "{none:?}");
        assert_eq!(wilson(0, 0, 0.95), Interval { low: 0.0, high: 1.0 });
    }

    #[test]
    fn order_statistics_bound_the_median_of_ten_values() {
        let sample: Vec<f64> = (1..=10).map(f64::from).collect();
        // The second and the ninth of ten values cover the median with a probability of 97.9 %.
        let (median, interval) = median_interval(&sample, 0.95).unwrap();
        assert_eq!((median, interval), (5.5, Interval { low: 2.0, high: 9.0 }));
        assert_eq!(quantile_interval(&sample, 0.99, 0.95), None);
        assert_eq!(median_interval(&[], 0.95), None);
    }

    #[test]
    fn intervals_have_their_nominal_coverage() {
        use alertstorm_model::seed::{Purpose, Stream};
        // 10,000 agents with different true rates, 400 investigations each.
        let (mut score, mut exact) = (0, 0);
        for agent in 0..10_000 {
            let stream = &mut Stream::new(7, Purpose::Simulation, agent);
            let truth = 0.5 + 0.48 * stream.unit();
            let hits = (0..400).filter(|_| stream.chance(truth)).count() as u64;
            let contains = |of: Interval| of.low <= truth && truth <= of.high;
            score += u32::from(contains(wilson(hits, 400, 0.95)));
            exact += u32::from(contains(clopper_pearson(hits, 400, 0.95)));
        }
        let share = |covered: u32| f64::from(covered) / 10_000.0;
        assert!((share(score) - 0.95).abs() <= 0.01, "wilson covers {}", share(score));
        assert!((0.95..0.98).contains(&share(exact)), "clopper_pearson covers {}", share(exact));
    }
}
