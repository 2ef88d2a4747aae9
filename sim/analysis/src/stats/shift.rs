//! Whether repeated runs shifted: the difference of means of a figure over repeats, on the
//! logarithm, so that it is a ratio.

use statrs::distribution::{ContinuousCDF, StudentsT};

use super::{Effect, Interval};

fn mean_and_variance(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    (mean, squares / (n - 1.0))
}

fn logs(values: &[f64]) -> Option<Vec<f64>> {
    values.iter().map(|value| (*value > 0.0).then(|| value.ln())).collect()
}

fn shift(difference: f64, error: f64, freedom: f64, confidence: f64) -> Option<Effect> {
    // Repeats that agree to the last digit leave nothing to doubt.
    let reach = match error > 0.0 {
        true => error * StudentsT::new(0.0, 1.0, freedom).ok()?.inverse_cdf(0.5 + confidence / 2.0),
        false => 0.0,
    };
    let interval = Interval { low: (difference - reach).exp(), high: (difference + reach).exp() };
    Some(Effect { ratio: difference.exp(), interval })
}

/// The ratio of the geometric means of two sets of repeats that were made apart (Welch, 1947); none where one has fewer than two, or a
/// value that is not above 0.
pub fn welch(before: &[f64], after: &[f64], confidence: f64) -> Option<Effect> {
    if before.len() < 2 || after.len() < 2 {
        return None;
    }
    let (a, b) = (logs(before)?, logs(after)?);
    let ((mean_a, var_a), (mean_b, var_b)) = (mean_and_variance(&a), mean_and_variance(&b));
    let (a, b) = (var_a / a.len() as f64, var_b / b.len() as f64);
    let (n_a, n_b) = (before.len() as f64 - 1.0, after.len() as f64 - 1.0);
    let freedom = (a + b) * (a + b) / (a * a / n_a + b * b / n_b).max(f64::MIN_POSITIVE);
    shift(mean_b - mean_a, (a + b).sqrt(), freedom.max(1.0), confidence)
}

/// The same of repeats that were made in turns, one of each at a time.
pub fn paired(before: &[f64], after: &[f64], confidence: f64) -> Option<Effect> {
    let n = before.len().min(after.len());
    if n < 2 {
        return None;
    }
    let (a, b) = (logs(&before[..n])?, logs(&after[..n])?);
    let differences: Vec<f64> = a.iter().zip(&b).map(|(a, b)| b - a).collect();
    let (mean, variance) = mean_and_variance(&differences);
    shift(mean, (variance / n as f64).sqrt(), n as f64 - 1.0, confidence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shift_is_told_from_noise() {
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
    fn pairs_see_through_a_machine_that_is_slow_for_a_while() {
        let before = [10.0, 20.0, 10.5, 19.0, 10.2];
        let after: Vec<f64> = before.iter().map(|value| value * 1.15).collect();
        let apart = welch(&before, &after, 0.95).unwrap().interval;
        let in_turns = paired(&before, &after, 0.95).unwrap().interval;
        assert!(apart.low < 1.0 && in_turns.low > 1.1, "{apart:?} {in_turns:?}");
    }
}
