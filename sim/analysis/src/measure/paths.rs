//! The waits of all investigations, summed by component, on the critical path.

use alertstorm_model::event::{Component, Wait};
use alertstorm_model::investigation::Stage;
use alertstorm_model::time::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Sums of the waits on the way to a stage.
#[derive(Clone, Debug)]
struct Path {
    investigations: u64,
    total: Span,
    waits: [Span; Component::COUNT],
}

impl Default for Path {
    fn default() -> Self {
        Self { investigations: 0, total: Span::ZERO, waits: [Span::ZERO; Component::COUNT] }
    }
}

/// The waits of all investigations, on the way to their credentials and to the Job's end.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    ready: Path,
    finished: Path,
}

/// A component's share of the critical path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PathShare {
    /// The component.
    pub component: Component,
    /// Its share of all time from the alert to the end of the path, 0 to 1.
    pub share: f64,
    /// Seconds an investigation, on the mean.
    pub mean_s: f64,
}

impl Paths {
    pub(super) fn add(&mut self, until: Stage, total: Span, waits: &[Wait]) {
        let path = match until {
            Stage::CredentialsReady => &mut self.ready,
            _ => &mut self.finished,
        };
        path.investigations += 1;
        path.total += total;
        for wait in waits {
            path.waits[wait.component.index()] += wait.span;
        }
    }

    /// The path that counts: to the credentials where agents need any, else to the Job's end.
    fn decisive(&self) -> (&Path, Stage) {
        if self.ready.investigations > 0 {
            (&self.ready, Stage::CredentialsReady)
        } else {
            (&self.finished, Stage::JobFinished)
        }
    }

    /// Where the path that counts ends.
    pub fn until(&self) -> Stage {
        self.decisive().1
    }

    /// Shares of the components, the largest first; those without a wait are left out.
    pub fn shares(&self) -> Vec<PathShare> {
        let (path, _) = self.decisive();
        let share = |component: Component| {
            let wait = path.waits[component.index()].as_secs_f64();
            let share = wait / path.total.as_secs_f64().max(1e-9);
            let mean_s = wait / path.investigations.max(1) as f64;
            PathShare { component, share, mean_s }
        };
        let mut shares: Vec<_> = Component::ALL.iter().map(|c| share(*c)).collect();
        shares.retain(|share| share.share > 0.0);
        shares.sort_by(|a, b| b.share.total_cmp(&a.share));
        shares
    }
}
