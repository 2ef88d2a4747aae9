//! The Job controller of kube-controller-manager, after pkg/controller/job/job_controller.go
//! v1.36.3: a work queue that merges what is asked twice, sync workers, one client bucket for
//! their calls and their events, and a sync that takes one call after the other.
//!
//! A Job of one pod that ends at once costs seven calls. In the first sync: create the pod, update
//! the status (active). In the second: update the status (SuccessCriteriaMet, uncounted pods),
//! patch the finalizer away, update the status (Complete). Two more are events, which a single
//! recorder sends one after the other through the same bucket; they trail behind the workers.

use std::collections::VecDeque;

use alertstorm_model::event::{Component, Fact, Wait};
use alertstorm_model::investigation::{Outcome, Stage};
use alertstorm_model::time::{Span, Time};

use crate::agenda::Ev;
use crate::apiserver::{Client, Recorder, Then};
use crate::costs::Op;
use crate::investigation::{JobStatus, PodPhase, Who};
use crate::pool::{Pool, PoolKind};
use crate::world::World;

/// `syncJobBatchPeriod`: syncs that pods and statuses ask for wait this long for others.
const SYNC_BATCH: Span = Span::secs(1);

/// The call of a sync that a worker waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SyncStep {
    PodCreated,
    StatusActive,
    StatusReady,
    StatusInterim,
    FinalizerRemoved,
    StatusFinished,
    PodDeleted,
}

#[derive(Debug)]
pub(crate) struct JobController {
    pub queue: VecDeque<Who>,
    pub pool: Pool,
    pub down: bool,
}

impl JobController {
    pub const fn new(workers: u32) -> Self {
        Self {
            queue: VecDeque::new(),
            pool: Pool::new(PoolKind::JobController, workers),
            down: false,
        }
    }
}

