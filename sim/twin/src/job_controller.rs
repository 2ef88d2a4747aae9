//! The Job controller of kube-controller-manager, after pkg/controller/job/job_controller.go
//! v1.36.3: a work queue that merges repeated additions, sync workers, one client bucket for
//! their calls and their events, and a sync that makes one call after the other.
//!
//! A Job of one pod that ends at once costs seven calls. In the first sync: create the pod, update
//! the status (active). In the second: update the status (SuccessCriteriaMet, uncounted pods),
//! patch the finalizer away, update the status (Complete). Two more are events, which a single
//! recorder sends one after the other through the same bucket; they trail behind the workers.

use std::collections::VecDeque;

use alertstorm_model::event::{Component, Fact};
use alertstorm_model::investigation::{Outcome, Stage};
use alertstorm_model::time::Span;

use crate::agenda::Ev;
use crate::arena::Key;
use crate::call::{Client, Recorder, Then};
use crate::investigation::Inv;
use crate::job::SyncStep;
use crate::pod::PodPhase;
use crate::pool::{Pool, PoolKind};
use crate::world::World;

/// `syncJobBatchPeriod`: syncs that pods and statuses ask for wait this long for others.
const SYNC_BATCH: Span = Span::secs(1);

#[derive(Debug)]
pub(crate) struct JobController {
    queue: VecDeque<Key<Inv>>,
    pool: Pool,
    /// With the whole controller manager.
    down: bool,
}

impl JobController {
    pub const fn new(workers: u32) -> Self {
        Self {
            queue: VecDeque::new(),
            pool: Pool::new(PoolKind::JobController, workers),
            down: false,
        }
    }

    pub fn depth(&self) -> usize {
        self.queue.len()
    }

    pub const fn is_down(&self) -> bool {
        self.down
    }

    pub const fn stop(&mut self) {
        self.down = true;
    }

    /// The outage is over; Jobs in the queue waited for that.
    pub fn start(&mut self, outage: Span) {
        self.down = false;
        self.pool.stood_still(Component::ControllerManagerDown, outage);
    }

    /// A worker was held up by `component`.
    pub fn blame(&mut self, component: Component, wait: Span) {
        self.pool.blame(component, wait);
    }

    fn can_take(&self) -> bool {
        self.pool.has_idle() && !self.down
    }
}

