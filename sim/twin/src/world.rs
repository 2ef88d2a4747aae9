//! The world: all components side by side, and what they all need of each other.

use alertstorm_model::event::{Component, Event, Fact, Sink};
use alertstorm_model::investigation::{InvestigationId, Outcome, Stage};
use alertstorm_model::scenario::Plan;
use alertstorm_model::seed::{Purpose, Stream};
use alertstorm_model::time::{Span, Time};
use slab::Slab;

use crate::agenda::Ev;
use crate::apiserver::{ApiServer, Call, Client, Then};
use crate::arena::Arena;
use crate::backend::Backend;
use crate::bucket::Bucket;
use crate::collector::Workers;
use crate::engine::Engine;
use crate::etcd::Etcd;
use crate::host::{Cores, Host, Parts, Process, Task};
use crate::investigation::{Inv, Who};
use crate::job_controller::JobController;
use crate::kubelet::Nodes;
use crate::kwok::Kwok;
use crate::postgres::Postgres;
use crate::recorder::EventSink;
use crate::sample::Meters;
use crate::scheduler::Scheduler;
use crate::vault::Vault;

/// The period of what goes on without load: idle work, node leases.
const BACKGROUND: Span = Span::millis(100);
/// `borrowingAdjustmentPeriod` of API Priority and Fairness.
pub(crate) const ADJUST_SEATS: Span = Span::secs(10);
/// After the last investigation ended, samples are taken this many times less often.
pub(crate) const TAIL_SAMPLES: u64 = 20;

/// A machine beside the control plane's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Machine {
    Vault,
    Postgres,
}

/// The token buckets of the platform's clients; those of kubelets are at their nodes.
#[derive(Debug)]
pub(crate) struct Buckets {
    pub job_controller: Bucket,
    pub ttl: Bucket,
    pub gc: Bucket,
    pub node_lifecycle: Bucket,
    pub scheduler: Bucket,
    pub scheduler_events: Bucket,
}

pub(crate) struct World<'a> {
    pub plan: &'a Plan,
    pub sink: &'a mut dyn Sink,
    pub engine: Engine<Ev>,
    pub invs: Arena<Inv>,
    /// Jobs that are finished and not collected.
    pub finished_jobs: Arena<InvestigationId>,
    pub backend: Backend<'a>,
    pub calls: Slab<Call>,
    pub apiserver: ApiServer,
    pub etcd: Etcd,
    pub control_plane: Host<Ev>,
    /// The machines of Vault and of PostgreSQL, unless they share the control plane's.
    pub own_machines: Option<[Cores; 2]>,
    host_done: Vec<Task<Ev>>,
    pub buckets: Buckets,
    pub jobs: JobController,
    pub job_events: EventSink,
    pub ttl: Workers,
    pub gc: Workers,
    pub scheduler: Scheduler,
    pub scheduler_events: EventSink,
    pub nodes: Nodes,
    pub kwok: Kwok,
    pub vault: Vault,
    pub postgres: Postgres,
    pub meters: Meters,
    pub backoff: Stream,
    finished: bool,
    /// The run ends here, whatever is left.
    ends_at: Time,
    pub open: u64,
}

