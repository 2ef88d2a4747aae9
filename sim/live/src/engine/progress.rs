//! Progress of Jobs and pods. Two watches and the agents' journals report it, in any order and by
//! different clocks.

use std::sync::Arc;

use alertstorm_model::delivery::Input;
use alertstorm_model::event::{Event, Fact};
use alertstorm_model::investigation::{InvestigationId, Outcome, Stage};
use alertstorm_model::scenario::knobs::NodeRuntime;
use alertstorm_model::time::{Span, Time};

use super::Engine;
use crate::lags::Lag;
use crate::reporter::{Finished, Observation, WatchEvent};

/// How long a finished Job waits for its pod's journal: longer than the reader retries the pod's
/// log (20 s).
const WAIT_FOR_JOURNAL: Span = Span::secs(30);

impl Engine<'_> {
    pub(super) fn answered(&mut self, id: InvestigationId, at: Time, created: bool) {
        let Some(timeline) = self.all.get_mut(&id) else { return };
        if !created {
            return self.deliver(Input::JobFailedToCreate(id));
        }
        // The watch may show the Job before the response to its creation arrives.
        match timeline.shown {
            true => self.reporter.lags().record(Lag::Watch, Span::ZERO),
            false => timeline.answered = Some(at),
        }
        self.stage(id, at, Stage::JobCreated);
        self.deliver(Input::JobCreated(id));
    }

    pub(super) fn watch_event(&mut self, event: WatchEvent, at: Time) {
        match event {
            WatchEvent::Job { id, finished } => {
                let Some(timeline) = self.all.get_mut(&id) else { return };
                timeline.shown = true;
                if let Some(answered) = timeline.answered.take() {
                    self.reporter.lags().record(Lag::Watch, at.since(answered));
                }
                if let Some(finished) = finished {
                    self.job_finished(id, at, finished);
                }
            }
            WatchEvent::JobDeleted(id) => {
                // If it is not over, it was deleted before it finished.
                self.job_finished(id, at, Finished::Failed);
                self.job_gone(id, at);
            }
            WatchEvent::Pod { id, scheduled, has_run } => {
                self.stage(id, at, Stage::PodCreated);
                if scheduled {
                    self.stage(id, at, Stage::PodScheduled);
                }
                if has_run {
                    self.stage(id, at, Stage::PodRunning);
                }
            }
        }
    }

    fn job_finished(&mut self, id: InvestigationId, at: Time, finished: Finished) {
        let Some(timeline) = self.all.get(&id).filter(|timeline| !timeline.is_over()) else {
            return;
        };
        let seen_all = self.since == Time::ZERO;
        if self.in_pods && timeline.may_have_journal(finished, seen_all) {
            return self.await_journal(id, at, finished);
        }
        // KWOK's last stage completes the pod, and may be seen here before its request is answered.
        let kwok = self.plan.scenario().cluster.node.runtime == NodeRuntime::Kwok;
        let completed = finished == Finished::Complete;
        let (alert, ran) = (timeline.alert, completed && (timeline.ended || kwok));
        // The watch of pods may lag behind the watch of Jobs: these stages were reached, too.
        self.stage(id, at, Stage::JobCreated);
        if ran {
            for stage in [Stage::PodCreated, Stage::PodScheduled, Stage::PodRunning] {
                self.stage(id, at, stage);
            }
        }
        let outcome = match finished {
            Finished::DeadlineExceeded => Outcome::DeadlineExceeded,
            Finished::Complete if kwok => Outcome::Resolved,
            Finished::Complete => Outcome::Inconclusive,
            Finished::Failed => Outcome::Evicted,
        };
        // Ignored if the agent reported its outcome.
        self.fact(Event::of(at, id, Fact::Ended { outcome }));
        let Some(timeline) = self.all.get_mut(&id) else { return };
        // The other watch or the agent may have reported a later time.
        let at = at.max(timeline.latest());
        timeline.reach(Stage::JobFinished, at);
        let cost_micro_usd = timeline.cost_micro_usd;
        let waits = timeline.waits(Stage::JobFinished);
        let needs_vault = timeline.reached(Stage::VaultLogin).is_some();
        self.open -= 1;
        if !needs_vault {
            let fact = Fact::Waited { until: Stage::JobFinished, waits };
            self.hold(Event::of(at, id, fact));
        }
        self.hold(Event::of(at, id, Fact::Stage { stage: Stage::JobFinished }));
        let ended = Arc::clone(&self.jobs).end_identity(alert);
        self.spawn("the deletion of an identity", ended);
        self.deliver(Input::JobFinished { id, cost_micro_usd });
        let gone = self.all.get(&id).and_then(|timeline| timeline.gone);
        if let Some(gone) = gone {
            self.job_gone(id, gone.max(at));
        }
    }

    /// The Job was collected. If the engine still waits for its journal, this is recorded later.
    fn job_gone(&mut self, id: InvestigationId, at: Time) {
        let Some(timeline) = self.all.get_mut(&id) else { return };
        if !timeline.is_over() {
            timeline.gone = Some(at);
        } else if timeline.reach(Stage::JobCollected, at) {
            let fact = Fact::Stage { stage: Stage::JobCollected };
            self.hold(Event::of(at, id, fact));
        }
    }

    /// The journal is complete, or no longer waited for; whether a finished Job waited for it.
    pub(super) fn journal_read(&mut self, id: InvestigationId) -> bool {
        let Some(timeline) = self.all.get_mut(&id) else { return false };
        timeline.journal_read = true;
        let waited = timeline.finished.take();
        if let Some((at, finished)) = waited {
            self.job_finished(id, at, finished);
        }
        waited.is_some()
    }

    /// Puts off a Job's end until its pod's journal is read: events in it are earlier.
    fn await_journal(&mut self, id: InvestigationId, at: Time, finished: Finished) {
        let Some(timeline) = self.all.get_mut(&id) else { return };
        if timeline.finished.replace((at, finished)).is_none() {
            self.later(at + WAIT_FOR_JOURNAL, Observation::JournalMissing(id));
        }
    }
}
