//! The machines: the control plane's, and one each for Vault and PostgreSQL unless all share one.

use alertstorm_model::event::{Component, CpuUse};
use alertstorm_model::scenario::Plan;
use alertstorm_model::time::{Span, Time};

use crate::agenda::Ev;
use crate::arena::Key;
use crate::cores::Cores;
use crate::host::{Host, Parts, Process, Task};
use crate::investigation::Inv;
use crate::world::World;

/// A server outside the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    Vault,
    Postgres,
}

#[derive(Debug)]
pub(crate) struct Machines {
    control_plane: Host<Ev>,
    /// By [`Server`]; `None` if they share the control plane's machine.
    own: Option<[Cores; 2]>,
    /// Empty between ticks; kept for its capacity.
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

    /// Runs a server's task; returns when it ends. On a machine of its own, tasks run in the order
    /// of arrival; on the shared one, at an estimated share of the cores.
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

    /// Runs a task on the control plane's machine. Returns when it ends; `None` while processes
    /// compete for the cores, and then `event` is handled at its end.
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

    /// Runs a task on the control plane's machine and schedules `event` for its end. The wait is
    /// booked on the critical path of `who`.
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

    /// Runs a task on the control plane's machine for which nobody waits.
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
