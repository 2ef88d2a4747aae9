//! kube-apiserver: a request passes the client's token bucket, API Priority and Fairness, the
//! host's cores and etcd before its answer reaches the client.

mod apf;
mod flow;

use alertstorm_model::event::{ApiCalls, Component, WaitSummary};
use alertstorm_model::seed::Stream;
use alertstorm_model::time::{Span, Time};
use slab::Slab;

use crate::agenda::Ev;
use crate::arena::Key;
use crate::call::{Call, Client, Then};
use crate::costs::{self, Op};
use crate::host::Process;
use crate::investigation::Inv;
use crate::meter::Meter;
use crate::streams;
use crate::world::World;

use apf::PriorityAndFairness;
use flow::Level;

/// `borrowingAdjustmentPeriod` of API Priority and Fairness.
pub(crate) const ADJUST_SEATS: Span = Span::secs(10);

#[derive(Debug)]
pub(crate) struct ApiServer {
    fairness: PriorityAndFairness,
    /// Calls from the client's decision to the answer.
    in_flight: Slab<Call>,
    counters: Vec<ApiCalls>,
    /// Incremented by a crash: requests of an earlier epoch are lost.
    epoch: u32,
    down: bool,
    retry_jitter: Stream,
    seat_waits: Meter,
    core_waits: Meter,
}

impl ApiServer {
    pub fn new(seats: u32, seed: u64) -> Self {
        Self {
            fairness: PriorityAndFairness::new(seats, seed),
            in_flight: Slab::new(),
            counters: vec![ApiCalls::default(); Op::COUNT * Level::COUNT],
            epoch: 0,
            down: false,
            retry_jitter: streams::api_retries(seed),
            seat_waits: Meter::default(),
            core_waits: Meter::default(),
        }
    }

    pub const fn restart(&mut self) {
        self.down = false;
    }

    fn counters(&mut self, op: Op, level: Level) -> &mut ApiCalls {
        let calls = &mut self.counters[op as usize * Level::COUNT + level.index()];
        if calls.verb.is_empty() {
            let cost = op.cost();
            calls.verb = cost.verb.to_owned();
            calls.resource = cost.resource.to_owned();
            calls.level = level.suggested().name.to_owned();
        }
        calls
    }

    /// Counts renewals of node leases, which are not simulated one by one.
    pub fn count_node_leases(&mut self, count: u64) {
        self.counters(Op::UpdateNodeLease, Level::NodeHigh).count += count;
    }

    /// By verb, resource and level; those without a call are left out.
    pub fn counted(&self) -> Vec<ApiCalls> {
        self.counters.iter().filter(|calls| calls.count > 0).cloned().collect()
    }

    pub fn waits(&self) -> [WaitSummary; 2] {
        [
            self.seat_waits.summary("API server: queue for a seat"),
            self.core_waits.summary("control plane: queue for a core, and work"),
        ]
    }
}

