//! kube-apiserver: the way of a request through the client's bucket, API Priority and Fairness,
//! the host's cores and etcd, back to who asked.

mod apf;

pub(crate) use apf::{Level, PriorityAndFairness};

use alertstorm_model::event::{ApiCalls, Component};
use alertstorm_model::time::{Span, Time};

use crate::agenda::Ev;
use crate::costs::{self, Op};
use crate::host::Process;
use crate::investigation::Who;
use crate::job_controller::SyncStep;
use crate::kubelet::KubeletStep;
use crate::world::World;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    Backend,
    JobController,
    TtlController,
    GarbageCollector,
    NodeLifecycle,
    Scheduler,
    SchedulerEvents,
    Kubelet(u32),
    KubeletEvents(u32),
    Kwok,
    Vault,
    Agent,
}

impl Client {
    /// The flow schema's priority level, as kube-apiserver's suggested configuration has it.
    const fn level(self) -> Level {
        match self {
            Self::JobController
            | Self::TtlController
            | Self::GarbageCollector
            | Self::NodeLifecycle
            | Self::Scheduler
            | Self::SchedulerEvents => Level::WorkloadHigh,
            Self::Kubelet(_) | Self::KubeletEvents(_) => Level::System,
            Self::Backend | Self::Vault | Self::Agent => Level::WorkloadLow,
            // KWOK runs as an administrator.
            Self::Kwok => Level::Exempt,
        }
    }

    /// Distinguishes flows within a level: one a user.
    fn flow(self, who: Who) -> u64 {
        match self {
            Self::Kubelet(node) | Self::KubeletEvents(node) => 1_000 + u64::from(node),
            Self::Agent => 1 << 32 | u64::from(who.slot),
            Self::Backend => 1,
            Self::JobController => 2,
            Self::TtlController => 3,
            Self::GarbageCollector => 4,
            Self::NodeLifecycle => 5,
            Self::Scheduler | Self::SchedulerEvents => 6,
            Self::Kwok => 7,
            Self::Vault => 8,
        }
    }

    /// What an investigation waits for when it waits for this client's bucket.
    const fn bucket_component(self) -> Component {
        match self {
            Self::Scheduler | Self::SchedulerEvents => Component::SchedulerBucket,
            Self::Kubelet(_) | Self::KubeletEvents(_) => Component::KubeletBucket,
            Self::JobController => Component::JobControllerBucket,
            _ => Component::BackendClient,
        }
    }
}

/// What happens when the answer is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Nothing,
    /// A recorder of events sends its next.
    Recorded(Recorder),
    BackendAccount,
    BackendBinding,
    BackendJob,
    JobSync(SyncStep),
    Ttl {
        deleted: bool,
    },
    Collect(u8),
    Bound,
    Kubelet(KubeletStep),
    Kwok {
        complete: bool,
    },
    TokenReviewed,
    TokenMade,
    AgentActed,
}

impl Then {
    /// Whether the call is the first of a sync of the Job controller, which worked out what to do.
    const fn begins_sync(self) -> bool {
        use SyncStep::{PodCreated, PodDeleted, StatusInterim, StatusReady};
        matches!(self, Self::JobSync(PodCreated | StatusReady | StatusInterim | PodDeleted))
    }
}

/// Whose events go out one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recorder {
    JobController,
    Scheduler,
    Kubelet(u32),
}

/// A request under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub op: Op,
    pub client: Client,
    pub who: Who,
    pub then: Then,
    /// Whether an investigation's critical path goes through it.
    pub on_path: bool,
    /// When the client asked for it.
    asked: Time,
    /// When it came to the level's queue, and later when it was given its seat.
    since: Time,
    attempt: u8,
    epoch: u32,
}

/// kube-apiserver's counters and state.
#[derive(Debug)]
pub(crate) struct ApiServer {
    pub fairness: PriorityAndFairness,
    calls: Vec<ApiCalls>,
    /// Requests of an earlier epoch died with the server.
    epoch: u32,
    pub down: bool,
}

impl ApiServer {
    pub fn new(seats: u32, seed: u64) -> Self {
        Self {
            fairness: PriorityAndFairness::new(seats, seed),
            calls: vec![ApiCalls::default(); Op::COUNT * Level::COUNT],
            epoch: 0,
            down: false,
        }
    }

    pub fn crash(&mut self) {
        self.down = true;
        self.epoch += 1;
    }