impl World<'_> {
    /// `queue.AddAfter`: an earlier due time wins, a later one is forgotten.
    pub(crate) fn job_due(&mut self, who: Who, after: Span) {
        let at = self.now() + after;
        let Some(inv) = self.invs.get_mut(who) else {
            return;
        };
        if at < inv.job.due {
            inv.job.due = at;
            self.engine.at(at, Ev::JobDue(who.slot, who.generation));
        }
    }

    pub(crate) fn job_is_due(&mut self, who: Who) {
        let now = self.now();
        let Some(inv) = self.invs.get_mut(who) else {
            return;
        };
        if inv.job.due == now {
            inv.job.due = Time::NEVER;
            self.job_enqueue(who);
        }
    }

    /// `queue.Add`: what is queued is queued once; what is being synced is synced again after.
    fn job_enqueue(&mut self, who: Who) {
        let now = self.now();
        let Some(inv) = self.invs.get_mut(who) else {
            return;
        };
        if inv.job.processing {
            inv.job.dirty = true;
        } else if !inv.job.queued {
            inv.job.queued = true;
            inv.job.enqueued_at = now;
            inv.joins(&self.jobs.pool);
            self.jobs.queue.push_back(who);
            self.job_workers();
        }
    }

    /// Idle workers take what is queued.
    pub(crate) fn job_workers(&mut self) {
        while self.jobs.pool.idle > 0 && !self.jobs.down {
            let Some(who) = self.jobs.queue.pop_front() else {
                return;
            };
            if self.invs.get(who).is_none() {
                continue;
            }
            self.jobs.pool.idle -= 1;
            self.job_dequeued(who);
            self.job_sync(who);
        }
    }

    /// The wait for a worker was a wait for what the workers were waiting for.
    fn job_dequeued(&mut self, who: Who) {
        let now = self.now();
        let Some(inv) = self.invs.get_mut(who) else {
            return;
        };
        inv.job.queued = false;
        inv.job.processing = true;
        let waited = now.since(inv.job.enqueued_at);
        // While the pod runs nobody waits for the Job's status.
        if !inv.job.pod_posted || inv.job.pod_seen == PodPhase::Ended {
            inv.taken_by(&self.jobs.pool, waited, Component::JobControllerWorkers);
        }
    }

    /// One sync: decides what is to be done from what the informers have seen.
    fn job_sync(&mut self, who: Who) {
        let now = self.now();
        let deadline = self.plan.scenario().controller.job.active_deadline;
        let Some(inv) = self.invs.get_mut(who) else {
            return self.job_synced(who);
        };
        let job = inv.job;
        let past_deadline = job.started.is_some_and(|started| now.since(started) >= deadline);
        let ended = job.pod_seen == PodPhase::Ended;
        let step = if job.status == JobStatus::Finished {
            None
        } else if ended && job.status != JobStatus::Interim {
            Some((Op::UpdateJobStatus, SyncStep::StatusInterim))
        } else if ended {
            Some((Op::PatchPod, SyncStep::FinalizerRemoved))
        } else if past_deadline && job.status != JobStatus::Interim && job.pod_posted {
            Some((Op::DeletePod, SyncStep::PodDeleted))
        } else if !job.pod_posted {
            inv.job.pod_posted = true;
            Some((Op::CreatePod, SyncStep::PodCreated))
        } else if job.pod_seen == PodPhase::Running && job.status == JobStatus::Active {
            Some((Op::UpdateJobStatus, SyncStep::StatusReady))
        } else {
            None
        };
        // Every sync of a Job that goes on asks for the one at its deadline.
        if let (Some(started), false) = (job.started, past_deadline || ended) {
            self.job_due(who, deadline - now.since(started));
        }
        match step {
            Some((op, step)) => self.job_call(who, op, step),
            None => self.job_synced(who),
        }
    }

    fn job_call(&mut self, who: Who, op: Op, step: SyncStep) {
        let on_path = !matches!(step, SyncStep::StatusActive | SyncStep::StatusReady);
        self.call(Client::JobController, op, who, Then::JobSync(step), on_path);
    }

    /// The answer to a worker's call: the next call of the sync, or its end.
    pub(crate) fn job_called(&mut self, who: Who, step: SyncStep) {
        let now = self.now();
        let deadline = self.plan.scenario().controller.job.active_deadline;
        let Some(inv) = self.invs.get_mut(who) else {
            return self.job_synced(who);
        };
        match step {
            SyncStep::PodCreated => {
                inv.job.pod_seen = PodPhase::Pending;
                inv.phase = PodPhase::Pending;
                inv.status_phase = PodPhase::Pending;
                self.stage(who, Stage::PodCreated);
                self.watchers_see(Ev::PodAdded(who.slot, who.generation), who);
                self.record_event(Recorder::JobController, who);
                self.job_call(who, Op::UpdateJobStatus, SyncStep::StatusActive);
            }
            SyncStep::StatusActive => {
                inv.job.status = JobStatus::Active;
                inv.job.started.get_or_insert(now);
                self.job_due(who, deadline);
                self.job_due(who, SYNC_BATCH);
                self.job_synced(who);
            }
            SyncStep::StatusReady => {
                inv.job.status = JobStatus::Ready;
                self.job_synced(who);
            }
            SyncStep::PodDeleted => {
                self.record_event(Recorder::JobController, who);
                self.pod_deleted(who, Outcome::DeadlineExceeded);
                self.job_call(who, Op::UpdateJobStatus, SyncStep::StatusInterim);
            }
            SyncStep::StatusInterim => {
                inv.job.status = JobStatus::Interim;
                if inv.job.pod_seen == PodPhase::Ended {
                    self.job_call(who, Op::PatchPod, SyncStep::FinalizerRemoved);
                } else {
                    self.job_synced(who);
                }
            }
            SyncStep::FinalizerRemoved => {
                self.job_call(who, Op::UpdateJobStatus, SyncStep::StatusFinished);
            }
            SyncStep::StatusFinished => {
                inv.job.status = JobStatus::Finished;
                self.record_event(Recorder::JobController, who);
                self.job_finished(who);
                self.job_synced(who);
            }
        }
    }

    fn job_synced(&mut self, who: Who) {
        self.jobs.pool.idle += 1;
        if let Some(inv) = self.invs.get_mut(who) {
            inv.job.processing = false;
            if std::mem::take(&mut inv.job.dirty) {
                self.job_enqueue(who);
            }
        }
        self.job_workers();
    }

    /// The Job's status says Complete or Failed.
    fn job_finished(&mut self, who: Who) {
        self.tell_waits(who, Stage::JobFinished);
        self.stage(who, Stage::JobFinished);
        if let Some(inv) = self.invs.get_mut(who) {
            inv.path = None;
            inv.job.finished_at = self.engine.now();
        }
        self.watchers_see(Ev::JobFinishedSeen(who.slot, who.generation), who);
    }

    /// Tells where the investigation's time went until a stage.
    pub(crate) fn tell_waits(&mut self, who: Who, until: Stage) {
        let now = self.now();
        let Some(inv) = self.invs.get(who) else { return };
        let Some(path) = &inv.path else { return };
        // Waits that overlapped, as in an outage that holds up kubelet and agent alike, share the
        // time that passed.
        let passed = u128::from(now.since(inv.alert.intended).0);
        let sum: u128 = path.waits.iter().map(|wait| u128::from(wait.0)).sum();
        let share = |wait: Span| match sum > passed {
            true => Span((u128::from(wait.0) * passed / sum) as u64),
            false => wait,
        };
        let waits = Component::ALL.iter().zip(path.waits).filter(|(_, wait)| wait.0 > 0);
        let waits =
            waits.map(|(component, wait)| Wait { component: *component, span: share(wait) });
        let waits = waits.collect();
        self.fact(who, Fact::Waited { until, waits });
    }

    /// The Job controller's informers have seen something of the pod.
    pub(crate) fn job_sees_pod(&mut self, who: Who, phase: PodPhase) {
        let Some(inv) = self.invs.get_mut(who) else {
            return;
        };
        if phase > inv.job.pod_seen {
            inv.job.pod_seen = phase;
        }
        if phase >= PodPhase::Ended && inv.job.status != JobStatus::Finished {
            inv.wait(Component::JobSyncBatch, SYNC_BATCH);
        }
        self.job_due(who, SYNC_BATCH);
    }

    /// A Job was created: the informer adds it without delay.
    pub(crate) fn job_added(&mut self, who: Who) {
        self.job_due(who, Span::ZERO);
    }
}