impl World<'_> {
    /// `queue.AddAfter`.
    fn enqueue_job_after(&mut self, who: Key<Inv>, after: Span) {
        let at = self.now() + after;
        if self.invs.get_mut(who).is_some_and(|inv| inv.job.add_at(at)) {
            self.engine.at(at, Ev::JobDue(who));
        }
    }

    pub(crate) fn on_job_due(&mut self, who: Key<Inv>) {
        let now = self.now();
        if self.invs.get_mut(who).is_some_and(|inv| inv.job.take_due(now)) {
            self.enqueue_job(who);
        }
    }

    fn enqueue_job(&mut self, who: Key<Inv>) {
        let now = self.now();
        let Some(inv) = self.invs.get_mut(who) else {
            return;
        };
        if inv.job.enqueue(now) {
            inv.path.join(&self.jobs.pool);
            self.jobs.queue.push_back(who);
            self.run_job_workers();
        }
    }

    /// Idle workers take Jobs off the queue.
    pub(crate) fn run_job_workers(&mut self) {
        while self.jobs.can_take() {
            let Some(who) = self.jobs.queue.pop_front() else {
                return;
            };
            let now = self.now();
            let Some(inv) = self.invs.get_mut(who) else {
                continue;
            };
            self.jobs.pool.take();
            if let Some(waited) = inv.job.dequeue(now) {
                inv.path.taken_by(&self.jobs.pool, waited, Component::JobControllerWorkers);
            }
            self.sync_job(who);
        }
    }

    fn sync_job(&mut self, who: Key<Inv>) {
        let now = self.now();
        let deadline = self.plan.scenario().controller.job.active_deadline;
        let Some(inv) = self.invs.get_mut(who) else {
            return self.end_sync(who);
        };
        let (step, deadline_in) = inv.job.sync(now, deadline);
        if let Some(after) = deadline_in {
            self.enqueue_job_after(who, after);
        }
        match step {
            Some(step) => self.send_sync_step(who, step),
            None => self.end_sync(who),
        }
    }

    fn send_sync_step(&mut self, who: Key<Inv>, step: SyncStep) {
        let path = step.on_path().then_some(who);
        self.call(Client::JobController, step.op(), Then::JobSync(who, step), path);
    }

    /// A call of a sync is answered: the next call, or the end of the sync.
    pub(crate) fn on_sync_answer(&mut self, who: Key<Inv>, step: SyncStep) {
        let now = self.now();
        let deadline = self.plan.scenario().controller.job.active_deadline;
        let Some(inv) = self.invs.get_mut(who) else {
            return self.end_sync(who);
        };
        match step {
            SyncStep::CreatePod => {
                inv.job.observe_pod(PodPhase::Pending);
                inv.pod.create();
                self.stage(who, Stage::PodCreated);
                self.notify_watchers(Ev::PodAdded(who), who);
                self.record_event(Recorder::JobController);
                self.send_sync_step(who, SyncStep::StatusActive);
            }
            SyncStep::StatusActive => {
                inv.job.activate(now);
                self.enqueue_job_after(who, deadline);
                self.enqueue_job_after(who, SYNC_BATCH);
                self.end_sync(who);
            }
            SyncStep::StatusReady => {
                inv.job.ready();
                self.end_sync(who);
            }
            SyncStep::DeletePod => {
                self.record_event(Recorder::JobController);
                self.delete_pod(who, Outcome::DeadlineExceeded);
                self.send_sync_step(who, SyncStep::StatusInterim);
            }
            SyncStep::StatusInterim => {
                if inv.job.interim() {
                    self.send_sync_step(who, SyncStep::RemoveFinalizer);
                } else {
                    self.end_sync(who);
                }
            }
            SyncStep::RemoveFinalizer => self.send_sync_step(who, SyncStep::StatusFinished),
            SyncStep::StatusFinished => {
                inv.job.finish(now);
                self.record_event(Recorder::JobController);
                self.complete_job(who);
                self.end_sync(who);
            }
        }
    }

    fn end_sync(&mut self, who: Key<Inv>) {
        self.jobs.pool.give_back();
        if self.invs.get_mut(who).is_some_and(|inv| inv.job.synced()) {
            self.enqueue_job(who);
        }
        self.run_job_workers();
    }

    /// The Job's status is Complete or Failed.
    fn complete_job(&mut self, who: Key<Inv>) {
        self.record_waits(who, Stage::JobFinished);
        self.stage(who, Stage::JobFinished);
        if let Some(inv) = self.invs.get_mut(who) {
            inv.path.close();
        }
        self.notify_watchers(Ev::JobFinishedSeen(who), who);
    }

    /// Records where the investigation's time went until a stage.
    pub(crate) fn record_waits(&mut self, who: Key<Inv>, until: Stage) {
        let now = self.now();
        let Some(inv) = self.invs.get(who) else { return };
        if let Some(waits) = inv.path.waits(now.since(inv.alert().intended)) {
            self.fact(who, Fact::Waited { until, waits });
        }
    }

    /// The Job controller's informer delivers a change of the pod.
    pub(crate) fn on_pod_observed(&mut self, who: Key<Inv>, phase: PodPhase) {
        let Some(inv) = self.invs.get_mut(who) else {
            return;
        };
        inv.job.observe_pod(phase);
        if phase >= PodPhase::Ended && !inv.job.is_finished() {
            inv.wait(Component::JobSyncBatch, SYNC_BATCH);
        }
        self.enqueue_job_after(who, SYNC_BATCH);
    }

    /// The informer delivers a new Job, which is enqueued without delay.
    pub(crate) fn on_job_added(&mut self, who: Key<Inv>) {
        self.enqueue_job_after(who, Span::ZERO);
    }
}
