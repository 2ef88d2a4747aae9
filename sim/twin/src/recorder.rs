//! Recorders of Kubernetes Events: each sends one after the other, through its client's bucket.

use std::collections::VecDeque;

use crate::apiserver::{Client, Recorder, Then};
use crate::costs::Op;
use crate::investigation::Who;
use crate::world::World;

/// `maxQueuedEvents` of client-go's event broadcaster: what comes on top is dropped.
const QUEUE_MAX: usize = 1_000;

#[derive(Debug, Default)]
pub(crate) struct EventSink {
    sending: bool,
    waiting: VecDeque<Who>,
    pub dropped: u64,
}

impl EventSink {
    pub fn depth(&self) -> usize {
        self.waiting.len()
    }
}

impl World<'_> {
    fn sink(&mut self, recorder: Recorder) -> &mut EventSink {
        match recorder {
            Recorder::JobController => &mut self.job_events,
            Recorder::Scheduler => &mut self.scheduler_events,
            Recorder::Kubelet(node) => &mut self.nodes.list[node as usize].events,
        }
    }

    /// Something happened that an Event tells of.
    pub(crate) fn record_event(&mut self, recorder: Recorder, who: Who) {
        let sink = self.sink(recorder);
        if sink.waiting.len() >= QUEUE_MAX {
            sink.dropped += 1;
            return;
        }
        sink.waiting.push_back(who);
        self.send_event(recorder);
    }

    fn send_event(&mut self, recorder: Recorder) {
        let sink = self.sink(recorder);
        if sink.sending {
            return;
        }
        let Some(who) = sink.waiting.pop_front() else {
            return;
        };
        sink.sending = true;
        let client = match recorder {
            Recorder::JobController => Client::JobController,
            Recorder::Scheduler => Client::SchedulerEvents,
            Recorder::Kubelet(node) => Client::KubeletEvents(node),
        };
        self.call(client, Op::CreateEvent, who, Then::Recorded(recorder), false);
    }

    /// The Event is written: the next one.
    pub(crate) fn event_sent(&mut self, recorder: Recorder) {
        self.sink(recorder).sending = false;
        self.send_event(recorder);
    }
}