    fn counters(&mut self, op: Op, level: Level) -> &mut ApiCalls {
        let calls = &mut self.calls[op as usize * Level::COUNT + level.index()];
        if calls.verb.is_empty() {
            let cost = op.cost();
            calls.verb = cost.verb.to_owned();
            calls.resource = cost.resource.to_owned();
            calls.level = level.word().to_owned();
        }
        calls
    }

    /// Calls that are not simulated one by one.
    pub fn count_many(&mut self, op: Op, level: Level, count: u64) {
        self.counters(op, level).count += count;
    }

    pub fn counted(&self) -> Vec<ApiCalls> {
        self.calls.iter().filter(|calls| calls.count > 0).cloned().collect()
    }
}

/// First pause after a request failed; doubles up to [`RETRY_MAX`], as client-go's back-off does.
const RETRY: Span = Span::secs(1);
const RETRY_MAX: Span = Span::secs(16);

impl World<'_> {
    /// A client asks for something; `then` happens when it is done.
    pub(crate) fn call(&mut self, client: Client, op: Op, who: Who, then: Then, on_path: bool) {
        let now = self.now();
        let call = Call {
            op,
            client,
            who,
            then,
            on_path,
            asked: now,
            since: now,
            attempt: 0,
            epoch: self.apiserver.epoch,
        };
        let granted = self.bucket(client).map_or(now, |bucket| bucket.take(now));
        let id = self.calls.insert(call) as u32;
        if granted > now {
            self.meters.bucket(client).record(granted.since(now));
            self.engine.at(granted, Ev::CallSend(id));
        } else {
            self.send(id);
        }
    }

    pub(crate) fn send(&mut self, id: u32) {
        let now = self.now();
        let call = &mut self.calls[id as usize];
        let waited = now.since(call.asked);
        call.since = now;
        call.epoch = self.apiserver.epoch;
        let (op, client, who, attempt) = (call.op, call.client, call.who, call.attempt);
        if attempt == 0 {
            self.blame(id, client.bucket_component(), waited);
        }
        if self.apiserver.down {
            return self.retry(id, Component::ApiServerDown);
        }
        let level = client.level();
        self.apiserver.counters(op, level).count += 1;
        match self.apiserver.fairness.arrive(now, level, client.flow(who), id) {
            apf::Arrival::Runs => self.execute(id),
            apf::Arrival::Waits => {}
            apf::Arrival::Rejected => {
                self.apiserver.counters(op, level).rejected += 1;
                self.retry(id, Component::ApiSeats);
            }
        }
    }

    /// The request has its seat: it takes a core, and etcd if it writes.
    fn execute(&mut self, id: u32) {
        let now = self.now();
        let Call { op, client, then, since, .. } = self.calls[id as usize];
        let queued = now.since(since);
        self.blame(id, Component::ApiSeats, queued);
        self.apiserver.counters(op, client.level()).queue_wait_ns += queued.0;
        self.meters.seats.record(queued);
        let cost = op.cost();
        let etcd = if cost.write.is_some() { costs::ETCD_WRITE } else { Span::ZERO };
        let parts =
            [self.own_work(client, then), (Process::ApiServer, cost.api), (Process::Etcd, etcd)];
        self.calls[id as usize].since = now;
        if let Some(done) = self.control_plane.run(now, &parts, Ev::CallComputed(id), None) {
            self.computed(id, done);
        } else {
            self.control_plane_ticks();
        }
    }

    /// The request has had its cores: what it writes is committed.
    pub(crate) fn computed(&mut self, id: u32, at: Time) {
        let Call { op, since, .. } = self.calls[id as usize];
        let mut done = at;
        self.blame(id, Component::ControlPlaneCpu, done.since(since));
        self.meters.cores.record(done.since(since));
        if let Some(bytes) = op.cost().write {
            let committed = self.etcd.commit(done, bytes, op);
            self.blame(id, Component::Etcd, committed.since(done));
            self.meters.etcd.record(committed.since(done));
            done = committed;
        }
        let rtt = self.plan.scenario().cluster.network_rtt;
        self.engine.at(done + rtt, Ev::CallDone(id));
    }

    /// The process that encodes the request and decodes the answer, and its work for one, where it
    /// runs on the control plane's machine.
    fn own_work(&self, client: Client, then: Then) -> (Process, Span) {
        let shared = self.plan.scenario().cluster.control_plane.shared_with_everything;
        match client {
            Client::JobController if then.begins_sync() => {
                (Process::ControllerManager, costs::JOB_SYNC + costs::CONTROLLER_CALL)
            }
            Client::JobController
            | Client::TtlController
            | Client::GarbageCollector
            | Client::NodeLifecycle => (Process::ControllerManager, costs::CONTROLLER_CALL),
            Client::Scheduler | Client::SchedulerEvents => {
                (Process::Scheduler, costs::SCHEDULER_CALL)
            }
            Client::Kwok if shared => (Process::Nodes, costs::KWOK_STAGE),
            Client::Kubelet(_) | Client::KubeletEvents(_) if shared => {
                (Process::Nodes, costs::KUBELET_CALL)
            }
            Client::Backend if shared => {
                (Process::Backend, self.plan.scenario().controller.client.cpu_per_job)
            }
            _ => (Process::ApiServer, Span::ZERO),
        }
    }

    pub(crate) fn call_done(&mut self, id: u32) {
        let now = self.now();
        let call = self.calls[id as usize];
        if call.epoch != self.apiserver.epoch {
            return self.retry(id, Component::ApiServerDown);
        }
        let level = call.client.level();
        self.apiserver.counters(call.op, level).seat_ns += now.since(call.since).0;
        self.release_seat(level);
        if call.op.cost().write.is_some() && self.etcd.full() {
            return self.retry(id, Component::Etcd);
        }
        self.calls.remove(id as usize);
        self.answered(call);
    }

    fn release_seat(&mut self, level: Level) {
        let now = self.now();
        self.apiserver.fairness.finish(now, level);
        while let Some(next) = self.apiserver.fairness.next(now, level) {
            match next {
                apf::Next::Runs(id) => self.execute(id),
                apf::Next::TimedOut(id) => {
                    let op = self.calls[id as usize].op;
                    self.apiserver.counters(op, level).rejected += 1;
                    self.retry(id, Component::ApiSeats);
                }
            }
        }
    }

    /// The request failed: the client tries again after a pause.
    fn retry(&mut self, id: u32, because: Component) {
        let call = &mut self.calls[id as usize];
        let pause = Span((RETRY.0 << call.attempt.min(4)).min(RETRY_MAX.0));
        call.attempt = call.attempt.saturating_add(1);
        // Requests that failed together must not come back together.
        let jitter = self.backoff.unit();
        let pause = pause.scale(0.5 + 0.5 * jitter);
        self.blame(id, because, pause);
        self.engine.after(pause, Ev::CallSend(id));
    }

    /// API Priority and Fairness moves seats between levels; what waited may run now.
    pub(crate) fn adjust_seats(&mut self) {
        let now = self.now();
        self.apiserver.fairness.adjust(now);
        for &level in Level::ALL {
            while let Some(next) = self.apiserver.fairness.next(now, level) {
                match next {
                    apf::Next::Runs(id) => self.execute(id),
                    apf::Next::TimedOut(id) => self.retry(id, Component::ApiSeats),
                }
            }
        }
    }

    /// All requests in the server are lost; their clients notice when they would have been done,
    /// those in the queues at once.
    pub(crate) fn crash_api_server(&mut self) {
        self.apiserver.crash();
        for id in self.apiserver.fairness.reset() {
            self.retry(id, Component::ApiServerDown);
        }
    }

    /// Books a wait where it belongs: on the investigation's path, and on the clock of the pool
    /// whose worker it held up.
    fn blame(&mut self, id: u32, component: Component, wait: Span) {
        if wait.0 == 0 {
            return;
        }
        let Call { who, then, on_path, .. } = self.calls[id as usize];
        match then {
            Then::JobSync(_) => self.jobs.pool.blame(component, wait),
            Then::Kwok { .. } => self.kwok.pool.blame(component, wait),
            _ => {}
        }
        if on_path && let Some(inv) = self.invs.get_mut(who) {
            inv.wait(component, wait);
        }
    }

    /// A change is told to those who watch; they act on it when they have seen it.
    pub(crate) fn watchers_see(&mut self, event: Ev, who: Who) {
        let parts = [
            (Process::ApiServer, costs::WATCH_API),
            (Process::ControllerManager, costs::WATCH_CONTROLLERS),
        ];
        self.control_plane_runs(&parts, event, Some(who));
    }
}
