//! What drives a run: the engine in this process, or a fleet of shards in the cluster.

use std::ops::ControlFlow;
use std::time::Duration;

use alertstorm_model::event::Fact;
use alertstorm_model::time::{Span, Time};

use super::host::Run;
use crate::engine::{self, Engine, RunLoop};
use crate::lags::Lags;
use crate::reporter::Inbox;
use crate::shard::fleet::Fleet;
use crate::shard::fleet::merge::Merge;

/// The slack of a fleet's [`RunLoop`]. It is longer than the engine's, as shards may be replaced.
const FLEET_SLACK: Span = Span::secs(1_200);

/// What drives a run.
pub(super) enum Lead<'a> {
    /// The engine in this process.
    Engine(Box<Engine<'a>>),
    /// The merger of the shards' events.
    Fleet(Box<Merge<'a>>),
}

impl Lead<'_> {
    /// Records a fact of the platform with the current time.
    pub fn platform(&mut self, fact: Fact) {
        match self {
            Self::Engine(engine) => engine.platform(fact),
            Self::Fleet(merge) => merge.platform(fact),
        }
    }

    /// Runs to the end; true if `watch` ended it early.
    pub async fn run(
        &mut self,
        inbox: &mut Inbox,
        run: &Run,
        watch: &mut dyn FnMut(Time) -> ControlFlow<()>,
    ) -> bool {
        let interrupted = match self {
            Self::Engine(engine) => {
                let mut run_loop = RunLoop::new(&run.plan, engine::SLACK);
                run_loop.advance(&mut **engine, inbox, run, watch).await
            }
            Self::Fleet(merge) => {
                let mut run_loop = RunLoop::new(&run.plan, FLEET_SLACK);
                let interrupted = run_loop.advance(&mut **merge, inbox, run, watch).await;
                merge.judge_clocks();
                interrupted
            }
        };
        if interrupted {
            self.platform(Fact::Interrupted);
        }
        interrupted
    }

    /// Adds the delays of shards to `lags`; the processor time of shards.
    pub fn of_shards(&self, lags: &Lags) -> Duration {
        match self {
            Self::Engine(_) => Duration::ZERO,
            Self::Fleet(merge) => merge.fleet().add_lags(lags),
        }
    }

    /// Writes the remaining events.
    pub fn close(&mut self, inbox: &mut Inbox, run: &Run) {
        match self {
            Self::Engine(engine) => engine.close(inbox, run),
            Self::Fleet(merge) => merge.close(inbox, run),
        }
    }

    /// The fleet, if there is one.
    pub fn into_fleet(self) -> Option<Fleet> {
        match self {
            Self::Engine(_) => None,
            Self::Fleet(merge) => Some(merge.into_fleet()),
        }
    }
}