impl<'a> World<'a> {
    pub fn new(plan: &'a Plan, sink: &'a mut dyn Sink) -> Self {
        let scenario = plan.scenario();
        let seed = scenario.seed;
        let plane = &scenario.cluster.control_plane;
        let manager = &plane.controller_manager;
        let bucket = |factor: f64| {
            Bucket::new(manager.kube_api_qps.0 * factor, manager.kube_api_burst.get())
        };
        let scheduler =
            || Bucket::new(plane.scheduler.kube_api_qps.0, plane.scheduler.kube_api_burst.get());
        let inflight = &plane.apiserver;
        let seats =
            inflight.max_requests_inflight.get() + inflight.max_mutating_requests_inflight.get();
        let own = [
            Cores::new("vault", Process::Vault, scenario.vault.cores.get()),
            Cores::new("postgres", Process::Postgres, scenario.postgres.cores.get()),
        ];
        let job = &scenario.controller.job;
        // An outage that never ends must not run for ever: nothing that is still open long after
        // the last alert's Job should have been collected will come to an end.
        let longest = plan.alerts_last() + job.active_deadline * 4 + job.ttl_after_finished;
        let ends_at = match scenario.limits.run_for {
            Span::ZERO => Time::ZERO + longest * 4 + Span::secs(86_400),
            bound => Time::ZERO + bound,
        };
        Self {
            plan,
            sink,
            engine: Engine::default(),
            invs: Arena::default(),
            finished_jobs: Arena::default(),
            backend: Backend::new(plan),
            calls: Slab::new(),
            apiserver: ApiServer::new(seats, seed),
            etcd: Etcd::new(&plane.etcd, seed),
            control_plane: Host::new("control plane", plane.cores.get()),
            own_machines: (!plane.shared_with_everything).then_some(own),
            host_done: Vec::new(),
            buckets: Buckets {
                job_controller: bucket(1.0),
                ttl: bucket(1.0),
                gc: bucket(2.0),
                node_lifecycle: bucket(1.0),
                scheduler: scheduler(),
                scheduler_events: scheduler(),
            },
            jobs: JobController::new(manager.concurrent_job_syncs.get()),
            job_events: EventSink::default(),
            ttl: Workers::new(manager.concurrent_ttl_syncs.get()),
            gc: Workers::new(manager.concurrent_gc_syncs.get()),
            scheduler: Scheduler::default(),
            scheduler_events: EventSink::default(),
            nodes: Nodes::new(plan),
            kwok: Kwok::default(),
            vault: Vault::new(plan),
            postgres: Postgres::new(&scenario.postgres, seed),
            meters: Meters::default(),
            backoff: Stream::new(seed, Purpose::Backoff, 0),
            finished: false,
            ends_at,
            open: 0,
        }
    }

    /// Everything that begins by itself.
    pub fn begin(&mut self) {
        if let Some(at) = self.backend.next_alert() {
            self.engine.at(at, Ev::Alert);
        }
        self.plan_faults();
        self.engine.after(Span::ZERO, Ev::Sample);
        self.engine.after(BACKGROUND, Ev::Background);
        self.engine.after(ADJUST_SEATS, Ev::AdjustSeats);
        let compaction = self.plan.scenario().cluster.control_plane.etcd.compaction_interval;
        self.engine.after(compaction, Ev::Compact);
    }

    /// Handles the next event; false when the run is over.
    pub fn step(&mut self) -> bool {
        let Some(event) = self.engine.pop() else {
            return false;
        };
        self.handle(event);
        !self.finished
    }

