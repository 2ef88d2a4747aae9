//! KWOK with its `fast` stages in place of kubelets: a bound pod is patched to Running, and then to
//! its end, by a bounded number of workers that play one stage each.

use std::collections::VecDeque;

use alertstorm_model::event::Component;
use alertstorm_model::investigation::{Outcome, Stage};
use alertstorm_model::kubelet::KWOK_PARALLELISM;
use alertstorm_model::scenario::knobs::NodeRuntime;
use alertstorm_model::time::{Span, Time};

use crate::agenda::Ev;
use crate::arena::Key;
use crate::call::{Client, KwokStage, Then};
use crate::costs::Op;
use crate::investigation::Inv;
use crate::pool::{Pool, PoolKind};
use crate::world::World;

#[derive(Debug)]
pub(crate) struct Kwok {
    /// With the time at which the stage became due.
    waiting: VecDeque<(Key<Inv>, KwokStage, Time)>,
    pool: Pool,
}

impl Default for Kwok {
    fn default() -> Self {
        let pool = Pool::new(PoolKind::Kwok, KWOK_PARALLELISM);
        Self { waiting: VecDeque::new(), pool }
    }
}

impl Kwok {
    /// A worker was held up by `component`.
    pub fn blame(&mut self, component: Component, wait: Span) {
        self.pool.blame(component, wait);
    }

    /// A worker takes the next stage, if one is idle and one waits.
    fn next(&mut self) -> Option<(Key<Inv>, KwokStage, Time)> {
        if !self.pool.has_idle() {
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.pool.take();
        Some(next)
    }
}

impl World<'_> {
    pub(crate) fn queue_stage(&mut self, who: Key<Inv>, stage: KwokStage) {
        let since = self.now();
        if let Some(inv) = self.invs.get_mut(who) {
            inv.path.join(&self.kwok.pool);
        }
        self.kwok.waiting.push_back((who, stage, since));
        self.play_stages();
    }

    fn play_stages(&mut self) {
        while let Some((who, stage, since)) = self.kwok.next() {
            let waited = self.now().since(since);
            if let Some(inv) = self.invs.get_mut(who) {
                inv.path.taken_by(&self.kwok.pool, waited, Component::PodStart);
            }
            self.call(Client::Kwok, Op::PatchPodStatus, Then::Kwok(who, stage), Some(who));
        }
    }

    /// The stage's patch is answered; KWOK's own watch triggers the pod's next stage.
    pub(crate) fn on_stage_played(&mut self, who: Key<Inv>, stage: KwokStage) {
        self.kwok.pool.give_back();
        if let Some(inv) = self.invs.get_mut(who) {
            match stage {
                KwokStage::Complete => {
                    inv.pod.end_reported();
                    self.end(who, Outcome::Resolved);
                    self.leave_node(who);
                    self.notify_watchers(Ev::PodEndSeen(who), who);
                }
                KwokStage::Run => {
                    inv.pod.run_reported();
                    self.stage(who, Stage::PodRunning);
                    self.notify_watchers(Ev::PodRunningSeen(who), who);
                }
            }
        }
        self.play_stages();
    }

    pub(crate) fn on_running_observed(&mut self, who: Key<Inv>) {
        if self.plan.scenario().cluster.node.runtime == NodeRuntime::Kwok {
            self.queue_stage(who, KwokStage::Complete);
        }
    }
}
