//! The bounded priority queue: by severity and age within a domain, by turns between domains.

use std::collections::VecDeque;

use crate::alert::Alert;
use crate::investigation::{Domain, InvestigationId, Severity};
use crate::scenario::knobs::{Queue as Knobs, QueueOrder};
use crate::time::{Span, Time};

/// One lane for each domain and severity, each in the order of coming.
#[derive(Debug)]
pub(super) struct Queue {
    lanes: [[VecDeque<(Time, Alert)>; Severity::COUNT]; Domain::COUNT],
    len: usize,
    limit: usize,
    /// How much earlier an alert counts for each step of severity.
    step: Span,
    /// Turns that a domain has had; the least goes next.
    turns: [u64; Domain::COUNT],
}

impl Queue {
    pub fn new(knobs: &Knobs) -> Self {
        let step = match knobs.order {
            QueueOrder::Severity => knobs.aging,
            QueueOrder::Age => Span::ZERO,
        };
        Self {
            lanes: Default::default(),
            len: 0,
            limit: knobs.limit.get() as usize,
            step,
            turns: [0; Domain::COUNT],
        }
    }

    pub const fn len(&self) -> usize {
        self.len
    }

    pub const fn is_full(&self) -> bool {
        self.len >= self.limit
    }

    pub fn contains(&self, id: InvestigationId) -> bool {
        self.lanes.iter().flatten().flatten().any(|(_, alert)| alert.id == id)
    }

    pub fn push(&mut self, now: Time, alert: Alert) {
        let domain = alert.domain.index();
        if self.lanes[domain].iter().all(VecDeque::is_empty) {
            // A domain that had nothing to do gets no credit for it.
            let busy = |d: &usize| self.lanes[*d].iter().any(|lane| !lane.is_empty());
            let least = (0..Domain::COUNT).filter(busy).map(|d| self.turns[d]).min();
            self.turns[domain] = self.turns[domain].max(least.unwrap_or(0));
        }
        self.lanes[domain][alert.severity.index()].push_back((now, alert));
        self.len += 1;
    }

    /// The next alert and when it was queued.
    pub fn pop(&mut self) -> Option<(Alert, Time)> {
        let busy = |d: &usize| self.lanes[*d].iter().any(|lane| !lane.is_empty());
        let turns = self.turns;
        // Between domains with as many turns, the more urgent head goes first.
        let domain = (0..Domain::COUNT)
            .filter(busy)
            .min_by_key(|d| (turns[*d], self.head(*d).map(|(_, key)| key)))?;
        let (severity, _) = self.head(domain)?;
        let (queued, alert) = self.lanes[domain][severity].pop_front()?;
        self.turns[domain] += 1;
        self.len -= 1;
        Some((alert, queued))
    }

    /// The severity whose first alert goes next in a domain, and how urgent that is: the instant
    /// of its coming, put off by a step for each severity below the highest.
    fn head(&self, domain: usize) -> Option<(usize, u64)> {
        let lanes = self.lanes[domain].iter().enumerate();
        let first = |(severity, lane): (usize, &VecDeque<(Time, Alert)>)| {
            let at = lane.front()?.0;
            Some((severity, at.0.saturating_add(self.step.0.saturating_mul(severity as u64))))
        };
        lanes.filter_map(first).min_by_key(|(severity, key)| (*key, *severity))
    }

    /// Makes room for `new`: removes and returns the least severe alert of all, `new` among them;
    /// of the domain with the most such; the youngest.
    pub fn make_room_for(&mut self, new: &Alert) -> Option<Alert> {
        let lowest = (0..Severity::COUNT)
            .rev()
            .find(|severity| self.lanes.iter().any(|lanes| !lanes[*severity].is_empty()))?;
        if new.severity.index() >= lowest {
            return Some(*new);
        }
        let longest = (0..Domain::COUNT).max_by_key(|d| self.lanes[*d][lowest].len())?;
        let (_, worst) = self.lanes[longest][lowest].pop_back()?;
        self.len -= 1;
        Some(worst)
    }

    /// Whether something at least as urgent as `severity` waits.
    pub fn holds_below(&self, severity: Severity) -> bool {
        self.lanes.iter().any(|lanes| lanes[severity.index() + 1..].iter().any(|l| !l.is_empty()))
    }

    pub fn remove(&mut self, id: InvestigationId) -> Option<Alert> {
        for lane in self.lanes.iter_mut().flatten() {
            if let Some(at) = lane.iter().position(|(_, alert)| alert.id == id) {
                self.len -= 1;
                return lane.remove(at).map(|(_, alert)| alert);
            }
        }
        None
    }
}
