//! etcd: group commit of the write-ahead log, the database's size, compaction and the quota.

use alertstorm_model::event::{Etcd as Counters, WaitSummary};
use alertstorm_model::scenario::knobs::EtcdKnobs;
use alertstorm_model::time::{Span, Time};

use crate::agenda::Ev;
use crate::costs::Op;
use crate::disk::Disk;
use crate::meter::Meter;
use crate::streams;
use crate::world::World;

/// The database of an empty cluster, measured after the start of a control plane.
const EMPTY_BYTES: u64 = 3 << 20;
/// Bytes of a revision besides the object: its key, its index entry and unused space of the page.
const REVISION_OVERHEAD: u64 = 400;
/// Events live for an hour (`--event-ttl`).
const EVENT_TTL_COMPACTIONS: usize = 12;

#[derive(Debug)]
pub(crate) struct Etcd {
    disk: Disk,
    quota: u64,
    writes: u64,
    /// Bytes of the latest revisions.
    live: u64,
    /// Bytes of older revisions, which the next compaction frees.
    history: u64,
    /// Bytes of Kubernetes Events by the compaction period in which they were written.
    events: std::collections::VecDeque<u64>,
    /// Bytes of the file, which never shrinks: freed pages are reused.
    file: u64,
    /// The latest arrival of a write: writes are appended in the order of their requests.
    last_arrival: Time,
    commit_waits: Meter,
}

impl Etcd {
    pub fn new(knobs: &EtcdKnobs, seed: u64) -> Self {
        Self {
            disk: Disk::new(knobs.fsync.dist, streams::etcd(seed)),
            quota: knobs.quota.0,
            writes: 0,
            live: EMPTY_BYTES,
            history: 0,
            events: std::collections::VecDeque::from([0]),
            file: EMPTY_BYTES,
            last_arrival: Time::ZERO,
            commit_waits: Meter::default(),
        }
    }

    fn write(&mut self, bytes: u64, op: Op) {
        self.writes += 1;
        let bytes = bytes + REVISION_OVERHEAD;
        match op {
            Op::CreateJob | Op::CreatePod | Op::CreateServiceAccount | Op::CreateRoleBinding => {
                self.live += bytes
            }
            Op::CreateEvent => {
                if let Some(newest) = self.events.back_mut() {
                    *newest += bytes;
                }
            }
            _ => self.history += bytes,
        }
        let in_use = self.live + self.history + self.events.iter().sum::<u64>();
        self.file = self.file.max(in_use);
    }

    /// Counts a write that is not simulated by itself.
    pub fn count_write(&mut self, bytes: u64) {
        self.write(bytes, Op::UpdateNodeLease);
    }

    /// Commits a write that arrives at `at`; returns when it is durable.
    pub fn commit(&mut self, at: Time, bytes: u64, op: Op) -> Time {
        self.last_arrival = self.last_arrival.max(at);
        self.write(bytes, op);
        let durable = self.disk.commit(self.last_arrival);
        self.commit_waits.record(durable.since(at));
        durable
    }

    /// An object of this many bytes is deleted.
    pub fn forget(&mut self, bytes: u64) {
        self.live = self.live.saturating_sub(bytes + REVISION_OVERHEAD).max(EMPTY_BYTES);
        self.history += bytes + REVISION_OVERHEAD;
    }

    /// No commit ends before `until`.
    pub fn block(&mut self, until: Time) {
        self.disk.block(until);
    }

    /// Adds `extra` to each sync from now on.
    pub const fn slow_down(&mut self, extra: Span) {
        self.disk.slow_down(extra);
    }

    /// Revisions older than kube-apiserver's compaction interval are freed, and Events of an hour
    /// ago deleted.
    fn compact(&mut self) {
        self.history = 0;
        self.events.push_back(0);
        if self.events.len() > EVENT_TTL_COMPACTIONS {
            self.events.pop_front();
        }
    }

    /// Whether the quota is exceeded: writes fail until an operator clears the alarm.
    pub const fn is_full(&self) -> bool {
        self.file > self.quota
    }

    pub fn counters(&self) -> Counters {
        let db_bytes = self.live + self.history + self.events.iter().sum::<u64>();
        Counters {
            writes: self.writes,
            fsyncs: self.disk.syncs(),
            db_bytes,
            db_bytes_max: self.file,
        }
    }

    pub fn waits(&self) -> WaitSummary {
        self.commit_waits.summary("etcd: commit")
    }
}

impl World<'_> {
    pub(crate) fn compact(&mut self) {
        self.etcd.compact();
        let etcd = &self.plan.scenario().cluster.control_plane.etcd;
        self.engine.after(etcd.compaction_interval, Ev::Compact);
    }
}
