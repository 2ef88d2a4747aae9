//! TTL-after-finished and the garbage collector: how a finished Job leaves etcd.
//!
//! The TTL controller reads the Job afresh and deletes it with foreground propagation; the garbage
//! collector then reads the pod and its owner, deletes the pod, and takes the finalizer from the
//! Job (pkg/controller/ttlafterfinished, pkg/controller/garbagecollector v1.36.3). The collector's
//! client has twice the rate of the others (cmd/kube-controller-manager/app/core.go).

use std::collections::VecDeque;

use alertstorm_model::event::Fact;
use alertstorm_model::investigation::{IdentityKind, Stage};
use alertstorm_model::time::Time;

use crate::agenda::Ev;
use crate::apiserver::{Client, Then};
use crate::arena::Key;
use crate::costs::Op;
use crate::investigation::Who;
use crate::world::World;

/// The collector's calls for one Job, in order.
const COLLECT: [Op; 5] = [Op::GetPod, Op::GetJob, Op::DeletePod, Op::GetJob, Op::PatchJob];

/// A controller's workers and what waits for them.
#[derive(Debug)]
pub(crate) struct Workers {
    pub idle: u32,
    pub queue: VecDeque<Who>,
}

impl Workers {
    pub const fn new(count: u32) -> Self {
        Self { idle: count, queue: VecDeque::new() }
    }
}

impl World<'_> {
    /// The Job is finished: all that is left of its investigation is its object in etcd. Most Jobs
    /// that the platform knows are such, so they are kept apart from those that still do something.
    pub(crate) fn keep_until_collected(&mut self, who: Who, finished_at: Time) {
        if let Some(inv) = self.invs.remove(who) {
            let job = self.finished_jobs.insert(inv.alert.id);
            let ttl = self.plan.scenario().controller.job.ttl_after_finished;
            self.engine.at(finished_at + ttl, Ev::TtlDue(job.slot, job.generation));
        }
    }

    /// The Job's time after its end is over.
    pub(crate) fn ttl_due(&mut self, job: Key) {
        self.ttl.queue.push_back(job);
        self.collectors_work();
    }

    /// Idle workers of both controllers take what waits.
    pub(crate) fn collectors_work(&mut self) {
        while self.ttl.idle > 0 && !self.jobs.down {
            let Some(who) = self.ttl.queue.pop_front() else {
                break;
            };
            self.ttl.idle -= 1;
            let then = Then::Ttl { deleted: false };
            self.call(Client::TtlController, Op::GetJob, who, then, false);
        }
        while self.gc.idle > 0 && !self.jobs.down {
            let Some(who) = self.gc.queue.pop_front() else {
                break;
            };
            self.gc.idle -= 1;
            self.call(Client::GarbageCollector, COLLECT[0], who, Then::Collect(0), false);
        }
    }

    pub(crate) fn ttl_called(&mut self, who: Who, deleted: bool) {
        if deleted {
            self.ttl.idle += 1;
            self.gc.queue.push_back(who);
            self.collectors_work();
        } else {
            let then = Then::Ttl { deleted: true };
            self.call(Client::TtlController, Op::DeleteJob, who, then, false);
        }
    }

    pub(crate) fn collected_step(&mut self, who: Who, done: u8) {
        let next = usize::from(done) + 1;
        if let Some(op) = COLLECT.get(next) {
            let then = Then::Collect(next as u8);
            return self.call(Client::GarbageCollector, *op, who, then, false);
        }
        self.gc.idle += 1;
        if let Some(id) = self.finished_jobs.remove(who) {
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
        self.collectors_work();
    }
}
