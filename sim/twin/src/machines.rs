//! The machines: the control plane's, and those of Vault and PostgreSQL, unless they share it.

use alertstorm_model::event::{Component, CpuUse};
use alertstorm_model::scenario::Plan;
use alertstorm_model::time::{Span, Time};

use crate::agenda::Ev;
use crate::arena::Key;
use crate::cores::Cores;
use crate::host::{Host, Parts, Process, Task};
use crate::investigation::Inv;
use crate::world::World;

/// A server beside the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    Vault,
    Postgres,
}

#[derive(Debug)]
pub(crate) struct Machines {
    control_plane: Host<Ev>,
    /// By [`Server`]; nothing where all share the control plane's machine.
    own: Option<[Cores; 2]>,
    /// Kept for its memory.
    done: Vec<Task<Ev>>,
}

impl Machines {
    pub fn new(plan: &Plan) -> Self {
        let scenario = plan.scenario();
        let plane = &scenario.cluster.control_plane;
        let own = [
            Cores::new("vault", scenario.vault.cores.get()),
            Cores::new("postgres", scenario.postgres.cores.get()),
        ];
        Self {
            control_plane: Host::new("control plane", plane.cores.get()),
            own: (!plane.shared_with_everything).then_some(own),
            done: Vec::new(),
        }
    }

    /// Work of a server; returns when it is done: on a machine of its own in the order of arrival,
    /// on a shared one at the server's share of the cores.
    fn serve(&mut self, server: Server, now: Time, cost: Span) -> Time {
        match &mut self.own {
            Some(own) => own[server as usize].run(now, cost),
            None => {
                let process = [Process::Vault, Process::Postgres][server as usize];
                self.control_plane.run_estimated(now, process, cost)
            }
        }
    }

    pub fn usage(&self) -> impl Iterator<Item = CpuUse> {
        self.control_plane.usage().chain(self.own.iter().flatten().map(Cores::usage))
    }
}

impl World<'_> {
    pub(crate) fn work_on(&mut self, server: Server, cost: Span) -> Time {
        let now = self.now();
        self.machines.serve(server, now, cost)
    }

    /// Work on the control plane's machine. Returns when it is done, or nothing where `event` will
    /// tell, because processes compete for the cores.
    pub(crate) fn run_on_control_plane(
        &mut self,
        parts: Parts<'_>,
        event: Ev,
        who: Option<Key<Inv>>,
    ) -> Option<Time> {
        let now = self.now();
        let done = self.machines.control_plane.run(now, parts, event, who);
        if done.is_none() {
            self.schedule_tick();
        }
        done
    }

    /// Work on the control plane's machine that ends with an event, on an investigation's critical
    /// path if one is given.
    pub(crate) fn schedule_on_control_plane(
        &mut self,
        parts: Parts<'_>,
        event: Ev,
        who: Option<Key<Inv>>,
    ) {
        let now = self.now();
        if let Some(done) = self.run_on_control_plane(parts, event, who) {
            if let Some(inv) = who.and_then(|who| self.invs.get_mut(who)) {
                inv.wait(Component::ControlPlaneCpu, done.since(now));
            }
            self.engine.at(done, event);
        }
    }

    /// Work of the control plane for which nobody waits.
    pub(crate) fn run_in_background(&mut self, parts: Parts<'_>) {
        self.run_on_control_plane(parts, Ev::Nothing, None);
    }

    fn schedule_tick(&mut self) {
        if let Some(at) = self.machines.control_plane.schedule_tick() {
            self.engine.at(at, Ev::HostTick);
        }
    }

    pub(crate) fn on_host_tick(&mut self) {
        let now = self.now();
        if !self.machines.control_plane.take_tick(now) {
            return;
        }
        let mut done = std::mem::take(&mut self.machines.done);
        self.machines.control_plane.tick(now, &mut done);
        for Task { event, since, who, .. } in done.drain(..) {
            if let Some(inv) = who.and_then(|who| self.invs.get_mut(who)) {
                inv.wait(Component::ControlPlaneCpu, now.since(since));
            }
            self.handle(event);
        }
        self.machines.done = done;
        self.schedule_tick();
    }
}
