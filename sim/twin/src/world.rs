//! The world: all components, and the functions that every component uses.

use alertstorm_model::event::{Component, Event, Fact, Sink};
use alertstorm_model::investigation::{InvestigationId, Outcome, Stage};
use alertstorm_model::scenario::Plan;
use alertstorm_model::time::{Span, Time};

use crate::agenda::Ev;
use crate::apiserver::{ADJUST_SEATS, ApiServer};
use crate::arena::{Arena, Key};
use crate::backend::Backend;
use crate::clients::Buckets;
use crate::collector::Collector;
use crate::engine::Engine;
use crate::etcd::Etcd;
use crate::investigation::Inv;
use crate::job_controller::JobController;
use crate::kwok::Kwok;
use crate::machines::Machines;
use crate::nodes::Nodes;
use crate::postgres::Postgres;
use crate::recorder::Recorders;
use crate::scheduler::Scheduler;
use crate::vault::Vault;

/// The period at which idle work and node leases are accounted for.
const BACKGROUND: Span = Span::millis(100);

pub(crate) struct World<'a> {
    pub plan: &'a Plan,
    sink: &'a mut dyn Sink,
    pub engine: Engine<Ev>,
    pub invs: Arena<Inv>,
    pub backend: Backend<'a>,
    pub buckets: Buckets,
    pub apiserver: ApiServer,
    pub etcd: Etcd,
    pub machines: Machines,
    pub jobs: JobController,
    pub collector: Collector,
    pub scheduler: Scheduler,
    pub recorders: Recorders,
    pub nodes: Nodes,
    pub kwok: Kwok,
    pub vault: Vault,
    pub postgres: Postgres,
    /// Investigations admitted and not ended.
    open: u64,
    finished: bool,
    /// When the run ends at the latest.
    ends_at: Time,
}

impl<'a> World<'a> {
    pub fn new(plan: &'a Plan, sink: &'a mut dyn Sink) -> Self {
        let scenario = plan.scenario();
        let seed = scenario.seed;
        let plane = &scenario.cluster.control_plane;
        let inflight = &plane.apiserver;
        let seats =
            inflight.max_requests_inflight.get() + inflight.max_mutating_requests_inflight.get();
        let nodes = Nodes::new(plan);
        Self {
            plan,
            sink,
            engine: Engine::default(),
            invs: Arena::default(),
            backend: Backend::new(plan),
            buckets: Buckets::new(plan),
            apiserver: ApiServer::new(seats, seed),
            etcd: Etcd::new(&plane.etcd, seed),
            machines: Machines::new(plan),
            jobs: JobController::new(plane.controller_manager.concurrent_job_syncs.get()),
            collector: Collector::new(plan),
            scheduler: Scheduler::default(),
            recorders: Recorders::new(nodes.len()),
            nodes,
            kwok: Kwok::default(),
            vault: Vault::new(plan),
            postgres: Postgres::new(&scenario.postgres, seed),
            open: 0,
            finished: false,
            ends_at: ends_at(plan),
        }
    }

    /// Schedules the first alert, the faults and the periodic events.
    pub fn begin(&mut self) {
        if let Some(at) = self.backend.next_alert() {
            self.engine.at(at, Ev::Alert);
        }
        self.schedule_faults();
        self.engine.after(Span::ZERO, Ev::Sample);
        self.engine.after(BACKGROUND, Ev::Background);
        self.engine.after(ADJUST_SEATS, Ev::AdjustSeats);
        let compaction = self.plan.scenario().cluster.control_plane.etcd.compaction_interval;
        self.engine.after(compaction, Ev::Compact);
    }

    /// Handles the next event; returns false when the run is over.
    pub fn step(&mut self) -> bool {
        let Some(event) = self.engine.pop() else {
            return false;
        };
        self.handle(event);
        !self.finished
    }

    pub fn on_background(&mut self) {
        self.heartbeats(BACKGROUND);
        let over = self.backend.is_idle()
            && self.invs.is_empty()
            && self.collector.is_idle()
            && !self.vault.has_leases();
        let faults_over = self.plan.faults().last().is_none_or(|last| last.until <= self.now());
        if (over && faults_over) || self.now() >= self.ends_at {
            self.finished = true;
        } else {
            self.engine.after(BACKGROUND, Ev::Background);
        }
    }

    pub fn now(&self) -> Time {
        self.engine.now()
    }

    pub fn running(&self) -> usize {
        self.open as usize
    }

    pub fn fact(&mut self, who: Key<Inv>, fact: Fact) {
        if let Some(inv) = self.invs.get(who) {
            let id = inv.id();
            self.fact_of(id, fact);
        }
    }

    /// Records a fact of an investigation that need not be in the arena: an alert, a lease.
    pub fn fact_of(&mut self, id: InvestigationId, fact: Fact) {
        let event = Event::of(self.now(), id, fact);
        self.sink.take(&event);
    }

    pub fn platform_fact(&mut self, fact: Fact) {
        let event = Event::platform(self.now(), fact);
        self.sink.take(&event);
    }

    pub fn stage(&mut self, who: Key<Inv>, stage: Stage) {
        self.open += u64::from(stage == Stage::Admitted);
        self.fact(who, Fact::Stage { stage });
    }

    /// Ends an investigation; only the first outcome counts.
    pub fn end(&mut self, who: Key<Inv>, outcome: Outcome) {
        if self.invs.get_mut(who).is_some_and(|inv| inv.end(outcome)) {
            self.open -= 1;
            self.fact(who, Fact::Ended { outcome });
        }
    }

    /// Books a wait on the investigation's critical path.
    pub fn wait(&mut self, who: Key<Inv>, component: Component, span: Span) {
        if let Some(inv) = self.invs.get_mut(who) {
            inv.wait(component, span);
        }
    }
}

/// When a run ends at the latest: `limits.run_for`, or long after the last alert's Job should have
/// been collected. A run with an outage that never ends has to stop.
fn ends_at(plan: &Plan) -> Time {
    let job = &plan.scenario().controller.job;
    match plan.scenario().limits.run_for {
        Span::ZERO => {
            let longest = plan.alerts_last() + job.active_deadline * 4 + job.ttl_after_finished;
            Time::ZERO + longest * 4 + Span::secs(86_400)
        }
        bound => Time::ZERO + bound,
    }
}

impl std::fmt::Debug for World<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("now", &self.now()).finish_non_exhaustive()
    }
}
