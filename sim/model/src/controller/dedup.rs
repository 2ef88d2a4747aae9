//! Deduplication: an alert with a fingerprint seen within the window is the same alert.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use crate::alert::Alert;
use crate::investigation::InvestigationId;
use crate::time::{Span, Time};

#[derive(Debug)]
pub(super) struct Dedup {
    window: Span,
    known: FxHashMap<u64, (InvestigationId, Time)>,
    /// Fingerprints in the order in which their windows end.
    ends: VecDeque<(Time, u64)>,
}

impl Dedup {
    pub fn new(window: Span) -> Self {
        Self { window, known: FxHashMap::default(), ends: VecDeque::new() }
    }

    /// The investigation that covers the alert, if one does.
    pub fn covers(&mut self, now: Time, alert: &Alert) -> Option<InvestigationId> {
        while let Some((_, fingerprint)) = self.ends.front().filter(|(end, _)| *end <= now) {
            let over = self.known.get(fingerprint).is_some_and(|(_, end)| *end <= now);
            if over {
                self.known.remove(fingerprint);
            }
            self.ends.pop_front();
        }
        self.known.get(&alert.fingerprint).map(|(id, _)| *id)
    }

    pub fn remember(&mut self, now: Time, alert: &Alert) {
        if self.window.0 > 0 {
            let end = now + self.window;
            self.known.insert(alert.fingerprint, (alert.id, end));
            self.ends.push_back((end, alert.fingerprint));
        }
    }

    /// The alert was turned away: its repeats are not covered.
    pub fn forget(&mut self, alert: &Alert) {
        if self.known.get(&alert.fingerprint).is_some_and(|(id, _)| *id == alert.id) {
            self.known.remove(&alert.fingerprint);
        }
    }
}
