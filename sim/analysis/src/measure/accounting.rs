//! Alerts by final state.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Every alert in exactly one of `deduplicated`, `shed`, `finished` and `unfinished`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Accounting {
    /// Alerts received by the controller.
    pub alerts: u64,
    /// Alerts that repeat one under investigation; they start no investigation of their own.
    pub deduplicated: u64,
    /// Alerts that the controller rejected and that were not delivered again.
    pub shed: u64,
    /// Investigations with an outcome.
    pub finished: u64,
    /// Investigations without an outcome when the run ended; 0 until the measures are closed.
    pub unfinished: u64,
}

impl Accounting {
    /// Alerts that were not duplicates: the denominator of every share.
    pub const fn wanted(&self) -> u64 {
        self.alerts.saturating_sub(self.deduplicated)
    }

    /// `n` of them as a share; `None` without any.
    pub fn share(&self, n: u64) -> Option<f64> {
        (self.wanted() > 0).then(|| n as f64 / self.wanted() as f64)
    }

    /// Whether alerts = deduplicated + shed + finished + unfinished.
    pub const fn balances(&self) -> bool {
        self.alerts == self.deduplicated + self.shed + self.finished + self.unfinished
    }
}

/// Alerts that were not duplicates, and of which no agent could begin or finish its work because of the
/// platform, by reason. Each alert has one reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NotInvestigated {
    /// Alerts that were shed.
    pub shed: u64,
    /// Investigations without an outcome when the run ended.
    pub unfinished: u64,
    /// Vault issued no token or no credential in time.
    pub without_vault: u64,
    /// The pod's node was lost, or the pod was deleted from outside.
    pub evicted: u64,
    /// The Job ended before its agent ran, or at its deadline before the agent had its credentials.
    pub never_started: u64,
}

impl NotInvestigated {
    /// The reasons with at least one alert.
    pub fn reasons(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let all = [
            ("shed", self.shed),
            ("unfinished", self.unfinished),
            ("without Vault", self.without_vault),
            ("evicted", self.evicted),
            ("never started", self.never_started),
        ];
        all.into_iter().filter(|(_, count)| *count > 0)
    }

    /// Sum over the reasons.
    pub fn total(&self) -> u64 {
        self.reasons().map(|(_, count)| count).sum()
    }
}
