//! One random stream per (seed, purpose, entity): what one investigation draws never shifts another.

use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};

words! {
    /// What a stream is for.
    pub enum Purpose {
        /// When alerts of a source come.
        Arrivals = "arrivals",
        /// Domain, severity and fingerprint of one alert.
        AlertKind = "alert-kind",
        /// The trace of one investigation's agent.
        Trace = "trace",
        /// Start-up times of one investigation's pod.
        PodStart = "pod-start",
        /// Service times of etcd.
        Etcd = "etcd",
        /// Service times of PostgreSQL.
        Postgres = "postgres",
        /// Which queues a flow is dealt.
        FlowHash = "flow-hash",
        /// Jitter of retries.
        Backoff = "backoff",
    }
}

/// A stream of draws that depends on nothing but (seed, purpose, entity).
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

    /// Whether something of this probability happens.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// The index drawn by weight; the weights need not sum to 1, but must not all be 0.
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

    /// Standard normal, by Box and Muller; the second value is thrown away so that a draw always
    /// takes the same number of bits.
    pub fn normal(&mut self) -> f64 {
        let radius = libm::sqrt(2.0 * self.exponential());
        radius * libm::cos(std::f64::consts::TAU * self.unit())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_more_in_one_stream_moves_no_other() {
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
