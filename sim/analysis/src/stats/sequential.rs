//! Sequential test of a Bernoulli rate, valid after every observation.
//!
//! The test statistic is an e-value: the likelihood under a mixture of the rates on one side of a
//! threshold, divided by the likelihood at the threshold. The mixture (Robbins, 1970) is a Beta
//! prior truncated at the threshold. For every true rate on the other side the e-process is a
//! supermartingale, so the probability that it ever reaches 1/α is at most α (Ville's inequality,
//! 1939).

use statrs::function::beta::{beta_reg, ln_beta};

/// The alternative hypothesis: the side of the threshold on which the rate lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The rate is above the threshold.
    Above,
    /// The rate is below the threshold.
    Below,
}

/// Counts of a Bernoulli sample, which are all that the test depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Observations in which the event occurred.
    pub hits: u64,
    /// All observations.
    pub n: u64,
}

/// Both parameters of the Beta prior: Jeffreys' prior.
const PRIOR: f64 = 0.5;

impl Evidence {
    /// Adds an observation.
    pub fn observe(&mut self, hit: bool) {
        self.n += 1;
        self.hits += u64::from(hit);
    }

    /// Whether the point estimate is on `side` of `threshold`, without regard to its uncertainty.
    pub fn point_estimate_is(self, threshold: f64, side: Side) -> bool {
        let rate = self.hits as f64 / self.n.max(1) as f64;
        match side {
            Side::Above => rate > threshold,
            Side::Below => rate < threshold,
        }
    }

    /// Natural logarithm of the e-value for the rate being on `side` of `threshold`, against the
    /// other side. `threshold` is above 0 and below 1. The result is significant at level α from
    /// ln(1/α) on.
    pub fn ln_e_value(self, threshold: f64, side: Side) -> f64 {
        // A rate below the threshold is a complementary rate above the complementary threshold.
        let (hits, threshold) = match side {
            Side::Above => (self.hits, threshold),
            Side::Below => (self.n - self.hits, 1.0 - threshold),
        };
        let (s, f) = (hits as f64, (self.n - hits) as f64);
        // The Beta mass above the threshold, computed as the complementary mass below. It
        // underflows to 0 if all observations are far on the other side; its logarithm is then
        // -inf, which is never significant.
        let mass = |a: f64, b: f64| ln_beta(a, b) + beta_reg(b, a, 1.0 - threshold).ln();
        let mixture = mass(PRIOR + s, PRIOR + f) - mass(PRIOR, PRIOR);
        mixture - s * threshold.ln() - f * (1.0 - threshold).ln()
    }

    /// Whether the rate is shown to be on `side` of `threshold` at level `alpha`.
    pub fn is_significant(self, threshold: f64, side: Side, alpha: f64) -> bool {
        self.ln_e_value(threshold, side) >= -alpha.ln()
    }

    /// One-sided confidence bound of the rate at level `alpha`, valid at all looks simultaneously:
    /// a lower bound for [`Side::Above`], an upper bound for [`Side::Below`].
    pub fn bound(self, side: Side, alpha: f64) -> f64 {
        let mean = self.hits as f64 / self.n.max(1) as f64;
        // The e-value increases with the distance from the point estimate: bisection.
        let (mut significant, mut open): (f64, f64) = match side {
            Side::Above => (0.0, mean),
            Side::Below => (1.0, mean),
        };
        for _ in 0..40 {
            let middle = significant.midpoint(open);
            let inside = middle > 0.0 && middle < 1.0;
            if inside && self.is_significant(middle, side, alpha) {
                significant = middle;
            } else {
                open = middle;
            }
        }
        significant
    }

    /// Number of further observations, at the rate observed so far, after which the result is
    /// significant; `None` if `most` are too few.
    pub fn more_needed(self, threshold: f64, side: Side, alpha: f64, most: u64) -> Option<u64> {
        let rate = self.hits as f64 / self.n.max(1) as f64;
        let after = |more: u64| {
            let hits = self.hits + (rate * more as f64).round() as u64;
            Self { hits, n: self.n + more }
        };
        if !after(most).is_significant(threshold, side, alpha) {
            return None;
        }
        let (mut too_few, mut enough) = (0_u64, most);
        while enough - too_few > 1 {
            let middle = too_few.midpoint(enough);
            match after(middle).is_significant(threshold, side, alpha) {
                true => enough = middle,
                false => too_few = middle,
            }
        }
        Some(enough)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alertstorm_model::seed::{Purpose, Stream};

    #[test]
    fn eighteen_of_twenty_one_are_inconclusive_at_a_threshold_of_85_percent() {
        // 18 of 21 is a rate of 0.857.
        let few = Evidence { hits: 18, n: 21 };
        assert!(
            !few.is_significant(0.85, Side::Above, 0.05)
                && !few.is_significant(0.85, Side::Below, 0.05)
        );
        let more = few.more_needed(0.85, Side::Above, 0.05, 1_000_000);
        assert!(more.is_some_and(|more| more > 5_000), "{more:?}");
        let good = Evidence { hits: 190, n: 200 };
        assert!(good.is_significant(0.85, Side::Above, 0.05));
        assert!(good.bound(Side::Above, 0.05) > 0.85 && good.bound(Side::Above, 0.05) < 0.95);
    }

    #[test]
    fn a_rate_on_the_other_side_is_never_significant_at_any_sample_size() {
        for n in [21_u64, 1_000, 60_000, 1_000_000, 50_000_000] {
            for rate in [0.0, 0.1, 0.524, 0.59] {
                let hits = (rate * n as f64) as u64;
                let few = Evidence { hits, n };
                assert!(!few.is_significant(0.6, Side::Above, 0.05), "{few:?}");
                let many = Evidence { hits: n - hits, n };
                assert!(!many.is_significant(0.4, Side::Below, 0.05), "{many:?}");
            }
            assert!(
                n < 1_000
                    || Evidence { hits: n / 10 * 9, n }.is_significant(0.6, Side::Above, 0.05)
            );
        }
        assert_eq!(Evidence { hits: 11, n: 21 }.more_needed(0.6, Side::Above, 0.05, 1 << 20), None);
    }

    #[test]
    fn checking_after_every_observation_keeps_the_error_rate_below_alpha() {
        // The true rate is the threshold, where the error rate is highest: 4,000 agents, 500 looks
        // each.
        let alpha = 0.05;
        for (threshold, side) in [(0.85, Side::Above), (0.02, Side::Below)] {
            let errs = |agent: u64| {
                let stream = &mut Stream::new(11, Purpose::Simulation, agent);
                let mut evidence = Evidence::default();
                (0..500).any(|_| {
                    evidence.observe(stream.chance(threshold));
                    evidence.is_significant(threshold, side, alpha)
                })
            };
            let errors = (0..4_000).filter(|agent| errs(*agent)).count();
            let share = errors as f64 / 4_000.0;
            assert!(share <= alpha, "{side:?} {threshold}: {share}");
            assert!(share > 0.002, "the test has no power: {share}");
        }
    }
}
