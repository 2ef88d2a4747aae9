//! The Job of an investigation: its status on the API server, its place in the Job controller.

use alertstorm_model::time::{Span, Time};

use crate::costs::Op;
use crate::pod::PodPhase;

/// A call of a sync, for which its worker waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SyncStep {
    CreatePod,
    StatusActive,
    StatusReady,
    /// The interim condition: SuccessCriteriaMet or FailureTarget.
    StatusInterim,
    RemoveFinalizer,
    StatusFinished,
    /// Past activeDeadlineSeconds.
    DeletePod,
}

impl SyncStep {
    pub const fn op(self) -> Op {
        match self {
            Self::CreatePod => Op::CreatePod,
            Self::RemoveFinalizer => Op::PatchPod,
            Self::DeletePod => Op::DeletePod,
            Self::StatusActive | Self::StatusReady | Self::StatusInterim | Self::StatusFinished => {
                Op::UpdateJobStatus
            }
        }
    }

    /// Whether the investigation waits for it; the status of a running pod's Job is written beside
    /// the critical path.
    pub const fn on_path(self) -> bool {
        !matches!(self, Self::StatusActive | Self::StatusReady)
    }

    /// Whether it is the first call of a sync, which bears the sync's own processor time.
    pub const fn begins_sync(self) -> bool {
        matches!(self, Self::CreatePod | Self::StatusReady | Self::StatusInterim | Self::DeletePod)
    }
}

/// The Job's status as the Job controller last wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    New,
    Active,
    Ready,
    Interim,
    Finished,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    /// In etcd.
    created: bool,
    status: Status,
    /// `status.startTime`, written at the first sync: activeDeadlineSeconds counts from it.
    started: Option<Time>,
    pod_posted: bool,
    /// The pod's phase in the Job controller's informer.
    pod_seen: PodPhase,
    finished_at: Time,
    /// In the work queue.
    queued: bool,
    /// A worker syncs it.
    processing: bool,
    /// Enqueued again while a worker syncs it.
    dirty: bool,
    /// When it is added to the work queue.
    due: Time,
    enqueued_at: Time,
}

impl Job {
    pub const fn new() -> Self {
        Self {
            created: false,
            status: Status::New,
            started: None,
            pod_posted: false,
            pod_seen: PodPhase::Absent,
            finished_at: Time::ZERO,
            queued: false,
            processing: false,
            dirty: false,
            due: Time::NEVER,
            enqueued_at: Time::ZERO,
        }
    }

    pub const fn is_created(&self) -> bool {
        self.created
    }

    pub fn is_finished(&self) -> bool {
        self.status == Status::Finished
    }

    /// When its status became Complete or Failed.
    pub const fn finished_at(&self) -> Time {
        self.finished_at
    }

    /// Returns false if an earlier attempt had created it (409).
    pub fn create(&mut self) -> bool {
        !std::mem::replace(&mut self.created, true)
    }

    /// `queue.AddAfter`: an earlier due time wins. Returns whether it needs a timer.
    pub fn add_at(&mut self, at: Time) -> bool {
        let earlier = at < self.due;
        if earlier {
            self.due = at;
        }
        earlier
    }

    /// Whether the timer that fires now is the one in force, and not replaced by an earlier one.
    pub fn take_due(&mut self, now: Time) -> bool {
        let due = self.due == now;
        if due {
            self.due = Time::NEVER;
        }
        due
    }

    /// `queue.Add`: a queued Job is queued once, and one that is being synced is synced again after
    /// that. Returns whether it joins the queue.
    pub fn enqueue(&mut self, now: Time) -> bool {
        if self.processing {
            self.dirty = true;
            false
        } else if self.queued {
            false
        } else {
            self.queued = true;
            self.enqueued_at = now;
            true
        }
    }

    /// A worker takes it. Returns how long it was queued; `None` while the pod runs, as the
    /// investigation does not wait for the Job's status then.
    pub fn dequeue(&mut self, now: Time) -> Option<Span> {
        self.queued = false;
        self.processing = true;
        let awaited = !self.pod_posted || self.pod_seen == PodPhase::Ended;
        awaited.then(|| now.since(self.enqueued_at))
    }

    /// The sync has ended; returns whether the Job is enqueued again.
    pub fn synced(&mut self) -> bool {
        self.processing = false;
        std::mem::take(&mut self.dirty)
    }

    /// Decides the first call of a sync from the state of the informers, and after what time the
    /// next sync is due because of the deadline.
    pub fn sync(&mut self, now: Time, deadline: Span) -> (Option<SyncStep>, Option<Span>) {
        let active_for = self.started.map(|started| now.since(started));
        let past_deadline = active_for.is_some_and(|active| active >= deadline);
        let ended = self.pod_seen == PodPhase::Ended;
        let step = if self.is_finished() {
            None
        } else if ended && self.status != Status::Interim {
            Some(SyncStep::StatusInterim)
        } else if ended {
            Some(SyncStep::RemoveFinalizer)
        } else if past_deadline && self.status != Status::Interim && self.pod_posted {
            Some(SyncStep::DeletePod)
        } else if !self.pod_posted {
            self.pod_posted = true;
            Some(SyncStep::CreatePod)
        } else if self.pod_seen == PodPhase::Running && self.status == Status::Active {
            Some(SyncStep::StatusReady)
        } else {
            None
        };
        let going_on = active_for.filter(|_| !past_deadline && !ended);
        (step, going_on.map(|active| deadline - active))
    }

    pub fn activate(&mut self, now: Time) {
        self.status = Status::Active;
        self.started.get_or_insert(now);
    }

    pub const fn ready(&mut self) {
        self.status = Status::Ready;
    }

    /// Returns whether its pod has ended, which is when the finalizer can be removed.
    pub fn interim(&mut self) -> bool {
        self.status = Status::Interim;
        self.pod_seen == PodPhase::Ended
    }

    pub const fn finish(&mut self, now: Time) {
        self.status = Status::Finished;
        self.finished_at = now;
    }

    /// The informer shows the pod in a phase; phases never go back.
    pub fn observe_pod(&mut self, phase: PodPhase) {
        self.pod_seen = self.pod_seen.max(phase);
    }
}