    pub fn background_tick(&mut self) {
        self.heartbeats(BACKGROUND);
        let over = self.backend.is_idle()
            && self.invs.len() + self.finished_jobs.len() == 0
            && self.vault.leases.len() == 0;
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

    /// Investigations admitted and not ended.
    pub fn running(&self) -> usize {
        self.open as usize
    }

    pub fn fact(&mut self, who: Who, fact: Fact) {
        if let Some(inv) = self.invs.get(who) {
            let id = inv.alert.id;
            self.fact_of(id, fact);
        }
    }

    pub fn platform_fact(&mut self, fact: Fact) {
        let event = Event::platform(self.now(), fact);
        self.sink.take(&event);
    }

    pub fn stage(&mut self, who: Who, stage: Stage) {
        self.open += u64::from(stage == Stage::Admitted);
        self.fact(who, Fact::Stage { stage });
    }

    /// The investigation is over; the first word counts.
    pub fn end(&mut self, who: Who, outcome: Outcome) {
        let Some(inv) = self.invs.get_mut(who) else {
            return;
        };
        if inv.outcome.is_none() {
            inv.outcome = Some(outcome);
            self.open -= 1;
            self.fact(who, Fact::Ended { outcome });
        }
    }

    /// The bucket that a client's calls go through, if it has one.
    pub fn bucket(&mut self, client: Client) -> Option<&mut Bucket> {
        let buckets = &mut self.buckets;
        Some(match client {
            Client::Backend => return self.backend.bucket.as_mut(),
            Client::JobController => &mut buckets.job_controller,
            Client::TtlController => &mut buckets.ttl,
            Client::GarbageCollector => &mut buckets.gc,
            Client::NodeLifecycle => &mut buckets.node_lifecycle,
            Client::Scheduler => &mut buckets.scheduler,
            Client::SchedulerEvents => &mut buckets.scheduler_events,
            Client::Kubelet(node) => &mut self.nodes.list[node as usize].bucket,
            Client::KubeletEvents(node) => &mut self.nodes.list[node as usize].event_bucket,
            Client::Kwok | Client::Vault | Client::Agent => return None,
        })
    }

    /// Work on the control plane's machine that ends with an event.
    pub fn control_plane_runs(&mut self, parts: Parts<'_>, event: Ev, who: Option<Who>) {
        let now = self.now();
        match self.control_plane.run(now, parts, event, who) {
            Some(done) => {
                if let Some(inv) = who.and_then(|who| self.invs.get_mut(who)) {
                    inv.wait(Component::ControlPlaneCpu, done.since(now));
                }
                self.engine.at(done, event);
            }
            None => self.control_plane_ticks(),
        }
    }

    /// Work of the control plane that nobody waits for.
    pub fn background(&mut self, parts: Parts<'_>) {
        let now = self.now();
        if self.control_plane.run(now, parts, Ev::Nothing, None).is_none() {
            self.control_plane_ticks();
        }
    }

    /// Sees to it that the machine's books are looked at when its next piece of work is done.
    pub fn control_plane_ticks(&mut self) {
        if let Some(at) = self.control_plane.next_end()
            && at < self.control_plane.tick_at
        {
            self.control_plane.tick_at = at;
            self.engine.at(at, Ev::HostTick);
        }
    }

    pub fn host_tick(&mut self) {
        let now = self.now();
        if self.control_plane.tick_at != now {
            // An earlier tick was asked for after this one.
            return;
        }
        self.control_plane.tick_at = Time::NEVER;
        let mut done = std::mem::take(&mut self.host_done);
        self.control_plane.tick(now, &mut done);
        for Task { event, since, who, .. } in done.drain(..) {
            if let Some(inv) = who.and_then(|who| self.invs.get_mut(who)) {
                inv.wait(Component::ControlPlaneCpu, now.since(since));
            }
            self.handle(event);
        }
        self.host_done = done;
        self.control_plane_ticks();
    }

    /// Work of Vault or PostgreSQL: on a machine of its own in the order of coming, on a shared one
    /// at its share of the cores.
    pub fn work_on(&mut self, machine: Machine, cost: Span) -> Time {
        let now = self.now();
        match &mut self.own_machines {
            Some(own) => own[machine as usize].run(now, cost),
            None => {
                let process = [Process::Vault, Process::Postgres][machine as usize];
                self.control_plane.run_estimated(now, process, cost)
            }
        }
    }

    /// The API server's answer reaches who asked.
    pub fn answered(&mut self, call: Call) {
        let who = call.who;
        match call.then {
            Then::Nothing => {}
            Then::Recorded(recorder) => self.event_sent(recorder),
            Then::BackendAccount => self.account_created(who),
            Then::BackendBinding => self.binding_created(who),
            Then::BackendJob => self.job_answered(who),
            Then::JobSync(step) => self.job_called(who, step),
            Then::Ttl { deleted } => self.ttl_called(who, deleted),
            Then::Collect(done) => self.collected_step(who, done),
            Then::Bound => self.bound(who),
            Then::Kubelet(step) => self.kubelet_called(who, step),
            Then::Kwok { complete } => self.kwok_played(who, complete),
            Then::TokenReviewed => self.token_reviewed(who),
            Then::TokenMade => self.credential_made(who, None),
            Then::AgentActed => self.acted(who),
        }
    }

    pub fn refuse_credential(&mut self, who: Who) {
        let target = self.invs.get_mut(who).and_then(|inv| inv.taking.take());
        if let Some(target) = target {
            self.credential_refused(who, target);
        }
    }
}

impl std::fmt::Debug for World<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("now", &self.now()).finish_non_exhaustive()
    }
}
