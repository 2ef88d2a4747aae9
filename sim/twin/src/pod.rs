//! The pod of an investigation: its phase on the node, and its status on the API server. Only the
//! methods here change a phase.

use alertstorm_model::time::{Span, Time};

/// The phase on the node; it never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PodPhase {
    Absent,
    Pending,
    Running,
    /// Succeeded, failed or deleted.
    Ended,
}

#[derive(Debug)]
pub(crate) struct Pod {
    phase: PodPhase,
    /// The phase in the pod's status on the API server.
    reported: PodPhase,
    /// A status update of the kubelet is in flight.
    reporting: bool,
    reached_running: bool,
    node: Option<u32>,
    /// When it joined the scheduler's queue.
    queued_at: Time,
    /// Since when it has fitted on no node.
    unschedulable_since: Option<Time>,
    /// When image, sandbox and container are ready.
    startable_at: Time,
}

/// The result of a status update.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reported {
    /// The first update that shows the pod as running or ended.
    pub first_run: bool,
    /// The phase has changed since the update began.
    pub behind: bool,
}

impl Pod {
    pub const fn new() -> Self {
        Self {
            phase: PodPhase::Absent,
            reported: PodPhase::Absent,
            reporting: false,
            reached_running: false,
            node: None,
            queued_at: Time::ZERO,
            unschedulable_since: None,
            startable_at: Time::ZERO,
        }
    }

    pub const fn phase(&self) -> PodPhase {
        self.phase
    }

    pub fn is_pending(&self) -> bool {
        self.phase == PodPhase::Pending
    }

    pub const fn node(&self) -> Option<u32> {
        self.node
    }

    pub fn is_on(&self, node: u32) -> bool {
        self.node == Some(node)
    }

    /// It exists on the API server.
    pub const fn create(&mut self) {
        self.phase = PodPhase::Pending;
        self.reported = PodPhase::Pending;
    }

    /// It joins the scheduler's queue.
    pub const fn enqueue(&mut self, now: Time) {
        self.queued_at = now;
    }

    /// How long it has been in the scheduler's queue.
    pub const fn queued_for(&self, now: Time) -> Span {
        now.since(self.queued_at)
    }

    /// No node fits; returns whether this is the first time.
    pub fn mark_unschedulable(&mut self, now: Time) -> bool {
        let first = self.unschedulable_since.is_none();
        self.unschedulable_since.get_or_insert(now);
        first
    }

    /// The scheduler picked a node; returns how long none fitted.
    pub fn assign(&mut self, node: u32, now: Time) -> Span {
        self.node = Some(node);
        self.unschedulable_since.take().map_or(Span::ZERO, |since| now.since(since))
    }

    /// Image, sandbox and container are ready at `at`.
    pub const fn start_at(&mut self, at: Time) {
        self.startable_at = at;
    }

    /// When its container starts, given that its volumes are ready now.
    pub fn startable(&self, now: Time) -> Time {
        self.startable_at.max(now)
    }

    /// Its container starts; returns false if it is not pending.
    pub fn start(&mut self) -> bool {
        let pending = self.is_pending();
        if pending {
            self.phase = PodPhase::Running;
        }
        pending
    }

    /// Its containers have ended; its status does not show it yet.
    pub const fn end(&mut self) {
        self.phase = PodPhase::Ended;
    }

    /// It has ended, and its status shows it.
    pub const fn end_reported(&mut self) {
        self.phase = PodPhase::Ended;
        self.reported = PodPhase::Ended;
    }

    /// Its status shows it running.
    pub const fn run_reported(&mut self) {
        self.reported = PodPhase::Running;
        self.reached_running = true;
    }

    /// The kubelet begins a status update; returns false if one is in flight or nothing changed.
    pub fn begin_report(&mut self) -> bool {
        let begins = !self.reporting && self.reported < self.phase;
        self.reporting |= begins;
        begins
    }

    /// The kubelet's status update is on the API server. A pod that ends before a relist goes from
    /// pending to its end, and its status shows both.
    pub fn finish_report(&mut self, ended: bool) -> Reported {
        self.reporting = false;
        let phase = if ended { PodPhase::Ended } else { PodPhase::Running };
        self.reported = self.reported.max(phase);
        Reported {
            first_run: !std::mem::replace(&mut self.reached_running, true),
            behind: self.phase > self.reported,
        }
    }

    /// The kubelet restarted, which loses a status update in flight.
    pub const fn lose_report(&mut self) {
        self.reporting = false;
    }

    /// Releases its node, once.
    pub const fn leave_node(&mut self) -> Option<u32> {
        self.node.take()
    }
}
