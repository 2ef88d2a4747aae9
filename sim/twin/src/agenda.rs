//! The agenda: everything that can happen in the twin, and the one place where an event finds its
//! handler.

use alertstorm_model::investigation::InvestigationId;

use crate::arena::Key;
use crate::investigation::PodPhase;
use crate::world::{ADJUST_SEATS, TAIL_SAMPLES, World};

/// Something that happens. A pair is a slot and its generation; eight bytes in all.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ev {
    Alert,
    ControllerWake,
    /// A sender's retry: the low 32 bits of its alert's number, and the next 16.
    Redeliver(u32, u16),
    CallSend(u32),
    CallComputed(u32),
    CallDone(u32),
    JobAdded(u32, u16),
    JobDue(u32, u16),
    JobFinishedSeen(u32, u16),
    TtlDue(u32, u16),
    PodAdded(u32, u16),
    CycleDone(u32, u16),
    PodBound(u32, u16),
    ContainerStarted(u32, u16),
    Relist(u32, u16),
    PodRunningSeen(u32, u16),
    PodEndSeen(u32, u16),
    EvictNode(u32),
    AgentStarts(u32, u16),
    AgentStep(u32, u16),
    AgentActs(u32, u16),
    AgentActed(u32, u16),
    AgentActFailed(u32, u16),
    StatementDone(u32, u16),
    VaultUnavailable(u32, u16),
    LoginChecked(u32, u16),
    LoggedIn(u32, u16),
    CredentialRefused(u32, u16),
    CredentialMade(u32, u16),
    Released(u32, u16),
    ReleaseFailed(u32, u16),
    LockDone(u32),
    TokenExpires(u32, u16),
    LeaseExpires(u32, u16),
    RenewDue(u32, u16),
    Renewed(u32, u16),
    Revoked(u32, u16),
    RevokeAgain(u32, u16),
    FaultBegins(u32),
    FaultEnds(u32),
    HostTick,
    Nothing,
    Background,
    AdjustSeats,
    Compact,
    Sample,
}

const _: () = assert!(size_of::<Ev>() == 8, "an entry of the event queue is 24 bytes");

impl Ev {
    pub const fn redeliver(id: InvestigationId) -> Self {
        Self::Redeliver(id.0 as u32, (id.0 >> 32) as u16)
    }
}

impl World<'_> {
    /// Handles one event.
    pub(crate) fn handle(&mut self, event: Ev) {
        let who = |slot, generation| Key { slot, generation };
        match event {
            Ev::CallSend(id) => self.send(id),
            Ev::CallDone(id) => self.call_done(id),
            Ev::CallComputed(id) => {
                let now = self.now();
                self.computed(id, now);
            }
            Ev::AgentStep(s, g) => self.drive(who(s, g), alertstorm_model::agent::Heard::Done),
            Ev::Alert => self.alert_comes(),
            Ev::ControllerWake => self.controller_wakes(),
            Ev::Redeliver(low, high) => {
                self.redeliver(InvestigationId(u64::from(high) << 32 | u64::from(low)));
            }
            Ev::JobAdded(s, g) => self.job_added(who(s, g)),
            Ev::JobDue(s, g) => self.job_is_due(who(s, g)),
            Ev::JobFinishedSeen(s, g) => self.job_finished_seen(who(s, g)),
            Ev::TtlDue(s, g) => self.ttl_due(who(s, g)),
            Ev::PodAdded(s, g) => self.schedule(who(s, g)),
            Ev::CycleDone(s, g) => self.cycle_done(who(s, g)),
            Ev::PodBound(s, g) => self.pod_bound(who(s, g)),
            Ev::ContainerStarted(s, g) => self.container_started(who(s, g)),
            Ev::Relist(s, g) => self.relist(who(s, g)),
            Ev::PodRunningSeen(s, g) => {
                self.kwok_sees_running(who(s, g));
                self.job_sees_pod(who(s, g), PodPhase::Running);
            }
            Ev::PodEndSeen(s, g) => self.job_sees_pod(who(s, g), PodPhase::Ended),
            Ev::EvictNode(node) => self.evict_node(node),
            Ev::AgentStarts(s, g) => self.agent_starts(who(s, g)),
            Ev::AgentActs(s, g) => self.act(who(s, g)),
            Ev::AgentActed(s, g) => self.acted(who(s, g)),
            Ev::AgentActFailed(s, g) => self.action_failed(who(s, g)),
            Ev::StatementDone(s, g) => self.statement_done(who(s, g)),
            Ev::VaultUnavailable(s, g) => self.vault_unavailable(who(s, g)),
            Ev::LoginChecked(s, g) => self.login_checked(who(s, g)),
            Ev::LoggedIn(s, g) => self.logged_in(who(s, g)),
            Ev::CredentialRefused(s, g) => self.refuse_credential(who(s, g)),
            Ev::CredentialMade(s, g) => self.credential_made(who(s, g), None),
            Ev::Released(s, g) => self.released(who(s, g)),
            Ev::ReleaseFailed(s, g) => self.release_answered(who(s, g)),
            Ev::LockDone(lock) => self.lock_done(lock as usize),
            Ev::TokenExpires(s, g) => self.token_expires(who(s, g)),
            Ev::LeaseExpires(s, g) => self.lease_expires(who(s, g)),
            Ev::RenewDue(s, g) => self.renew_due(who(s, g)),
            Ev::Renewed(s, g) => self.renewed(who(s, g)),
            Ev::Revoked(s, g) => self.revoke_tried(who(s, g), true),
            Ev::RevokeAgain(s, g) => self.revoke_now(who(s, g)),
            Ev::FaultBegins(number) => self.fault_begins(number),
            Ev::FaultEnds(number) => self.fault_ends(number),
            Ev::Background => self.background_tick(),
            Ev::AdjustSeats => {
                self.adjust_seats();
                self.engine.after(ADJUST_SEATS, Ev::AdjustSeats);
            }
            Ev::Compact => {
                self.etcd.compact();
                let etcd = &self.plan.scenario().cluster.control_plane.etcd;
                self.engine.after(etcd.compaction_interval, Ev::Compact);
            }
            Ev::Sample => {
                self.tell_sample(false);
                let every = self.plan.sample_every();
                let tail = self.backend.is_idle() && self.open == 0;
                self.engine.after(if tail { every * TAIL_SAMPLES } else { every }, Ev::Sample);
            }
            Ev::HostTick => self.host_tick(),
            Ev::Nothing => {}
        }
    }
}
