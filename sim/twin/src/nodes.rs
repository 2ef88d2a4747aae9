//! The nodes: room for pods, the image, the times of relists, and node leases.

use alertstorm_model::scenario::Plan;
use alertstorm_model::time::{Span, Time};

use crate::costs::{self, Op};
use crate::host::Process;
use crate::streams;
use crate::world::World;
use alertstorm_model::kubelet::LEASE_PERIOD;

#[derive(Debug)]
struct Node {
    pods: u32,
    cpu_millis: u32,
    memory: u64,
    /// When the image is there; [`Time::NEVER`] before its first pull.
    image_at: Time,
    /// Offset of the kubelet's relists from multiples of their period.
    relist_offset: Span,
    down: bool,
}

#[derive(Debug)]
pub(crate) struct Nodes {
    list: Vec<Node>,
    cpu_request: u32,
    memory_request: u64,
    relist_period: Span,
}

impl Nodes {
    pub fn new(plan: &Plan) -> Self {
        let cluster = &plan.scenario().cluster;
        let knobs = &cluster.node;
        let seed = plan.scenario().seed;
        let node = |number| Node {
            pods: knobs.pods.get(),
            cpu_millis: knobs.cpu.get() * 1_000,
            memory: knobs.memory.0,
            image_at: if knobs.image_present { Time::ZERO } else { Time::NEVER },
            relist_offset: Span(streams::relist(seed, number).below(knobs.relist_period.0)),
            down: false,
        };
        let job = &plan.scenario().controller.job;
        Self {
            list: (0..cluster.nodes.get()).map(node).collect(),
            cpu_request: job.cpu_request_millis,
            memory_request: job.memory_request.0,
            relist_period: knobs.relist_period,
        }
    }

    pub const fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_up(&self, node: u32) -> bool {
        !self.list[node as usize].down
    }

    pub fn set_up(&mut self, node: u32, up: bool) {
        self.list[node as usize].down = !up;
    }

    const fn fits(&self, node: &Node) -> bool {
        !node.down
            && node.pods > 0
            && node.cpu_millis >= self.cpu_request
            && node.memory >= self.memory_request
    }

    /// The least loaded of the first `feasible_max` nodes that fit. The search begins at `next`,
    /// which is then set to where it ended.
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

    pub fn free(&mut self, node: u32) {
        let (cpu, memory) = (self.cpu_request, self.memory_request);
        let node = &mut self.list[node as usize];
        node.pods += 1;
        node.cpu_millis += cpu;
        node.memory += memory;
    }

    /// When the node has the image. The first pod pulls it, which takes `pull`.
    pub fn image_at(&mut self, node: u32, now: Time, pull: impl FnOnce() -> Span) -> Time {
        let image_at = &mut self.list[node as usize].image_at;
        if *image_at == Time::NEVER {
            *image_at = now + pull();
        }
        (*image_at).max(now)
    }

    /// The kubelet's next relist after `now`.
    pub fn next_relist(&self, node: u32, now: Time) -> Time {
        let period = self.relist_period.0;
        let offset = self.list[node as usize].relist_offset.0;
        Time((now.0.saturating_sub(offset) / period + 1) * period + offset)
    }

    /// Renewals of node leases within `span`: each node that is up renews its own every 10 s.
    fn lease_renewals(&self, span: Span) -> u64 {
        let up = self.list.iter().filter(|node| !node.down).count() as u64;
        up * span.0 / LEASE_PERIOD.0
    }
}

impl World<'_> {
    /// Accounts for the control plane's work within `span` that no investigation causes: idle work
    /// and the renewal of all node leases.
    pub(crate) fn heartbeats(&mut self, span: Span) {
        let beats = self.nodes.lease_renewals(span);
        let cost = Op::UpdateNodeLease.cost();
        self.apiserver.count_node_leases(beats);
        let idle = |millis: u64| Span(span.0 / 1_000 * millis);
        let api = cost.api * beats + idle(costs::IDLE_MILLICORES_API);
        let etcd = costs::ETCD_WRITE * beats + idle(costs::IDLE_MILLICORES_ETCD);
        self.run_in_background(&[(Process::ApiServer, api), (Process::Etcd, etcd)]);
        for _ in 0..beats {
            self.etcd.count_write(cost.write.unwrap_or(0));
        }
    }
}
