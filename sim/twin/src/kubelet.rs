//! The nodes: room for pods, the kubelet's way from a bound pod to a running one, and its status
//! updates. Facts from pkg/kubelet v1.36.3: a status update is a GET and a PATCH of a single
//! manager (status_manager.go), container ends are seen at the next relist (pleg/generic.go).

use alertstorm_model::event::Component;
use alertstorm_model::investigation::{Outcome, Stage};
use alertstorm_model::scenario::Plan;
use alertstorm_model::scenario::knobs::NodeRuntime;
use alertstorm_model::seed::{Purpose, Stream};
use alertstorm_model::time::{Span, Time};

use crate::agenda::Ev;
use crate::apiserver::{Client, Recorder, Then};
use crate::bucket::Bucket;
use crate::costs::{self, Op};
use crate::host::Process;
use crate::investigation::{PodPhase, Who};
use crate::recorder::EventSink;
use crate::world::World;

/// The kubelet's call that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KubeletStep {
    ConfigMap,
    /// The token for Vault.
    VaultToken,
    /// The token for the API server.
    Token,
    StatusRead,
    StatusWritten {
        ended: bool,
    },
}

#[derive(Debug)]
pub(crate) struct Node {
    pods: u32,
    cpu_millis: u32,
    memory: u64,
    /// When the image is there; never, while nobody pulled it.
    image_at: Time,
    /// The node's relists are this much off the full period.
    relist_offset: Span,
    pub bucket: Bucket,
    pub event_bucket: Bucket,
    pub events: EventSink,
    pub down: bool,
}

/// All nodes.
#[derive(Debug)]
pub(crate) struct Nodes {
    pub list: Vec<Node>,
    cpu_request: u32,
    memory_request: u64,
}

impl Nodes {
    pub fn new(plan: &Plan) -> Self {
        let cluster = &plan.scenario().cluster;
        let knobs = &cluster.node;
        let mut offsets = Stream::new(plan.scenario().seed, Purpose::PodStart, u64::MAX);
        let node = |_| Node {
            pods: knobs.pods.get(),
            cpu_millis: knobs.cpu.get() * 1_000,
            memory: knobs.memory.0,
            image_at: if knobs.image_present { Time::ZERO } else { Time::NEVER },
            relist_offset: Span(offsets.below(knobs.relist_period.0)),
            bucket: Bucket::new(knobs.kube_api_qps.0, knobs.kube_api_burst.get()),
            // The kubelet's eventRecordQPS and eventBurst are 50 and 100.
            event_bucket: Bucket::new(50.0, 100),
            events: EventSink::default(),
            down: false,
        };
        let job = &plan.scenario().controller.job;
        Self {
            list: (0..cluster.nodes.get()).map(node).collect(),
            cpu_request: job.cpu_request_millis,
            memory_request: job.memory_request.0,
        }
    }

    const fn fits(&self, node: &Node) -> bool {
        !node.down
            && node.pods > 0
            && node.cpu_millis >= self.cpu_request
            && node.memory >= self.memory_request
    }

    /// The least loaded of the first so many that fit, from where the last look ended.
    pub fn pick(&self, next: &mut usize, feasible_max: usize) -> Option<u32> {
        let n = self.list.len();
        let mut best: Option<usize> = None;
        let (mut looked, mut feasible) = (0, 0);
        while looked < n && feasible < feasible_max {
            let index = (*next + looked) % n;
            looked += 1;
            if self.fits(&self.list[index]) {
                feasible += 1;
                let freer = |best: usize| self.list[index].cpu_millis > self.list[best].cpu_millis;
                if best.is_none_or(freer) {
                    best = Some(index);
                }
            }
        }
        *next = (*next + looked) % n;
        best.map(|index| index as u32)
    }

    pub fn reserve(&mut self, node: u32) {
        let (cpu, memory) = (self.cpu_request, self.memory_request);
        let node = &mut self.list[node as usize];
        node.pods -= 1;
        node.cpu_millis -= cpu;
        node.memory -= memory;
    }

    fn free(&mut self, node: u32) {
        let (cpu, memory) = (self.cpu_request, self.memory_request);
        let node = &mut self.list[node as usize];
        node.pods += 1;
        node.cpu_millis += cpu;
        node.memory += memory;
    }
}

