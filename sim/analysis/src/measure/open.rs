//! The state that the measures keep of an investigation between its alert and its Job's collection.

use alertstorm_model::investigation::{Outcome, Stage};
use alertstorm_model::time::Time;

/// An investigation whose Job is not finished.
#[derive(Clone, Debug)]
pub(super) struct Open {
    /// The instant of each stage; [`Time::NEVER`] for stages that are not reached.
    pub at: [Time; Stage::COUNT],
    /// The first request that creates the Job; [`Time::NEVER`] before it.
    pub sent: Time,
    pub outcome: Option<Outcome>,
    pub cost_micro_usd: u64,
}

impl Open {
    pub fn of_alert(intended: Time) -> Self {
        let mut at = [Time::NEVER; Stage::COUNT];
        at[Stage::Alert.index()] = intended;
        Self { at, sent: Time::NEVER, outcome: None, cost_micro_usd: 0 }
    }

    pub fn reached(&self, stage: Stage) -> Option<Time> {
        Some(self.at[stage.index()]).filter(|at| *at != Time::NEVER)
    }
}

/// An investigation whose Job is finished and not collected.
#[derive(Clone, Copy, Debug)]
pub(super) struct Uncollected {
    pub alert: Time,
    pub finished: Time,
}
