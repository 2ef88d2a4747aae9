//! The state that the measures keep of an investigation between its alert and its Job's collection.

use alertstorm_model::investigation::{Outcome, Stage};
use alertstorm_model::time::{Span, Time};

/// An investigation whose Job is not finished.
#[derive(Clone, Debug)]
pub(super) struct Open {
    /// The instant of each stage; [`Time::NEVER`] for stages that are not reached.
    pub at: [Time; Stage::COUNT],
    /// The first request that creates the Job; [`Time::NEVER`] before it.
    pub sent: Time,
    pub outcome: Option<Outcome>,
    /// When the agent's process ended; [`Time::NEVER`] before it.
    pub ended_at: Time,
    pub cost_micro_usd: u64,
}

impl Open {
    pub fn of_alert(intended: Time) -> Self {
        let mut at = [Time::NEVER; Stage::COUNT];
        at[Stage::Alert.index()] = intended;
        Self { at, sent: Time::NEVER, outcome: None, ended_at: Time::NEVER, cost_micro_usd: 0 }
    }

    pub fn reached(&self, stage: Stage) -> Option<Time> {
        Some(self.at[stage.index()]).filter(|at| *at != Time::NEVER)
    }

    /// Whether the Job ended before its agent ran, or at its deadline before the agent had its
    /// credentials, and this is no outcome of its own.
    pub fn never_started(&self) -> bool {
        let reached = |stage| self.reached(stage).is_some();
        let ran = [Stage::PodRunning, Stage::VaultLogin, Stage::AgentDone].into_iter().any(reached);
        match self.outcome {
            Some(Outcome::DeadlineExceeded) => {
                !ran || reached(Stage::VaultLogin) && !reached(Stage::CredentialsReady)
            }
            Some(Outcome::Crashed | Outcome::OomKilled) => !ran,
            _ => false,
        }
    }

    /// Upper bound of the agent's working time until `now`. It may have started before its pod was
    /// reported as Running, but not before the pod had a node.
    pub fn agent_time(&self, now: Time) -> Span {
        let Some(placed) = self.reached(Stage::PodScheduled) else { return Span::ZERO };
        let end = self.reached(Stage::AgentDone).unwrap_or(self.ended_at.min(now));
        end.since(placed)
    }
}

/// An investigation whose Job is finished and not collected.
#[derive(Clone, Copy, Debug)]
pub(super) struct Uncollected {
    pub alert: Time,
    pub finished: Time,
}
