//! Recorders of Kubernetes Events: each sends one at a time, through its client's bucket.

use crate::call::{Client, Recorder, Then};
use crate::costs::Op;
use crate::world::World;

/// `maxQueuedEvents` of client-go's event broadcaster: further Events are dropped.
const QUEUE_MAX: usize = 1_000;

#[derive(Clone, Debug, Default)]
struct Sender {
    sending: bool,
    waiting: usize,
    dropped: u64,
}

impl Sender {
    /// Begins to send the next Event; returns false if one is being sent or none waits.
    const fn next(&mut self) -> bool {
        if self.sending || self.waiting == 0 {
            return false;
        }
        self.waiting -= 1;
        self.sending = true;
        true
    }
}

#[derive(Debug)]
pub(crate) struct Recorders {
    job_controller: Sender,
    scheduler: Sender,
    kubelets: Vec<Sender>,
}

impl Recorders {
    pub fn new(nodes: usize) -> Self {
        Self {
            job_controller: Sender::default(),
            scheduler: Sender::default(),
            kubelets: vec![Sender::default(); nodes],
        }
    }

    fn of(&mut self, recorder: Recorder) -> &mut Sender {
        match recorder {
            Recorder::JobController => &mut self.job_controller,
            Recorder::Scheduler => &mut self.scheduler,
            Recorder::Kubelet(node) => &mut self.kubelets[node as usize],
        }
    }

    /// Events that wait to be sent.
    pub fn depth(&self) -> usize {
        let kubelets: usize = self.kubelets.iter().map(|sender| sender.waiting).sum();
        self.job_controller.waiting + self.scheduler.waiting + kubelets
    }

    /// Events that the recorders of the control plane dropped.
    pub const fn dropped(&self) -> u64 {
        self.job_controller.dropped + self.scheduler.dropped
    }
}

impl World<'_> {
    pub(crate) fn record_event(&mut self, recorder: Recorder) {
        let sender = self.recorders.of(recorder);
        if sender.waiting >= QUEUE_MAX {
            sender.dropped += 1;
            return;
        }
        sender.waiting += 1;
        self.send_event(recorder);
    }

    fn send_event(&mut self, recorder: Recorder) {
        if self.recorders.of(recorder).next() {
            let client = match recorder {
                Recorder::JobController => Client::JobController,
                Recorder::Scheduler => Client::SchedulerEvents,
                Recorder::Kubelet(node) => Client::KubeletEvents(node),
            };
            self.call(client, Op::CreateEvent, Then::Recorded(recorder), None);
        }
    }

    /// The recorder sends its next Event.
    pub(crate) fn on_event_sent(&mut self, recorder: Recorder) {
        self.recorders.of(recorder).sending = false;
        self.send_event(recorder);
    }
}
