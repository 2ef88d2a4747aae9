//! Evidence that may be looked at after every observation. The likelihood ratio of a mixture of
//! rates on one side of a threshold against the threshold itself is a supermartingale whatever the
//! true rate on the other side, so by Ville's inequality (1939) it ever exceeds 1/α with probability
//! at most α: the mixture form of Robbins (1970) for a Bernoulli rate with a Beta prior cut off at
//! the threshold.

use statrs::function::beta::{beta_reg, ln_beta};

/// Which side of the threshold the evidence is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The rate is above it.
    Above,
    /// The rate is below it.
    Below,
}

/// Counts of a Bernoulli sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Observations in which it happened.
    pub hits: u64,
    /// Observations.
    pub n: u64,
}

/// The prior's shape: Jeffreys', which knows least.
const PRIOR: f64 = 0.5;

impl Evidence {
    /// Takes an observation.
    pub fn take(&mut self, hit: bool) {
        self.n += 1;
        self.hits += u64::from(hit);
    }

    /// Whether the rate seen lies on `side` of `threshold`, which of few says little.
    pub fn lies(self, threshold: f64, side: Side) -> bool {
        let rate = self.hits as f64 / self.n.max(1) as f64;
        match side {
            Side::Above => rate > threshold,
            Side::Below => rate < threshold,
        }
    }

    /// The logarithm of the evidence that the rate is on `side` of `threshold` (within 0 and 1,
    /// both excluded), against its being on the other: above ln(1/α), level α is reached, and ever
    /// reaching it by chance has at most that probability.
    pub fn log_against(self, threshold: f64, side: Side) -> f64 {
        // Below is above, of what did not happen.
        let (hits, threshold) = match side {
            Side::Above => (self.hits, threshold),
            Side::Below => (self.n - self.hits, 1.0 - threshold),
        };
        let (s, f) = (hits as f64, (self.n - hits) as f64);
        // The part above the threshold, by the part of what did not happen below it: nothing, whose
        // logarithm is below any evidence, where all that was seen is far on the other side.
        let mass = |a: f64, b: f64| ln_beta(a, b) + beta_reg(b, a, 1.0 - threshold).ln();
        let mixture = mass(PRIOR + s, PRIOR + f) - mass(PRIOR, PRIOR);
        mixture - s * threshold.ln() - f * (1.0 - threshold).ln()
    }

    /// Whether level `alpha` is reached.
    pub fn settles(self, threshold: f64, side: Side, alpha: f64) -> bool {
        self.log_against(threshold, side) >= -alpha.ln()
    }

    /// The bound of the rate that holds at every look at once, each at level `alpha`: the rate is
    /// above (below) it.
    pub fn bound(self, side: Side, alpha: f64) -> f64 {
        let mean = self.hits as f64 / self.n.max(1) as f64;
        // On the far side of what was seen, evidence only grows: bisection between both.
        let (mut settled, mut open): (f64, f64) = match side {
            Side::Above => (0.0, mean),
            Side::Below => (1.0, mean),
        };
        for _ in 0..40 {
            let middle = settled.midpoint(open);
            let inside = middle > 0.0 && middle < 1.0;
            if inside && self.settles(middle, side, alpha) {
                settled = middle;
            } else {
                open = middle;
            }
        }
        settled
    }

    /// How many more observations at the same rate would settle it, if `most` do.
    pub fn more_to_settle(self, threshold: f64, side: Side, alpha: f64, most: u64) -> Option<u64> {
        let rate = self.hits as f64 / self.n.max(1) as f64;
        let after = |more: u64| {
            let hits = self.hits + (rate * more as f64).round() as u64;
            Self { hits, n: self.n + more }
        };
        if !after(most).settles(threshold, side, alpha) {
            return None;
        }
        let (mut open, mut settled) = (0_u64, most);
        while settled - open > 1 {
            let middle = open.midpoint(settled);
            match after(middle).settles(threshold, side, alpha) {
                true => settled = middle,
                false => open = middle,
            }
        }
        Some(settled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alertstorm_model::seed::{Purpose, Stream};

    #[test]
    fn eighty_six_percent_of_twenty_settles_nothing_at_eighty_five() {
        // 17.2 of 20 cannot be; 18 of 21 is the nearest that can.
        let few = Evidence { hits: 18, n: 21 };
        assert!(!few.settles(0.85, Side::Above, 0.05) && !few.settles(0.85, Side::Below, 0.05));
        let more = few.more_to_settle(0.85, Side::Above, 0.05, 1_000_000);
        assert!(more.is_some_and(|more| more > 5_000), "{more:?}");
        let good = Evidence { hits: 190, n: 200 };
        assert!(good.settles(0.85, Side::Above, 0.05));
        assert!(good.bound(Side::Above, 0.05) > 0.85 && good.bound(Side::Above, 0.05) < 0.95);
    }

    #[test]
    fn what_lies_on_the_other_side_is_never_settled_however_much_there_is_of_it() {
        for n in [21_u64, 1_000, 60_000, 1_000_000, 50_000_000] {
            for rate in [0.0, 0.1, 0.524, 0.59] {
                let hits = (rate * n as f64) as u64;
                let few = Evidence { hits, n };
                assert!(!few.settles(0.6, Side::Above, 0.05), "{few:?}");
                let many = Evidence { hits: n - hits, n };
                assert!(!many.settles(0.4, Side::Below, 0.05), "{many:?}");
            }
            assert!(n < 1_000 || Evidence { hits: n / 10 * 9, n }.settles(0.6, Side::Above, 0.05));
        }
        assert_eq!(
            Evidence { hits: 11, n: 21 }.more_to_settle(0.6, Side::Above, 0.05, 1 << 20),
            None
        );
    }

    #[test]
    fn a_look_after_every_observation_misleads_no_more_often_than_it_may() {
        // At the threshold itself, where chance is likeliest to mislead: four thousand agents, five
        // hundred looks each.
        let alpha = 0.05;
        for (threshold, side) in [(0.85, Side::Above), (0.02, Side::Below)] {
            let misled = |agent: u64| {
                let stream = &mut Stream::new(11, Purpose::Simulation, agent);
                let mut evidence = Evidence::default();
                (0..500).any(|_| {
                    evidence.take(stream.chance(threshold));
                    evidence.settles(threshold, side, alpha)
                })
            };
            let misled = (0..4_000).filter(|agent| misled(*agent)).count();
            let share = misled as f64 / 4_000.0;
            assert!(share <= alpha, "{side:?} {threshold}: {share}");
            assert!(share > 0.002, "a rule that never settles is no rule: {share}");
        }
    }
}
