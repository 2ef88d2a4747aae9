//! An entry of the engine's reordering buffer.

use alertstorm_model::event::Event;
use alertstorm_model::time::Time;

/// An event: ordered by time, then by arrival.
#[derive(Debug)]
pub(super) struct Held(pub Time, pub u64, pub Event);

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Held {}
impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Held {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}
