//! A node's power failure, the eviction of its pods by the node lifecycle controller, its return.

use alertstorm_model::investigation::Outcome;

use crate::agenda::Ev;
use crate::call::{Client, Then};
use crate::costs::Op;
use crate::pod::PodPhase;
use crate::world::World;

impl World<'_> {
    /// Processes on the node end, without any report to the API server.
    pub(crate) fn fail_node(&mut self, node: u32) {
        self.nodes.set_up(node, false);
        for who in self.invs.keys() {
            let Some(inv) = self.invs.get_mut(who).filter(|inv| inv.pod.is_on(node)) else {
                continue;
            };
            if inv.pod.phase() == PodPhase::Running {
                inv.agent.stop();
                self.end(who, Outcome::Evicted);
            }
        }
        let manager = &self.plan.scenario().cluster.control_plane.controller_manager;
        let evicts = manager.node_monitor_grace_period + manager.not_ready_toleration;
        self.engine.after(evicts, Ev::EvictNode(node));
    }

    /// The node has been unreachable for as long as its pods tolerate: they are deleted.
    pub(crate) fn evict_node(&mut self, node: u32) {
        if self.nodes.is_up(node) {
            return;
        }
        for who in self.invs.keys() {
            let on_it = self
                .invs
                .get(who)
                .is_some_and(|inv| inv.pod.is_on(node) && inv.pod.phase() < PodPhase::Ended);
            if on_it {
                self.call(Client::NodeLifecycle, Op::DeletePod, Then::Nothing, None);
                self.delete_pod(who, Outcome::Evicted);
            }
        }
    }

    /// Power is back: the kubelet finds its containers gone and reports it.
    pub(crate) fn recover_node(&mut self, node: u32) {
        self.nodes.set_up(node, true);
        for who in self.invs.keys() {
            let Some(inv) = self.invs.get_mut(who).filter(|inv| inv.pod.is_on(node)) else {
                continue;
            };
            inv.pod.lose_report();
            match inv.pod.phase() {
                PodPhase::Running | PodPhase::Ended => self.end_container(who),
                PodPhase::Pending => self.on_pod_bound(who),
                PodPhase::Absent => {}
            }
        }
        self.retry_unschedulable();
    }
}
