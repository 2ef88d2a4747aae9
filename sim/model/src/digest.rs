//! Digests (xxHash3): 32 hex digits for an event log, 16 for a plan. The same plan and seed give the
//! same digests on every machine.
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

/// The digest of an event log, updated event by event. It depends on their order.
pub struct Digest {
    state: XxHash3_128,
    buffer: Vec<u8>,
    events: u64,
}

/// Writes integers as little-endian bytes, independent of the machine.
struct Portable<'a>(&'a mut Vec<u8>);

// Inlined where an event is hashed, which is in the crates that fold events.
impl Hasher for Portable<'_> {
    #[inline]
    fn finish(&self) -> u64 {
        0
    }
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
    #[inline]
    fn write_u32(&mut self, n: u32) {
        self.write(&n.to_le_bytes());
    }
    #[inline]
    fn write_u64(&mut self, n: u64) {
        self.write(&n.to_le_bytes());
    }
    #[inline]
    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }
    #[inline]
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
    /// Adds an event.
    pub fn fold(&mut self, event: &impl Hash) {
        event.hash(&mut Portable(&mut self.buffer));
        self.events += 1;
        if self.buffer.len() >= 1 << 13 {
            self.state.write(&self.buffer);
            self.buffer.clear();
        }
    }

    /// Number of events added.
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// The digest of the events added so far, as 32 hex digits.
    pub fn hex(&self) -> String {
        let mut state = self.state.clone();
        state.write(&self.buffer);
        format!("{:032x}", state.finish_128())
    }
}

/// JSON with sorted keys, even if another crate of the build enables serde_json's feature
/// `preserve_order`.
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

/// The JSON of a value with sorted keys, as input of [`of_text`].
pub fn json_of<T: serde::Serialize>(thing: &T) -> String {
    canonical(value_of(thing)).to_string()
}

/// The JSON of a value.
///
/// # Panics
/// If a map has keys that are not text.
pub(crate) fn value_of<T: serde::Serialize>(thing: &T) -> Value {
    serde_json::to_value(thing).expect("keys of text")
}

/// The digest of a text, as 16 hex digits; for plans and profiles.
pub fn of_text(text: &str) -> String {
    format!("{:016x}", XxHash3_128::oneshot(text.as_bytes()) as u64)
}
