//! kube-scheduler: one pod at a time through the scheduling cycle, bindings beside it. Facts from
//! pkg/scheduler v1.36.3: the node sample (numFeasibleNodesToFind), the unschedulable pods that a
//! freed node brings back, the separate clients for bindings and events.

use std::collections::VecDeque;

use alertstorm_model::event::Component;
use alertstorm_model::investigation::Stage;
use alertstorm_model::time::{Span, Time};

use crate::agenda::Ev;
use crate::apiserver::{Client, Recorder, Then};
use crate::costs::{self, Op};
use crate::host::Process;
use crate::investigation::{PodPhase, Who};
use crate::pool::{Pool, PoolKind};
use crate::world::World;

/// `minFeasibleNodesToFind`: scoring looks at no more once so many fit.
const FEASIBLE_MAX: usize = 100;

#[derive(Debug)]
pub(crate) struct Scheduler {
    pub active: VecDeque<Who>,
    pub unschedulable: VecDeque<Who>,
    /// A cycle is under way.
    pub busy: bool,
    pub down: bool,
    /// Where the next look at the nodes begins.
    next_node: usize,
    pool: Pool,
    /// When the cycle under way began, and what it costs.
    cycle: (Time, Span),
}

impl Default for Scheduler {
    fn default() -> Self {
        Self {
            active: VecDeque::new(),
            unschedulable: VecDeque::new(),
            busy: false,
            down: false,
            next_node: 0,
            pool: Pool::new(PoolKind::Scheduler, 1),
            cycle: (Time::ZERO, Span::ZERO),
        }
    }
}

impl World<'_> {
    /// The scheduler's informer has a new pod, or room was made for one.
    pub(crate) fn schedule(&mut self, who: Who) {
        let now = self.now();
        if let Some(inv) = self.invs.get_mut(who) {
            inv.queued_at = now;
            inv.joins(&self.scheduler.pool);
            self.scheduler.active.push_back(who);
            self.scheduling_cycle();
        }
    }

    pub(crate) fn scheduling_cycle(&mut self) {
        if self.scheduler.busy || self.scheduler.down {
            return;
        }
        let now = self.now();
        while let Some(who) = self.scheduler.active.pop_front() {
            let Some(inv) = self.invs.get_mut(who).filter(|inv| inv.phase == PodPhase::Pending)
            else {
                continue;
            };
            let waited = now.since(inv.queued_at);
            let cycle = Component::SchedulerCycle;
            inv.taken_by(&self.scheduler.pool, waited, cycle);
            let looked_at = self.nodes.list.len().min(FEASIBLE_MAX) as u64;
            let cost = costs::SCHEDULER_CYCLE + costs::SCHEDULER_NODE * looked_at;
            self.scheduler.busy = true;
            self.scheduler.cycle = (now, cost);
            let event = Ev::CycleDone(who.slot, who.generation);
            self.control_plane_runs(&[(Process::Scheduler, cost)], event, None);
            return;
        }
    }

    pub(crate) fn cycle_done(&mut self, who: Who) {
        self.scheduler.busy = false;
        let now = self.now();
        let (began, cost) = self.scheduler.cycle;
        for (component, span) in [
            (Component::SchedulerCycle, cost),
            (Component::ControlPlaneCpu, now.since(began) - cost),
        ] {
            self.scheduler.pool.blame(component, span);
            self.wait(who, component, span);
        }
        let pending = self.invs.get(who).is_some_and(|inv| inv.phase == PodPhase::Pending);
        if pending {
            match self.nodes.pick(&mut self.scheduler.next_node, FEASIBLE_MAX) {
                Some(node) => {
                    self.nodes.reserve(node);
                    if let Some(inv) = self.invs.get_mut(who) {
                        inv.node = Some(node);
                        if let Some(since) = inv.unschedulable_since.take() {
                            inv.wait(Component::NodeCapacity, now.since(since));
                        }
                    }
                    self.call(Client::Scheduler, Op::BindPod, who, Then::Bound, true);
                }
                None => self.no_room(who),
            }
        }
        self.scheduling_cycle();
    }

    fn no_room(&mut self, who: Who) {
        let now = self.now();
        if let Some(inv) = self.invs.get_mut(who)
            && inv.unschedulable_since.is_none()
        {
            inv.unschedulable_since = Some(now);
            // The pod's condition and a FailedScheduling event, once a pod.
            self.call(Client::Scheduler, Op::PatchPodStatus, who, Then::Nothing, false);
            self.record_event(Recorder::Scheduler, who);
        }
        self.scheduler.unschedulable.push_back(who);
    }

    /// A pod left its node: pods that found no room are tried again, as many as there is room for.
    pub(crate) fn room_made(&mut self) {
        if let Some(who) = self.scheduler.unschedulable.pop_front() {
            self.schedule(who);
        }
    }

    pub(crate) fn bound(&mut self, who: Who) {
        // A pod that was deleted meanwhile is not bound any more.
        if self.invs.get(who).is_none_or(|inv| inv.phase != PodPhase::Pending) {
            return;
        }
        self.stage(who, Stage::PodScheduled);
        self.record_event(Recorder::Scheduler, who);
        self.watchers_see(Ev::PodBound(who.slot, who.generation), who);
    }

    /// The scheduler is back: what waited for it, waited for that.
    pub(crate) fn scheduler_back(&mut self, outage: Span) {
        self.scheduler.down = false;
        self.scheduler.pool.stood_still(Component::SchedulerDown, outage);
        self.scheduling_cycle();
    }
}
