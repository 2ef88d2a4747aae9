//! One random stream (ChaCha8) for each (seed, purpose, entity), so that a further draw in one stream
//! changes no other stream.
//!
//! ```
//! use alertstorm_model::seed::{Purpose, Stream};
//!
//! let first = |entity| Stream::new(7, Purpose::Trace, entity).bits();
//! assert_eq!(first(1), first(1));
//! assert_ne!(first(1), first(2));
//! ```

use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};

words! {
    /// Purpose of a stream. The entity is given for each.
    pub enum Purpose {
        /// Times of a source's alerts; by source.
        Arrivals = "arrivals",
        /// Domain, severity and fingerprint; by alert.
        AlertKind = "alert-kind",
        /// Trace of the agent; by investigation.
        Trace = "trace",
        /// Start-up times of the pod; by investigation.
        PodStart = "pod-start",
        /// Sync times of etcd's disk.
        Etcd = "etcd",
        /// Sync times of PostgreSQL's disk.
        Postgres = "postgres",
        /// Queues that API Priority and Fairness assigns to a flow.
        FlowHash = "flow-hash",
        /// Jitter of repeated requests to the API server.
        Backoff = "backoff",
        /// Whether a review finds the conclusion right; by investigation.
        Review = "review",
        /// Resamples of the bootstrap.
        Bootstrap = "bootstrap",
        /// Agents of a backtest.
        Simulation = "simulation",
        /// Sync times of the disk of Vault's storage.
        VaultStorage = "vault-storage",
        /// Jitter of the pause before Vault repeats a failed revocation.
        Revocation = "revocation",
        /// Offset of the kubelet's relist period; by node.
        Relist = "relist",
    }
}

/// A stream of random numbers that depends only on (seed, purpose, entity).
#[derive(Debug)]
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// The stream of `entity` for `purpose` under `seed`.
    pub fn new(seed: u64, purpose: Purpose, entity: u64) -> Self {
        let mut key = [0_u8; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&(purpose as u64).to_le_bytes());
        key[16..24].copy_from_slice(&entity.to_le_bytes());
        key[24..].copy_from_slice(b"storm.v1");
        Self(ChaCha8Rng::from_seed(key))
    }

    /// 64 uniform bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in [0, 1), with 53 bits.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// Uniform in 0..n; `n` must not be 0.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(n)) >> 64) as u64
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// An index, drawn by weight. The weights need not sum to 1; at least one must be above 0.
    pub fn pick(&mut self, weights: &[f64]) -> usize {
        let mut left = self.unit() * weights.iter().sum::<f64>();
        for (i, weight) in weights.iter().enumerate() {
            left -= weight;
            if left < 0.0 {
                return i;
            }
        }
        weights.iter().rposition(|w| *w > 0.0).unwrap_or(0)
    }

    /// Exponential with mean 1.
    pub fn exponential(&mut self) -> f64 {
        -libm::log(1.0 - self.unit())
    }

    /// Standard normal, by the inverse of its distribution function.
    pub fn normal(&mut self) -> f64 {
        normal_quantile(self.unit() + f64::EPSILON / 4.0)
    }
}

/// The standard normal's quantile function to seven digits: Wichura's PPND7 (Applied Statistics
/// algorithm 241, 1988). Most draws need neither a logarithm nor a root, which is why it is used
/// instead of Box and Muller's transform.
fn normal_quantile(p: f64) -> f64 {
    let horner = |coefficients: &[f64], x: f64| {
        coefficients.iter().rev().fold(0.0, |sum, coefficient| sum * x + coefficient)
    };
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        let r = 0.180_625 - q * q;
        return q * horner(&[3.387_132_717_9, 50.434_271_938, 159.291_132_02, 59.109_374_72], r)
            / horner(&[1.0, 17.895_169_469, 78.757_757_664, 67.187_563_6], r);
    }
    let tail = if q < 0.0 { p } else { 1.0 - p };
    let r = libm::sqrt(-libm::log(tail.max(f64::MIN_POSITIVE)));
    let z = if r <= 5.0 {
        let r = r - 1.6;
        horner(&[1.423_437_277_7, 2.756_815_39, 1.306_728_481_6, 0.170_238_211_03], r)
            / horner(&[1.0, 0.737_001_642_5, 0.120_211_329_75], r)
    } else {
        let r = r - 5.0;
        horner(&[6.657_905_115, 3.081_226_386, 0.428_682_943_37, 0.017_337_203_997], r)
            / horner(&[1.0, 0.241_978_942_25, 0.012_258_202_635], r)
    };
    z.copysign(q)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_further_draw_in_one_stream_changes_no_other_stream() {
        let second = |extra: bool| {
            let mut first = Stream::new(7, Purpose::Trace, 1);
            if extra {
                first.bits();
            }
            Stream::new(7, Purpose::Trace, 2).bits()
        };
        assert_eq!(second(false), second(true));
        assert_ne!(
            Stream::new(7, Purpose::Trace, 1).bits(),
            Stream::new(7, Purpose::Etcd, 1).bits()
        );
    }

    #[test]
    fn the_normals_quantiles_are_those_of_the_tables() {
        for (p, z) in [
            (0.5, 0.0),
            (0.841_344_746, 1.0),
            (0.95, 1.644_853_627),
            (0.975, 1.959_963_985),
            (0.999, 3.090_232_306),
            (0.025, -1.959_963_985),
            (1e-12, -7.034_483_825),
        ] {
            assert!((normal_quantile(p) - z).abs() < 1e-6, "{p}: {}", normal_quantile(p));
        }
    }

    #[test]
    fn a_stream_is_the_same_on_every_machine() {
        let mut s = Stream::new(20_260_501, Purpose::Trace, 42);
        let drawn: Vec<u64> = (0..3).map(|_| s.bits()).collect();
        let again: Vec<u64> = {
            let mut s = Stream::new(20_260_501, Purpose::Trace, 42);
            (0..3).map(|_| s.bits()).collect()
        };
        assert_eq!(drawn, again);
        let mean = (0..20_000).map(|_| s.normal()).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.03, "mean of a standard normal: {mean}");
    }
}
