//! Figures of a kubelet, and of KWOK, that the twin and the hollow nodes share, from pkg/kubelet
//! v1.36.3 unless another source is named.
//!
//! ```
//! use alertstorm_model::kubelet::{LEASE_PERIOD, mount_pause};
//! use alertstorm_model::time::Span;
//!
//! assert_eq!(LEASE_PERIOD, Span::secs(10));
//! assert_eq!(mount_pause(0), Span::millis(500));
//! ```

use crate::time::Span;

/// From the start of the container to the agent's first request: an estimate.
pub const AGENT_START: Span = Span::millis(150);
/// Period of the renewals of a node's Lease: a quarter of `nodeLeaseDurationSeconds` (40).
pub const LEASE_PERIOD: Span = Span::secs(10);
/// KWOK's `podPlayStageParallelism`: stages played at the same time; KWOK v0.8.0's default.
pub const KWOK_PARALLELISM: u32 = 4;

/// The pause before a pod's volumes are mounted again after this many earlier failures: 500 ms,
/// doubled up to 2 min 2 s (`initialDurationBeforeRetry` and `maxDurationBeforeRetry` in
/// pkg/util/goroutinemap/exponentialbackoff).
pub const fn mount_pause(earlier_failures: u32) -> Span {
    let (first, last) = (Span::millis(500), Span::secs(122));
    // The eighth doubling exceeds the longest pause.
    if earlier_failures >= 8 {
        return last;
    }
    Span(first.0 << earlier_failures)
}

/// The pause before KWOK plays a stage of a pod again after this many earlier failures: 1 s, doubled up
/// to 32 min (`defaultBackoff` in pkg/kwok/controllers/utils.go of KWOK v0.8.0), without its jitter of up
/// to 20 %.
pub const fn kwok_pause(earlier_failures: u32) -> Span {
    let (first, last) = (Span::secs(1), Span::secs(1_920));
    if earlier_failures >= 11 {
        return last;
    }
    Span(first.0 << earlier_failures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pauses_between_attempts_to_mount_double_up_to_two_minutes_and_two_seconds() {
        let pauses = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 100].map(|n| mount_pause(n).0 / 1_000_000);
        assert_eq!(
            pauses,
            [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 122_000, 122_000, 122_000]
        );
    }

    #[test]
    fn the_pauses_between_kwoks_attempts_double_up_to_thirty_two_minutes() {
        let pauses = [0, 1, 2, 10, 11, 12, 100].map(|n| kwok_pause(n).0 / 1_000_000_000);
        assert_eq!(pauses, [1, 2, 4, 1_024, 1_920, 1_920, 1_920]);
    }
}
