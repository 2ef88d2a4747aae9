//! t intervals for repeated runs: the ratio of the geometric means of a figure, computed as the
//! difference of the means of its logarithms.

use statrs::distribution::{ContinuousCDF, StudentsT};

use super::{Effect, Interval};

/// Mean and unbiased sample variance; `values` has at least two.
fn mean_and_variance(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    (mean, squares / (n - 1.0))
}

/// Natural logarithms; `None` if a value is not above 0.
fn logs(values: &[f64]) -> Option<Vec<f64>> {
    values.iter().map(|value| (*value > 0.0).then(|| value.ln())).collect()
}

/// Ratio and t interval from a difference of means of logarithms and its standard error.
fn effect(difference: f64, error: f64, degrees: f64, confidence: f64) -> Option<Effect> {
    // Without variance between repeats the interval has no width.
    let half_width = match error > 0.0 {
        true => error * StudentsT::new(0.0, 1.0, degrees).ok()?.inverse_cdf(0.5 + confidence / 2.0),
        false => 0.0,
    };
    let interval =
        Interval { low: (difference - half_width).exp(), high: (difference + half_width).exp() };
    Some(Effect { ratio: difference.exp(), interval })
}

/// Ratio of the geometric means of two independent sets of repeats, with Welch's t interval (1947),
/// two-sided at `confidence`. `None` if a set has fewer than two values, or one that is not above
/// 0.
pub fn welch(before: &[f64], after: &[f64], confidence: f64) -> Option<Effect> {
    if before.len() < 2 || after.len() < 2 {
        return None;
    }
    let (a, b) = (logs(before)?, logs(after)?);
    let ((mean_a, var_a), (mean_b, var_b)) = (mean_and_variance(&a), mean_and_variance(&b));
    let (a, b) = (var_a / a.len() as f64, var_b / b.len() as f64);
    let (n_a, n_b) = (before.len() as f64 - 1.0, after.len() as f64 - 1.0);
    let degrees = (a + b) * (a + b) / (a * a / n_a + b * b / n_b).max(f64::MIN_POSITIVE);
    effect(mean_b - mean_a, (a + b).sqrt(), degrees.max(1.0), confidence)
}

/// Ratio of the geometric means of paired repeats (runs made alternately), with the paired t
/// interval, two-sided at `confidence`. Values without a partner are left out. `None` as for
/// [`welch`].
pub fn paired(before: &[f64], after: &[f64], confidence: f64) -> Option<Effect> {
    let n = before.len().min(after.len());
    if n < 2 {
        return None;
    }
    let (a, b) = (logs(&before[..n])?, logs(&after[..n])?);
    let differences: Vec<f64> = a.iter().zip(&b).map(|(a, b)| b - a).collect();
    let (mean, variance) = mean_and_variance(&differences);
    effect(mean, (variance / n as f64).sqrt(), n as f64 - 1.0, confidence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_excludes_one_for_a_slowdown_and_includes_it_for_noise() {
        let before = [10.0, 10.4, 9.8, 10.1, 10.2];
        let slower = [11.6, 11.9, 11.4, 11.5, 11.8];
        let effect = welch(&before, &slower, 0.99).unwrap();
        assert!((effect.ratio - 1.153).abs() < 0.01 && effect.interval.low > 1.08, "{effect:?}");
        let same = welch(&before, &[10.1, 9.9, 10.3, 10.0, 10.3], 0.95).unwrap().interval;
        assert!(same.low < 1.0 && same.high > 1.0);
        assert_eq!(welch(&before, &[1.0], 0.95), None);
        assert_eq!(welch(&[3.0, 3.0], &[3.0, 3.0], 0.95).unwrap().ratio, 1.0);
    }

    #[test]
    fn pairing_removes_the_noise_of_a_machine_that_is_slow_for_a_while() {
        let before = [10.0, 20.0, 10.5, 19.0, 10.2];
        let after: Vec<f64> = before.iter().map(|value| value * 1.15).collect();
        let independent = welch(&before, &after, 0.95).unwrap().interval;
        let pairs = paired(&before, &after, 0.95).unwrap().interval;
        assert!(independent.low < 1.0 && pairs.low > 1.1, "{independent:?} {pairs:?}");
    }
}
