//! Restarts during a run: of a controller that crashed, and of a shard whose pod died.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use alertstorm_model::alert::Alert;
use alertstorm_model::delivery::{FoundJob, Input};
use alertstorm_model::event::{Event, Fact};
use alertstorm_model::investigation::{InvestigationId, Stage};
use alertstorm_model::scenario::Part;
use futures::future::BoxFuture;
use tokio::time::sleep;

use super::Engine;
use crate::reporter::{Observation, WatchEvent};
use crate::shard::{Memory, OpenMemory};
use crate::timeline::Timeline;

impl Engine<'_> {
    /// The controller starts and has listed these Jobs, finished or not.
    pub(super) fn controller_started(&mut self, jobs: &[(InvestigationId, bool)]) {
        let found = |&(id, finished): &(InvestigationId, bool)| {
            let alert = self.all.get(&id)?.alert;
            Some(FoundJob { alert, finished })
        };
        let found = jobs.iter().filter_map(found).collect();
        self.deliver(Input::ControllerStarted(found));
    }

    /// A function that lists the Jobs for a starting controller, until the API server answers.
    pub fn lists(&self) -> impl Fn() -> BoxFuture<'static, ()> + Send + Sync + use<> {
        let (jobs, selector) = (Arc::clone(&self.jobs), self.selector.clone());
        let reporter = self.reporter.clone();
        move || {
            let (jobs, selector) = (Arc::clone(&jobs), selector.clone());
            let reporter = reporter.clone();
            Box::pin(async move {
                loop {
                    match jobs.list(&selector).await {
                        Ok(found) => return reporter.send(Observation::ControllerStarts(found)),
                        Err(error) => {
                            reporter.failed("the list of Jobs for a restarted controller", &error);
                        }
                    }
                    sleep(Duration::from_secs(1)).await;
                }
            })
        }
    }

    /// Takes over from a shard that died. `memory` is what that shard reported, which is not
    /// reported again; `found` are its Jobs. Returns the investigations that have a Job and were
    /// never reported: the shard died in between.
    pub fn resume(
        &mut self,
        part: Part,
        memory: &Memory,
        found: &[(InvestigationId, bool)],
    ) -> Vec<InvestigationId> {
        let there: BTreeSet<InvestigationId> = found.iter().map(|(id, _)| *id).collect();
        let mut by_job = Vec::new();
        let over: BTreeSet<InvestigationId> = memory.over.iter().copied().collect();
        let finished: BTreeMap<_, _> = memory.finished.iter().copied().collect();
        let open: BTreeMap<_, &OpenMemory> = memory.open.iter().map(|of| (of.id, of)).collect();
        // The controller died with its shard. Until it is started below, undecided alerts are only
        // recorded.
        self.deliver(Input::ControllerCrashed);
        let plan = Arc::clone(&self.plan);
        for alert in plan.alerts().filter(|alert| part.has(alert)) {
            let mut timeline = Timeline::new(alert);
            if over.contains(&alert.id) {
                timeline.closed = true;
            } else if let Some(at) = finished.get(&alert.id) {
                timeline.ended = true;
                timeline.reach(Stage::JobFinished, *at);
            } else if let Some(open) = open.get(&alert.id) {
                for (stage, at) in &open.stages {
                    timeline.reach(*stage, *at);
                }
                if timeline.reached(Stage::JobCreated).is_none() {
                    self.deliver(Input::Alert(alert));
                }
                (timeline.sent, timeline.ended) = (open.sent, open.ended);
                timeline.journal_read = open.journal_read;
                timeline.cost_micro_usd = open.cost_micro_usd;
                self.open += 1;
            } else if there.contains(&alert.id) {
                let Alert { id, intended, domain, severity, .. } = alert;
                // The time of its delivery is lost; it was close to the intended one.
                self.hold(Event::of(intended, id, Fact::Alert { intended, domain, severity }));
                self.open += 1;
                by_job.push(id);
            } else {
                continue;
            }
            self.all.insert(alert.id, timeline);
        }
        let now = self.reporter.now();
        self.since = now;
        for id in memory.open.iter().map(|open| open.id).chain(by_job.iter().copied()) {
            let created =
                self.all.get(&id).is_some_and(|of| of.reached(Stage::JobCreated).is_some());
            if there.contains(&id) {
                // The response to its creation may have reached only the shard that died.
                self.stage(id, now, Stage::Admitted);
                self.stage(id, now, Stage::JobCreated);
            } else if created {
                // It finished and was collected while no shard watched.
                self.reporter
                    .send(Observation::Watch { event: WatchEvent::JobDeleted(id), at: now });
            }
        }
        self.controller_started(found);
        by_job
    }
}
