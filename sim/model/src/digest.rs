//! Digests: 32 hex digits of an event log, 16 of a plan. The same seed and plan give the same digests on
//! every machine.
//!
//! ```
//! use alertstorm_model::digest::Digest;
//! use alertstorm_model::event::{Event, Fact};
//! use alertstorm_model::time::Time;
//!
//! let mut digest = Digest::default();
//! digest.fold(&Event::platform(Time::ZERO, Fact::Interrupted));
//! assert_eq!(digest.events(), 1);
//! assert_eq!(digest.hex().len(), 32);
//! ```

use std::hash::{Hash, Hasher};

use serde_json::Value;
use twox_hash::XxHash3_128;

/// Folds events into one number, in their order.
pub struct Digest {
    state: XxHash3_128,
    buffer: Vec<u8>,
    events: u64,
}

/// Hands every primitive to the buffer in little-endian bytes, so that no platform differs.
struct Portable<'a>(&'a mut Vec<u8>);

impl Hasher for Portable<'_> {
    fn finish(&self) -> u64 {
        0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
    fn write_u32(&mut self, n: u32) {
        self.write(&n.to_le_bytes());
    }
    fn write_u64(&mut self, n: u64) {
        self.write(&n.to_le_bytes());
    }
    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }
    fn write_isize(&mut self, n: isize) {
        self.write_u64(n as u64);
    }
}

impl Default for Digest {
    fn default() -> Self {
        Self { state: XxHash3_128::new(), buffer: Vec::with_capacity(1 << 14), events: 0 }
    }
}

impl Digest {
    /// Folds one event in.
    pub fn fold(&mut self, event: &impl Hash) {
        event.hash(&mut Portable(&mut self.buffer));
        self.events += 1;
        if self.buffer.len() >= 1 << 13 {
            self.state.write(&self.buffer);
            self.buffer.clear();
        }
    }

    /// How many events were folded in.
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// The digest so far, as 32 hex digits.
    pub fn hex(&self) -> String {
        let mut state = self.state.clone();
        state.write(&self.buffer);
        format!("{:032x}", state.finish_128())
    }
}

/// JSON with its keys in their order, whether or not another crate of the build has asked serde_json
/// to keep the order in which they came.
pub fn canonical(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(String, Value)> = map.into_iter().collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            entries.into_iter().map(|(key, value)| (key, canonical(value))).collect()
        }
        Value::Array(items) => items.into_iter().map(canonical).collect(),
        scalar => scalar,
    }
}

/// The canonical JSON of a thing, for its digest.
pub fn json_of<T: serde::Serialize>(thing: &T) -> String {
    canonical(value_of(thing)).to_string()
}

/// The JSON of a thing whose maps have keys of text.
///
/// # Panics
/// Where a map has other keys.
pub(crate) fn value_of<T: serde::Serialize>(thing: &T) -> Value {
    serde_json::to_value(thing).expect("keys of text")
}

/// The digest of a text, as 16 hex digits: names plans and profiles.
pub fn of_text(text: &str) -> String {
    format!("{:016x}", XxHash3_128::oneshot(text.as_bytes()) as u64)
}
