//! How far the clocks of shards are off. A shard starts its run at an instant of its own node's clock,
//! and all its events have times of that clock, so that an error shifts them against those of this
//! process: leases, tokens, faults and samples. A message gives a bound, whatever it took to arrive: a
//! shard's clock is ahead by at least the time that it claims beyond this clock at the receipt, and
//! behind by at least the time that this clock claimed at the sending beyond the shard's at the receipt.

use std::collections::BTreeMap;

use alertstorm_model::time::{Span, Time};

/// Beyond this, the figures that compare times of shards with times of this process are wrong. Alerts
/// of the plan may be sent as late (see the bound of the send lag).
pub const SKEW_MAX: Span = Span::millis(250);

/// What is certain about the clock of a pod, in ns: how far it is ahead.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    at_least: i64,
    at_most: i64,
}

/// The clocks of shards' pods.
#[derive(Debug, Default)]
pub struct Clocks(BTreeMap<(u32, String), Bounds>);

impl Clocks {
    fn of(&mut self, shard: u32, pod: &str) -> &mut Bounds {
        let unknown = Bounds { at_least: i64::MIN, at_most: i64::MAX };
        self.0.entry((shard, pod.to_owned())).or_insert(unknown)
    }

    /// A message that the pod sent at `sent` by its clock was received at `received` by this one.
    pub fn received(&mut self, shard: u32, pod: &str, sent: Time, received: Time) {
        let bounds = self.of(shard, pod);
        bounds.at_least = bounds.at_least.max(difference(sent.0, received.0));
    }

    /// A message that was sent at `sent` by this clock was read at `read` by the pod's.
    pub fn was_read(&mut self, shard: u32, pod: &str, sent: u64, read: u64) {
        let bounds = self.of(shard, pod);
        bounds.at_most = bounds.at_most.min(difference(read, sent));
    }

    /// A line for each clock that is off beyond [`SKEW_MAX`] for certain.
    pub fn wrong(&self) -> Vec<String> {
        let beyond = |(shard, pod): &(u32, String), by: i64, how: &str| {
            let by = Span(by.unsigned_abs());
            format!(
                "the clock of shard {shard} ({pod}) is at least {by} {how}, and the bound is {SKEW_MAX}: \
                 exposures of leases and tokens, effects of faults and the series of samples compare \
                 times of different clocks"
            )
        };
        let max = SKEW_MAX.0 as i64;
        let line = |(key, bounds): (&(u32, String), &Bounds)| match *bounds {
            Bounds { at_least, .. } if at_least > max => Some(beyond(key, at_least, "ahead")),
            Bounds { at_most, .. } if at_most < -max => Some(beyond(key, at_most, "behind")),
            _ => None,
        };
        self.0.iter().filter_map(line).collect()
    }

    /// How far the clocks can be off, from the bounds of all pods; none if one has no bounds.
    pub fn largest(&self) -> Option<Span> {
        let largest = |bounds: &Bounds| {
            let known = bounds.at_least != i64::MIN && bounds.at_most != i64::MAX;
            known.then(|| bounds.at_least.unsigned_abs().max(bounds.at_most.unsigned_abs()))
        };
        let all: Option<Vec<u64>> = self.0.values().map(largest).collect();
        all?.into_iter().max().map(Span)
    }
}

/// The difference of two times in ns, limited to what fits.
fn difference(of: u64, to: u64) -> i64 {
    i64::try_from(i128::from(of) - i128::from(to)).unwrap_or(if of > to {
        i64::MAX
    } else {
        i64::MIN
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// The clocks of one pod whose clock is ahead by `skew` ms, with messages that take 40 to 90 ms.
    fn clocks(skew: i64) -> Clocks {
        let mut clocks = Clocks::default();
        let of_pod = |at: u64| at.saturating_add_signed(skew * 1_000_000);
        let ms = |n: u64| n * 1_000_000;
        clocks.was_read(2, "pod-2", 90 * SECOND, of_pod(90 * SECOND + ms(90)));
        for (at, delay) in [(100, 70), (102, 40), (104, 55)] {
            let received = Time(at * SECOND + ms(delay));
            clocks.received(2, "pod-2", Time(of_pod(at * SECOND)), received);
        }
        clocks
    }

    #[test]
    fn a_clock_beyond_the_bound_is_named_with_its_shard_and_its_direction() {
        for (skew, how) in [(900, "at least 860 ms ahead"), (-900, "at least 810 ms behind")] {
            let wrong = clocks(skew).wrong();
            assert_eq!(wrong.len(), 1, "{wrong:?}");
            assert!(wrong[0].contains("shard 2 (pod-2)") && wrong[0].contains(how), "{wrong:?}");
        }
    }

    #[test]
    fn the_delays_of_messages_alone_do_not_make_a_clock_wrong() {
        for skew in [-200, 0, 200] {
            assert!(clocks(skew).wrong().is_empty(), "{skew}");
        }
        assert_eq!(clocks(0).largest(), Some(Span::millis(90)));
        let mut unread = Clocks::default();
        unread.received(0, "pod-0", Time(1), Time(2));
        assert_eq!(unread.largest(), None, "nothing is certain in one direction");
    }
}