impl World<'_> {
    /// The node's kubelet (or KWOK) sees that a pod is its own.
    pub(crate) fn pod_bound(&mut self, who: Who) {
        let now = self.now();
        let knobs = &self.plan.scenario().cluster.node;
        let Some(inv) = self.invs.get_mut(who) else {
            return;
        };
        let Some(node) = inv.node else { return };
        if inv.phase != PodPhase::Pending || self.nodes.list[node as usize].down {
            return;
        }
        if knobs.runtime == NodeRuntime::Kwok {
            inv.phase = PodPhase::Running;
            return self.kwok_queue(who, false);
        }
        let mut stream = Stream::new(self.plan.scenario().seed, Purpose::PodStart, inv.alert.id.0);
        let image = &mut self.nodes.list[node as usize].image_at;
        if *image == Time::NEVER {
            *image = now + knobs.image_pull.dist.draw(&mut stream);
        }
        let pulled = (*image).max(now);
        let start = knobs.sandbox_start.dist.draw(&mut stream)
            + knobs.container_start.dist.draw(&mut stream);
        inv.wait(Component::ImagePull, pulled.since(now));
        inv.wait(Component::PodStart, start);
        inv.queued_at = pulled + start;
        // Volumes come first: the namespace's CA bundle, then the projected tokens: one for
        // Vault, one for the API server.
        let then = Then::Kubelet(KubeletStep::ConfigMap);
        self.call(Client::Kubelet(node), Op::GetConfigMap, who, then, true);
        for _ in 0..3 {
            // Pulled, Created, Started.
            self.record_event(Recorder::Kubelet(node), who);
        }
    }

    pub(crate) fn kubelet_called(&mut self, who: Who, step: KubeletStep) {
        let now = self.now();
        let Some(inv) = self.invs.get_mut(who) else {
            return;
        };
        let Some(node) = inv.node.filter(|node| !self.nodes.list[*node as usize].down) else {
            return;
        };
        match step {
            KubeletStep::ConfigMap => {
                let then = Then::Kubelet(KubeletStep::VaultToken);
                self.call(Client::Kubelet(node), Op::CreateToken, who, then, true);
            }
            KubeletStep::VaultToken => {
                let then = Then::Kubelet(KubeletStep::Token);
                self.call(Client::Kubelet(node), Op::CreateToken, who, then, true);
            }
            KubeletStep::Token => {
                // Sandbox and container start when image and volumes are there.
                let started = inv.queued_at.max(now);
                self.engine.at(started, Ev::ContainerStarted(who.slot, who.generation));
            }
            KubeletStep::StatusRead => {
                let ended = inv.phase >= PodPhase::Ended;
                let then = Then::Kubelet(KubeletStep::StatusWritten { ended });
                self.call(Client::Kubelet(node), Op::PatchPodStatus, who, then, true);
            }
            KubeletStep::StatusWritten { ended } => self.status_written(who, ended),
        }
    }

    /// The agent's process runs; its status says so after the next relist.
    pub(crate) fn container_started(&mut self, who: Who) {
        let Some(inv) = self.invs.get_mut(who) else {
            return;
        };
        let Some(node) = inv.node else { return };
        if inv.phase != PodPhase::Pending || self.nodes.list[node as usize].down {
            return;
        }
        inv.phase = PodPhase::Running;
        inv.wait(Component::PodStart, costs::AGENT_START);
        self.relist_soon(who, node);
        self.engine.after(costs::AGENT_START, Ev::AgentStarts(who.slot, who.generation));
    }

    fn relist_soon(&mut self, who: Who, node: u32) {
        let period = self.plan.scenario().cluster.node.relist_period.0;
        let offset = self.nodes.list[node as usize].relist_offset.0;
        let now = self.now().0;
        let next = (now.saturating_sub(offset) / period + 1) * period + offset;
        self.engine.at(Time(next), Ev::Relist(who.slot, who.generation));
    }

    /// The kubelet's relist finds the pod changed and updates its status.
    pub(crate) fn relist(&mut self, who: Who) {
        let Some(inv) = self.invs.get_mut(who) else {
            return;
        };
        let Some(node) = inv.node.filter(|node| !self.nodes.list[*node as usize].down) else {
            return;
        };
        if inv.status_busy || inv.status_phase >= inv.phase {
            return;
        }
        inv.status_busy = true;
        let then = Then::Kubelet(KubeletStep::StatusRead);
        self.call(Client::Kubelet(node), Op::GetPod, who, then, true);
    }

    fn status_written(&mut self, who: Who, ended: bool) {
        let Some(inv) = self.invs.get_mut(who) else {
            return;
        };
        inv.status_busy = false;
        let phase = if ended { PodPhase::Ended } else { PodPhase::Running };
        inv.status_phase = inv.status_phase.max(phase);
        let behind = inv.phase > inv.status_phase;
        // A pod that ends before a relist goes from Pending to its end; its status tells of both.
        if !std::mem::replace(&mut inv.reached_running, true) {
            self.stage(who, Stage::PodRunning);
        }
        if ended {
            self.leave_node(who);
            self.watchers_see(Ev::PodEndSeen(who.slot, who.generation), who);
        } else {
            self.watchers_see(Ev::PodRunningSeen(who.slot, who.generation), who);
        }
        if behind {
            self.relist(who);
        }
    }

    /// The pod's containers have ended: the node has its room back.
    pub(crate) fn leave_node(&mut self, who: Who) {
        if let Some(node) = self.invs.get_mut(who).and_then(|inv| inv.node.take()) {
            self.nodes.free(node);
            self.room_made();
        }
    }

    /// The agent's process is over; the kubelet sees it at its next relist.
    pub(crate) fn container_ended(&mut self, who: Who) {
        let Some(inv) = self.invs.get_mut(who) else {
            return;
        };
        inv.phase = PodPhase::Ended;
        inv.agent = None;
        if let Some(node) = inv.node {
            self.relist_soon(who, node);
        }
    }

    /// The pod was deleted from outside: what runs is stopped; what never ran has no more to tell.
    pub(crate) fn pod_deleted(&mut self, who: Who, outcome: Outcome) {
        let Some(inv) = self.invs.get_mut(who) else {
            return;
        };
        let node_down = inv.node.is_some_and(|node| self.nodes.list[node as usize].down);
        match inv.phase {
            PodPhase::Running if !node_down => self.terminate(who, outcome),
            PodPhase::None | PodPhase::Pending | PodPhase::Running => {
                self.end(who, outcome);
                if let Some(inv) = self.invs.get_mut(who) {
                    inv.phase = PodPhase::Ended;
                    inv.status_phase = PodPhase::Ended;
                    inv.agent = None;
                }
                self.leave_node(who);
                self.watchers_see(Ev::PodEndSeen(who.slot, who.generation), who);
            }
            PodPhase::Ended => {}
        }
    }

    /// A node loses power: what ran there is over, and nobody tells.
    pub(crate) fn node_down(&mut self, node: u32) {
        self.nodes.list[node as usize].down = true;
        for who in self.invs.keys() {
            let Some(inv) = self.invs.get_mut(who).filter(|inv| inv.node == Some(node)) else {
                continue;
            };
            if inv.phase == PodPhase::Running {
                inv.agent = None;
                self.end(who, Outcome::Evicted);
            }
        }
        let manager = &self.plan.scenario().cluster.control_plane.controller_manager;
        let evicts = manager.node_monitor_grace_period + manager.not_ready_toleration;
        self.engine.after(evicts, Ev::EvictNode(node));
    }

    /// The node was away for so long that its pods are deleted.
    pub(crate) fn evict_node(&mut self, node: u32) {
        if !self.nodes.list[node as usize].down {
            return;
        }
        for who in self.invs.keys() {
            let on_it = self
                .invs
                .get(who)
                .is_some_and(|inv| inv.node == Some(node) && inv.phase < PodPhase::Ended);
            if on_it {
                self.call(Client::NodeLifecycle, Op::DeletePod, who, Then::Nothing, false);
                self.pod_deleted(who, Outcome::Evicted);
            }
        }
    }

    /// Power is back: the kubelet finds its containers gone and says so.
    pub(crate) fn node_up(&mut self, node: u32) {
        self.nodes.list[node as usize].down = false;
        for who in self.invs.keys() {
            let Some(inv) = self.invs.get_mut(who).filter(|inv| inv.node == Some(node)) else {
                continue;
            };
            inv.status_busy = false;
            match inv.phase {
                PodPhase::Running | PodPhase::Ended => self.container_ended(who),
                PodPhase::Pending => self.pod_bound(who),
                PodPhase::None => {}
            }
        }
        self.room_made();
    }

    /// Leases of all nodes, aggregated: each node renews its own every 10 s.
    pub(crate) fn heartbeats(&mut self, since: Span) {
        let up = self.nodes.list.iter().filter(|node| !node.down).count() as u64;
        let beats = up * since.0 / costs::NODE_LEASE_PERIOD.0;
        let cost = Op::UpdateNodeLease.cost();
        self.apiserver.count_many(Op::UpdateNodeLease, crate::apiserver::Level::NodeHigh, beats);
        let idle = |millis: u64| Span(since.0 / 1_000 * millis);
        let api = cost.api * beats + idle(costs::IDLE_MILLICORES_API);
        let etcd = costs::ETCD_WRITE * beats + idle(costs::IDLE_MILLICORES_ETCD);
        self.background(&[(Process::ApiServer, api), (Process::Etcd, etcd)]);
        for _ in 0..beats {
            self.etcd.count_write(cost.write.unwrap_or(0));
        }
    }
}
