//! The cost budget: dollars a window, with a reserve for each investigation that still runs.

use crate::quantity::Amount;
use crate::scenario::knobs::CostBudget as Knobs;
use crate::time::{Span, Time};

/// All money in millionths of a dollar.
#[derive(Debug)]
pub(super) struct CostBudget {
    limit: u64,
    reserve: u64,
    window: Span,
    /// The window's number since the run's start.
    current: u64,
    spent: u64,
    reserved: u64,
    /// When the budget first refused in the current spell, while it does.
    refusing_since: Option<Time>,
    /// Spells of refusal that ended: the last of them.
    last_refusal: Option<(Time, Time)>,
}

impl CostBudget {
    pub fn new(knobs: &Knobs) -> Self {
        let Amount(reserve) = knobs.reserve_usd;
        Self {
            limit: (knobs.usd.0 * 1e6) as u64,
            reserve: (reserve * 1e6) as u64,
            window: knobs.per,
            current: 0,
            spent: 0,
            reserved: 0,
            refusing_since: None,
            last_refusal: None,
        }
    }

    fn roll(&mut self, now: Time) {
        let window = now.0 / self.window.0;
        if window != self.current {
            self.current = window;
            self.spent = 0;
        }
    }

    /// Sets the reserve aside, if the window has room for it.
    pub fn reserve(&mut self, now: Time) -> Option<u64> {
        self.roll(now);
        if self.spent + self.reserved + self.reserve > self.limit {
            self.refusing_since.get_or_insert(now);
            return None;
        }
        if let Some(since) = self.refusing_since.take() {
            self.last_refusal = Some((since, now));
        }
        self.reserved += self.reserve;
        Some(self.reserve)
    }

    /// Books the cost, and frees what was set aside for it.
    pub fn spend(&mut self, now: Time, reserved: u64, cost: u64) {
        self.roll(now);
        self.reserved -= reserved.min(self.reserved);
        self.spent += cost;
    }

    /// How much of the time between the two the budget refused.
    pub fn wait_within(&self, from: Time, to: Time) -> Span {
        self.last_refusal.map_or(Span::ZERO, |(began, ended)| ended.min(to).since(began.max(from)))
    }

    /// When the next window begins, while the budget refuses.
    pub fn next_window(&self, now: Time) -> Option<Time> {
        self.refusing_since?;
        Some(Time((now.0 / self.window.0 + 1) * self.window.0))
    }
}
