//! KWOK with its `fast` stages in place of kubelets: a bound pod is patched to Running, and then to
//! its end, by a bounded number of workers that play one stage each.

use std::collections::VecDeque;

use alertstorm_model::event::Component;
use alertstorm_model::investigation::{Outcome, Stage};
use alertstorm_model::scenario::knobs::NodeRuntime;
use alertstorm_model::time::Time;

use crate::agenda::Ev;
use crate::apiserver::{Client, Then};
use crate::costs::{self, Op};
use crate::investigation::{PodPhase, Who};
use crate::pool::{Pool, PoolKind};
use crate::world::World;

/// KWOK: pods' stages, as many at once as it has workers.
#[derive(Debug)]
pub(crate) struct Kwok {
    /// Whose stage, whether it is the completing one, and since when it waits.
    waiting: VecDeque<(Who, bool, Time)>,
    pub pool: Pool,
}

impl Default for Kwok {
    fn default() -> Self {
        let pool = Pool::new(PoolKind::Kwok, costs::KWOK_PARALLELISM);
        Self { waiting: VecDeque::new(), pool }
    }
}

impl World<'_> {
    /// KWOK plays a stage of so many pods at once.
    pub(crate) fn kwok_queue(&mut self, who: Who, complete: bool) {
        let since = self.now();
        if let Some(inv) = self.invs.get_mut(who) {
            inv.joins(&self.kwok.pool);
        }
        self.kwok.waiting.push_back((who, complete, since));
        self.kwok_play();
    }

    fn kwok_play(&mut self) {
        while self.kwok.pool.idle > 0 {
            let Some((who, complete, since)) = self.kwok.waiting.pop_front() else { return };
            self.kwok.pool.idle -= 1;
            let waited = self.now().since(since);
            if let Some(inv) = self.invs.get_mut(who) {
                inv.taken_by(&self.kwok.pool, waited, Component::PodStart);
            }
            let then = Then::Kwok { complete };
            self.call(Client::Kwok, Op::PatchPodStatus, who, then, true);
        }
    }

    /// KWOK's stage is played: its own watch brings the next.
    pub(crate) fn kwok_played(&mut self, who: Who, complete: bool) {
        self.kwok.pool.idle += 1;
        if let Some(inv) = self.invs.get_mut(who) {
            if complete {
                inv.phase = PodPhase::Ended;
                inv.status_phase = PodPhase::Ended;
                self.end(who, Outcome::Resolved);
                self.leave_node(who);
                self.watchers_see(Ev::PodEndSeen(who.slot, who.generation), who);
            } else {
                inv.status_phase = PodPhase::Running;
                inv.reached_running = true;
                self.stage(who, Stage::PodRunning);
                self.watchers_see(Ev::PodRunningSeen(who.slot, who.generation), who);
            }
        }
        self.kwok_play();
    }

    pub(crate) fn kwok_sees_running(&mut self, who: Who) {
        if self.plan.scenario().cluster.node.runtime == NodeRuntime::Kwok {
            self.kwok_queue(who, true);
        }
    }
}