impl World<'_> {
    /// A client makes a call, which is sent once its bucket grants a token. `then` is handled with
    /// the answer. `path` is the investigation whose critical path includes the call.
    pub(crate) fn call(&mut self, client: Client, op: Op, then: Then, path: Option<Key<Inv>>) {
        let now = self.now();
        let granted = self.buckets.take(client, now);
        let id = self.apiserver.in_flight.insert(Call::new((client, op), then, path, now)) as u32;
        if granted > now {
            self.engine.at(granted, Ev::CallSend(id));
        } else {
            self.send(id);
        }
    }

    pub(crate) fn send(&mut self, id: u32) {
        let now = self.now();
        let server = &mut self.apiserver;
        let call = &mut server.in_flight[id as usize];
        let (op, client) = (call.op(), call.client());
        if let Some(waited) = call.send(now, server.epoch) {
            self.blame(id, client.bucket_component(), waited);
        }
        if self.apiserver.down {
            return self.retry(id, Component::ApiServerDown);
        }
        let level = flow::level(client);
        self.apiserver.counters(op, level).count += 1;
        match self.apiserver.fairness.arrive(now, level, flow::flow(client), id) {
            apf::Arrival::Runs => self.execute(id),
            apf::Arrival::Waits => {}
            apf::Arrival::Rejected => self.reject(id, level),
        }
    }

    /// The request has its seat: it needs a core, and then etcd if it writes.
    fn execute(&mut self, id: u32) {
        let now = self.now();
        let call = &mut self.apiserver.in_flight[id as usize];
        let queued = call.seated(now);
        let (op, client, then) = (call.op(), call.client(), call.then());
        self.blame(id, Component::ApiSeats, queued);
        self.apiserver.counters(op, flow::level(client)).queue_wait_ns += queued.0;
        self.apiserver.seat_waits.record(queued);
        let cost = op.cost();
        let etcd = if cost.write.is_some() { costs::ETCD_WRITE } else { Span::ZERO };
        let parts =
            [self.client_work(client, then), (Process::ApiServer, cost.api), (Process::Etcd, etcd)];
        if let Some(done) = self.run_on_control_plane(&parts, Ev::CallComputed(id), None) {
            self.on_call_computed(id, done);
        }
    }

    /// The request's processor time is over: its write, if any, is committed.
    pub(crate) fn on_call_computed(&mut self, id: u32, at: Time) {
        let call = self.apiserver.in_flight[id as usize];
        let mut done = at;
        let computing = call.seated_for(done);
        self.blame(id, Component::ControlPlaneCpu, computing);
        self.apiserver.core_waits.record(computing);
        if let Some(bytes) = call.op().cost().write {
            let committed = self.etcd.commit(done, bytes, call.op());
            self.blame(id, Component::Etcd, committed.since(done));
            done = committed;
        }
        let rtt = self.plan.scenario().cluster.network_rtt;
        self.engine.at(done + rtt, Ev::CallDone(id));
    }

    /// The client's process and its work for a call, if it runs on the control plane's machine.
    fn client_work(&self, client: Client, then: Then) -> (Process, Span) {
        let shared = self.plan.scenario().cluster.control_plane.shared_with_everything;
        match client {
            Client::JobController if matches!(then, Then::JobSync(_, step) if step.begins_sync()) => {
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

    pub(crate) fn on_call_done(&mut self, id: u32) {
        let now = self.now();
        let call = self.apiserver.in_flight[id as usize];
        if !call.is_of(self.apiserver.epoch) {
            return self.retry(id, Component::ApiServerDown);
        }
        let level = flow::level(call.client());
        self.apiserver.counters(call.op(), level).seat_ns += call.seated_for(now).0;
        self.apiserver.fairness.finish(now, level);
        self.dispatch_waiting(level);
        if call.op().cost().write.is_some() && self.etcd.is_full() {
            return self.retry(id, Component::Etcd);
        }
        self.apiserver.in_flight.remove(id as usize);
        self.on_answer(call);
    }

    /// Starts waiting requests of a level while it has idle seats.
    fn dispatch_waiting(&mut self, level: Level) {
        let now = self.now();
        while let Some(next) = self.apiserver.fairness.next(now, level) {
            match next {
                apf::Next::Runs(id) => self.execute(id),
                apf::Next::TimedOut(id) => self.reject(id, level),
            }
        }
    }

    /// API Priority and Fairness answers 429.
    fn reject(&mut self, id: u32, level: Level) {
        let op = self.apiserver.in_flight[id as usize].op();
        self.apiserver.counters(op, level).rejected += 1;
        self.retry(id, Component::ApiSeats);
    }

    /// The request failed; the client sends it again after a pause.
    fn retry(&mut self, id: u32, because: Component) {
        let pause = self.apiserver.in_flight[id as usize].fail();
        // Jitter, so that requests that failed together are not repeated together.
        let pause = pause.scale(0.5 + 0.5 * self.apiserver.retry_jitter.unit());
        self.blame(id, because, pause);
        self.engine.after(pause, Ev::CallSend(id));
    }

    /// API Priority and Fairness moves seats between levels.
    pub(crate) fn adjust_seats(&mut self) {
        let now = self.now();
        self.apiserver.fairness.adjust(now);
        for &level in Level::ALL {
            self.dispatch_waiting(level);
        }
        self.engine.after(ADJUST_SEATS, Ev::AdjustSeats);
    }

    /// The server crashes. Clients of queued requests notice at once; clients of running requests
    /// when the answer would have arrived.
    pub(crate) fn crash_api_server(&mut self) {
        self.apiserver.down = true;
        self.apiserver.epoch += 1;
        for id in self.apiserver.fairness.reset() {
            self.retry(id, Component::ApiServerDown);
        }
    }

    /// Books a wait of a call: on the investigation's critical path, and on the pool whose worker
    /// it held up.
    fn blame(&mut self, id: u32, component: Component, wait: Span) {
        if wait.0 == 0 {
            return;
        }
        let call = &self.apiserver.in_flight[id as usize];
        match call.then() {
            Then::JobSync(..) => self.jobs.blame(component, wait),
            Then::Kwok(..) => self.kwok.blame(component, wait),
            _ => {}
        }
        if let Some(inv) = call.path().and_then(|who| self.invs.get_mut(who)) {
            inv.wait(component, wait);
        }
    }

    /// The API server sends a changed object of an investigation to its watchers; `event` is handled
    /// when their informers have it.
    pub(crate) fn notify_watchers(&mut self, event: Ev, who: Key<Inv>) {
        let parts = [
            (Process::ApiServer, costs::WATCH_API),
            (Process::ControllerManager, costs::WATCH_CONTROLLERS),
        ];
        self.schedule_on_control_plane(&parts, event, Some(who));
    }
}

#[cfg(test)]
mod tests {
    use alertstorm_model::event::Event;
    use alertstorm_model::scenario::{NoFiles, load};

    use super::*;

    #[test]
    fn a_request_that_timed_out_in_its_queue_is_rejected_when_seats_are_moved() {
        let text = "alerts: [{flood: 1}]\ncluster: {control_plane: {apiserver: \
                    {max_requests_inflight: 1, max_mutating_requests_inflight: 1}}}\n";
        let plan = load(text, "test.yaml", &[], &NoFiles).unwrap();
        let mut events: Vec<Event> = Vec::new();
        let mut world = World::new(&plan, &mut events);
        // etcd holds the only seat of the level for a minute.
        world.etcd.block(Time::ZERO + Span::secs(60));
        for _ in 0..2 {
            world.call(Client::Backend, Op::CreateJob, Then::Nothing, None);
        }
        let adjusts = Time::ZERO + Span::secs(20);
        world.engine.at(adjusts, Ev::AdjustSeats);
        while world.now() < adjusts {
            world.step();
        }
        let rejected: Vec<u64> = world.apiserver.counted().iter().map(|c| c.rejected).collect();
        assert_eq!(rejected, [1]);
    }
}
