//! kube-scheduler: scheduling cycles one at a time, bindings in parallel. Facts from
//! pkg/scheduler v1.36.3: the node sample (numFeasibleNodesToFind), the unschedulable pods that a
//! freed node brings back, the separate clients for bindings and events.

use std::collections::VecDeque;

use alertstorm_model::event::Component;
use alertstorm_model::investigation::Stage;
use alertstorm_model::time::{Span, Time};

use crate::agenda::Ev;
use crate::arena::Key;
use crate::call::{Client, Recorder, Then};
use crate::costs::{self, Op};
use crate::host::Process;
use crate::investigation::Inv;
use crate::nodes::Nodes;
use crate::pool::{Pool, PoolKind};
use crate::world::World;

/// `minFeasibleNodesToFind`: filtering stops once so many nodes fit.
const FEASIBLE_MAX: usize = 100;

#[derive(Debug)]
pub(crate) struct Scheduler {
    active: VecDeque<Key<Inv>>,
    unschedulable: VecDeque<Key<Inv>>,
    /// A cycle is under way.
    busy: bool,
    down: bool,
    /// The node at which the next search begins.
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

impl Scheduler {
    /// Pods in the active queue.
    pub fn depth(&self) -> usize {
        self.active.len()
    }

    pub fn unschedulable(&self) -> usize {
        self.unschedulable.len()
    }

    pub const fn stop(&mut self) {
        self.down = true;
    }

    /// Begins a cycle; returns its processor time.
    fn begin_cycle(&mut self, now: Time, nodes: usize) -> Span {
        let filtered = nodes.min(FEASIBLE_MAX) as u64;
        let cost = costs::SCHEDULER_CYCLE + costs::SCHEDULER_NODE * filtered;
        self.busy = true;
        self.cycle = (now, cost);
        cost
    }

    /// Ends the cycle; returns what it spent its time on.
    fn end_cycle(&mut self, now: Time) -> [(Component, Span); 2] {
        self.busy = false;
        let (began, cost) = self.cycle;
        let spent = [
            (Component::SchedulerCycle, cost),
            (Component::ControlPlaneCpu, now.since(began) - cost),
        ];
        for (component, span) in spent {
            self.pool.blame(component, span);
        }
        spent
    }

    /// Picks a node and reserves room on it.
    fn pick(&mut self, nodes: &mut Nodes) -> Option<u32> {
        let node = nodes.pick(&mut self.next_node, FEASIBLE_MAX)?;
        nodes.reserve(node);
        Some(node)
    }
}

impl World<'_> {
    /// A pod joins the active queue: it is new, or a node may fit that did not before.
    pub(crate) fn enqueue_pod(&mut self, who: Key<Inv>) {
        let now = self.now();
        if let Some(inv) = self.invs.get_mut(who) {
            inv.pod.enqueue(now);
            inv.path.join(&self.scheduler.pool);
            self.scheduler.active.push_back(who);
            self.start_cycle();
        }
    }

    fn start_cycle(&mut self) {
        if self.scheduler.busy || self.scheduler.down {
            return;
        }
        let now = self.now();
        while let Some(who) = self.scheduler.active.pop_front() {
            let Some(inv) = self.invs.get_mut(who).filter(|inv| inv.pod.is_pending()) else {
                continue;
            };
            let waited = inv.pod.queued_for(now);
            inv.path.taken_by(&self.scheduler.pool, waited, Component::SchedulerCycle);
            let cost = self.scheduler.begin_cycle(now, self.nodes.len());
            self.schedule_on_control_plane(&[(Process::Scheduler, cost)], Ev::CycleDone(who), None);
            return;
        }
    }

    pub(crate) fn on_cycle_done(&mut self, who: Key<Inv>) {
        let now = self.now();
        for (component, span) in self.scheduler.end_cycle(now) {
            self.wait(who, component, span);
        }
        if let Some(inv) = self.invs.get_mut(who).filter(|inv| inv.pod.is_pending()) {
            match self.scheduler.pick(&mut self.nodes) {
                Some(node) => {
                    let unschedulable = inv.pod.assign(node, now);
                    inv.wait(Component::NodeCapacity, unschedulable);
                    self.call(Client::Scheduler, Op::BindPod, Then::Bound(who), Some(who));
                }
                None => self.park_pod(who),
            }
        }
        self.start_cycle();
    }

    fn park_pod(&mut self, who: Key<Inv>) {
        let now = self.now();
        if self.invs.get_mut(who).is_some_and(|inv| inv.pod.mark_unschedulable(now)) {
            // The pod's condition and a FailedScheduling event, once a pod.
            self.call(Client::Scheduler, Op::PatchPodStatus, Then::Nothing, None);
            self.record_event(Recorder::Scheduler);
        }
        self.scheduler.unschedulable.push_back(who);
    }

    /// A node got room for a pod: one unschedulable pod is tried again.
    pub(crate) fn retry_unschedulable(&mut self) {
        if let Some(who) = self.scheduler.unschedulable.pop_front() {
            self.enqueue_pod(who);
        }
    }

    pub(crate) fn on_bound(&mut self, who: Key<Inv>) {
        // A pod that was deleted meanwhile is not bound.
        if self.invs.get(who).is_some_and(|inv| inv.pod.is_pending()) {
            self.stage(who, Stage::PodScheduled);
            self.record_event(Recorder::Scheduler);
            self.notify_watchers(Ev::PodBound(who), who);
        }
    }

    /// The outage is over; pods in the queue waited for that.
    pub(crate) fn restart_scheduler(&mut self, outage: Span) {
        self.scheduler.down = false;
        self.scheduler.pool.stood_still(Component::SchedulerDown, outage);
        self.start_cycle();
    }
}
