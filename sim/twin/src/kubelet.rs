//! The kubelet: from a bound pod to a running container, and its status updates. Facts from
//! pkg/kubelet v1.36.3: a status update is a GET and a PATCH of a single manager
//! (status_manager.go), container ends are seen at the next relist (pleg/generic.go).

use alertstorm_model::event::Component;
use alertstorm_model::investigation::{Outcome, Stage};
use alertstorm_model::kubelet::AGENT_START;
use alertstorm_model::scenario::knobs::NodeRuntime;

use crate::agenda::Ev;
use crate::arena::Key;
use crate::call::{Client, KubeletStep, KwokStage, Recorder, Then};
use crate::costs::Op;
use crate::investigation::Inv;
use crate::pod::PodPhase;
use crate::streams;
use crate::world::World;

impl World<'_> {
    /// The node of an investigation's pod; `None` before binding or if the node is down.
    fn node_of(&self, who: Key<Inv>) -> Option<u32> {
        let node = self.invs.get(who)?.pod.node()?;
        self.nodes.is_up(node).then_some(node)
    }

    /// The watch of the node's kubelet, or of KWOK, delivers the bound pod.
    pub(crate) fn on_pod_bound(&mut self, who: Key<Inv>) {
        let now = self.now();
        let knobs = &self.plan.scenario().cluster.node;
        let Some(node) = self.node_of(who) else {
            return;
        };
        let Some(inv) = self.invs.get_mut(who).filter(|inv| inv.pod.is_pending()) else {
            return;
        };
        if knobs.runtime == NodeRuntime::Kwok {
            inv.pod.start();
            return self.queue_stage(who, KwokStage::Run);
        }
        let mut stream = streams::pod_start(self.plan.scenario().seed, inv.id());
        let pulled = self.nodes.image_at(node, now, || knobs.image_pull.dist.draw(&mut stream));
        let start = knobs.sandbox_start.dist.draw(&mut stream)
            + knobs.container_start.dist.draw(&mut stream);
        inv.wait(Component::ImagePull, pulled.since(now));
        inv.wait(Component::PodStart, start);
        inv.pod.start_at(pulled + start);
        // Volumes come first: the namespace's CA bundle, then the projected tokens.
        self.kubelet_call(node, Op::GetConfigMap, who, KubeletStep::ConfigMap);
        for _ in 0..3 {
            // Pulled, Created, Started.
            self.record_event(Recorder::Kubelet(node));
        }
    }

    fn kubelet_call(&mut self, node: u32, op: Op, who: Key<Inv>, step: KubeletStep) {
        self.call(Client::Kubelet(node), op, Then::Kubelet(who, step), Some(who));
    }

    pub(crate) fn on_kubelet_answer(&mut self, who: Key<Inv>, step: KubeletStep) {
        let now = self.now();
        let Some(node) = self.node_of(who) else {
            return;
        };
        let Some(inv) = self.invs.get_mut(who) else {
            return;
        };
        match step {
            KubeletStep::ConfigMap => {
                self.kubelet_call(node, Op::CreateToken, who, KubeletStep::VaultToken);
            }
            KubeletStep::VaultToken => {
                self.kubelet_call(node, Op::CreateToken, who, KubeletStep::ApiToken);
            }
            KubeletStep::ApiToken => {
                // Sandbox and container start when image and volumes are there.
                let started = inv.pod.startable(now);
                self.engine.at(started, Ev::ContainerStarted(who));
            }
            KubeletStep::StatusRead => {
                let ended = inv.pod.phase() >= PodPhase::Ended;
                let step = KubeletStep::StatusWritten { ended };
                self.kubelet_call(node, Op::PatchPodStatus, who, step);
            }
            KubeletStep::StatusWritten { ended } => self.on_status_written(who, ended),
        }
    }

    /// The container starts; the pod's status shows it after the next relist.
    pub(crate) fn on_container_started(&mut self, who: Key<Inv>) {
        let Some(node) = self.node_of(who) else {
            return;
        };
        let Some(inv) = self.invs.get_mut(who) else {
            return;
        };
        if inv.pod.start() {
            inv.wait(Component::PodStart, AGENT_START);
            self.schedule_relist(who, node);
            self.engine.after(AGENT_START, Ev::AgentStarts(who));
        }
    }

    fn schedule_relist(&mut self, who: Key<Inv>, node: u32) {
        let next = self.nodes.next_relist(node, self.now());
        self.engine.at(next, Ev::Relist(who));
    }

    /// The kubelet's relist: a changed pod gets a status update.
    pub(crate) fn on_relist(&mut self, who: Key<Inv>) {
        let Some(node) = self.node_of(who) else {
            return;
        };
        if self.invs.get_mut(who).is_some_and(|inv| inv.pod.begin_report()) {
            self.kubelet_call(node, Op::GetPod, who, KubeletStep::StatusRead);
        }
    }

    fn on_status_written(&mut self, who: Key<Inv>, ended: bool) {
        let Some(inv) = self.invs.get_mut(who) else {
            return;
        };
        let reported = inv.pod.finish_report(ended);
        if reported.first_run {
            self.stage(who, Stage::PodRunning);
        }
        if ended {
            self.leave_node(who);
            self.notify_watchers(Ev::PodEndSeen(who), who);
        } else {
            self.notify_watchers(Ev::PodRunningSeen(who), who);
        }
        if reported.behind {
            self.on_relist(who);
        }
    }

    /// Frees the resources that the pod requested.
    pub(crate) fn leave_node(&mut self, who: Key<Inv>) {
        if let Some(node) = self.invs.get_mut(who).and_then(|inv| inv.pod.leave_node()) {
            self.nodes.free(node);
            self.retry_unschedulable();
        }
    }

    /// The agent's process has ended; the kubelet detects it at its next relist.
    pub(crate) fn end_container(&mut self, who: Key<Inv>) {
        let Some(inv) = self.invs.get_mut(who) else {
            return;
        };
        inv.pod.end();
        inv.agent.stop();
        if let Some(node) = inv.pod.node() {
            self.schedule_relist(who, node);
        }
    }

    /// The pod is deleted through the API. A running container is terminated; a pod without one
    /// ends at once.
    pub(crate) fn delete_pod(&mut self, who: Key<Inv>, outcome: Outcome) {
        let Some(inv) = self.invs.get_mut(who) else {
            return;
        };
        let node_down = inv.pod.node().is_some_and(|node| !self.nodes.is_up(node));
        match inv.pod.phase() {
            PodPhase::Running if !node_down => self.terminate(who, outcome),
            PodPhase::Absent | PodPhase::Pending | PodPhase::Running => {
                inv.pod.end_reported();
                inv.agent.stop();
                self.end(who, outcome);
                self.leave_node(who);
                self.notify_watchers(Ev::PodEndSeen(who), who);
            }
            PodPhase::Ended => {}
        }
    }
}
