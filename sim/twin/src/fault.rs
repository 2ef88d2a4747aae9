//! Faults of the plan: each stops or slows down a component for a time.

use alertstorm_model::event::Fact;
use alertstorm_model::scenario::{FaultKind, FaultPlan};
use alertstorm_model::time::Span;

use crate::agenda::Ev;
use crate::world::World;

impl World<'_> {
    pub(crate) fn schedule_faults(&mut self) {
        for (number, fault) in (0..).zip(self.plan.faults()) {
            self.engine.at(fault.from, Ev::FaultBegins(number));
            self.engine.at(fault.until, Ev::FaultEnds(number));
        }
    }

    fn fault(&self, number: u32) -> FaultPlan {
        self.plan.faults()[number as usize]
    }

    pub(crate) fn begin_fault(&mut self, number: u32) {
        let fault = self.fault(number);
        self.platform_fact(Fact::Fault { kind: fault.kind, began: true });
        match fault.kind {
            FaultKind::ApiServerDown => self.crash_api_server(),
            FaultKind::EtcdLeaderLoss => self.etcd.block(fault.until),
            FaultKind::SlowFsync => self.etcd.slow_down(fault.extra),
            FaultKind::ControllerManagerDown => self.jobs.stop(),
            FaultKind::SchedulerDown => self.scheduler.stop(),
            FaultKind::NodeDown => self.fail_node(fault.node),
            FaultKind::VaultSealed | FaultKind::VaultRestart => self.seal(),
            FaultKind::PostgresDown => self.postgres.stop(),
            FaultKind::ControllerCrash => self.crash_controller(),
        }
    }

    pub(crate) fn end_fault(&mut self, number: u32) {
        let fault = self.fault(number);
        let outage = fault.until.since(fault.from);
        self.platform_fact(Fact::Fault { kind: fault.kind, began: false });
        match fault.kind {
            FaultKind::ApiServerDown => self.apiserver.restart(),
            FaultKind::EtcdLeaderLoss => {}
            FaultKind::SlowFsync => self.etcd.slow_down(Span::ZERO),
            FaultKind::ControllerManagerDown => {
                self.jobs.start(outage);
                self.run_job_workers();
                self.run_collectors();
            }
            FaultKind::SchedulerDown => self.restart_scheduler(outage),
            FaultKind::NodeDown => self.recover_node(fault.node),
            FaultKind::VaultSealed => self.unseal(false),
            FaultKind::VaultRestart => self.unseal(true),
            FaultKind::PostgresDown => self.postgres.start(),
            FaultKind::ControllerCrash => self.restart_controller(),
        }
    }
}
