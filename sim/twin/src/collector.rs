//! TTL-after-finished and the garbage collector: how a finished Job leaves etcd.
//!
//! The TTL controller reads the Job afresh and deletes it with foreground propagation; the garbage
//! collector then reads the pod and its owner, deletes the pod, and takes the finalizer from the
//! Job (pkg/controller/ttlafterfinished, pkg/controller/garbagecollector v1.36.3).

use std::collections::VecDeque;

use alertstorm_model::event::Fact;
use alertstorm_model::investigation::{IdentityKind, Stage};
use alertstorm_model::scenario::Plan;
use alertstorm_model::time::Time;

use crate::agenda::Ev;
use crate::arena::{Arena, Key};
use crate::call::{Client, Then};
use crate::costs::Op;
use crate::investigation::{FinishedJob, Inv};
use crate::world::World;

/// The garbage collector's calls for one Job, in their order.
const COLLECT: [Op; 5] = [Op::GetPod, Op::GetJob, Op::DeletePod, Op::GetJob, Op::PatchJob];

#[derive(Debug)]
struct Workers {
    idle: u32,
    queue: VecDeque<Key<FinishedJob>>,
}

impl Workers {
    const fn new(count: u32) -> Self {
        Self { idle: count, queue: VecDeque::new() }
    }

    /// An idle worker takes the next Job.
    fn next(&mut self) -> Option<Key<FinishedJob>> {
        if self.idle == 0 {
            return None;
        }
        let job = self.queue.pop_front()?;
        self.idle -= 1;
        Some(job)
    }
}

#[derive(Debug)]
pub(crate) struct Collector {
    /// Finished and not collected.
    jobs: Arena<FinishedJob>,
    ttl: Workers,
    gc: Workers,
}

impl Collector {
    pub fn new(plan: &Plan) -> Self {
        let manager = &plan.scenario().cluster.control_plane.controller_manager;
        Self {
            jobs: Arena::default(),
            ttl: Workers::new(manager.concurrent_ttl_syncs.get()),
            gc: Workers::new(manager.concurrent_gc_syncs.get()),
        }
    }

    /// Whether every finished Job is collected.
    pub fn is_idle(&self) -> bool {
        self.jobs.is_empty()
    }
}

impl World<'_> {
    /// Replaces a finished investigation by the little that its collection needs. Most Jobs in the
    /// platform are finished ones, so they must not take up memory among the active ones.
    pub(crate) fn keep_until_collected(&mut self, who: Key<Inv>, finished_at: Time) {
        if let Some(inv) = self.invs.remove(who) {
            let job = self.collector.jobs.insert(FinishedJob(inv.id()));
            let ttl = self.plan.scenario().controller.job.ttl_after_finished;
            self.engine.at(finished_at + ttl, Ev::TtlDue(job));
        }
    }

    /// ttlSecondsAfterFinished has passed.
    pub(crate) fn on_ttl_due(&mut self, job: Key<FinishedJob>) {
        self.collector.ttl.queue.push_back(job);
        self.run_collectors();
    }

    /// Idle workers of both controllers take the Jobs that wait.
    pub(crate) fn run_collectors(&mut self) {
        if self.jobs.is_down() {
            return;
        }
        while let Some(job) = self.collector.ttl.next() {
            self.call(Client::TtlController, Op::GetJob, Then::TtlRead(job), None);
        }
        while let Some(job) = self.collector.gc.next() {
            self.call(Client::GarbageCollector, COLLECT[0], Then::Collect(job, 0), None);
        }
    }

    pub(crate) fn on_ttl_read(&mut self, job: Key<FinishedJob>) {
        self.call(Client::TtlController, Op::DeleteJob, Then::TtlDeleted(job), None);
    }

    pub(crate) fn on_ttl_deleted(&mut self, job: Key<FinishedJob>) {
        self.collector.ttl.idle += 1;
        self.collector.gc.queue.push_back(job);
        self.run_collectors();
    }

    /// The garbage collector makes its next call for the Job; after the last, the Job is deleted.
    pub(crate) fn on_collect_answer(&mut self, job: Key<FinishedJob>, done: u8) {
        let next = done + 1;
        if let Some(op) = COLLECT.get(usize::from(next)) {
            return self.call(Client::GarbageCollector, *op, Then::Collect(job, next), None);
        }
        self.collector.gc.idle += 1;
        if let Some(FinishedJob(id)) = self.collector.jobs.remove(job) {
            self.fact_of(id, Fact::Stage { stage: Stage::JobCollected });
        }
        for op in [Op::CreateJob, Op::CreatePod] {
            self.etcd.forget(op.cost().write.unwrap_or(0));
        }
        if self.plan.scenario().identity == IdentityKind::PerInvestigation {
            for op in [Op::CreateServiceAccount, Op::CreateRoleBinding] {
                self.etcd.forget(op.cost().write.unwrap_or(0));
            }
        }
        self.run_collectors();
    }
}
