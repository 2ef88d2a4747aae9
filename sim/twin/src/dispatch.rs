//! The one place where an event, and the answer to a call, finds its handler.

use alertstorm_model::agent::Heard;
use alertstorm_model::event::Component;
use alertstorm_model::investigation::InvestigationId;

use crate::agenda::Ev;
use crate::call::{Call, Then};
use crate::pod::PodPhase;
use crate::world::World;

impl World<'_> {
    pub(crate) fn handle(&mut self, event: Ev) {
        match event {
            Ev::CallSend(id) => self.send(id),
            Ev::CallDone(id) => self.call_done(id),
            Ev::CallComputed(id) => {
                let now = self.now();
                self.computed(id, now);
            }
            Ev::AgentStep(who) => self.drive(who, Heard::Done),
            Ev::Alert => self.alert_comes(),
            Ev::ControllerWake => self.controller_wakes(),
            Ev::Redeliver(low, high) => {
                self.redeliver(InvestigationId(u64::from(high) << 32 | u64::from(low)));
            }
            Ev::JobAdded(who) => self.job_added(who),
            Ev::JobDue(who) => self.job_is_due(who),
            Ev::JobFinishedSeen(who) => self.job_finished_seen(who),
            Ev::TtlDue(job) => self.ttl_due(job),
            Ev::PodAdded(who) => self.schedule(who),
            Ev::CycleDone(who) => self.cycle_done(who),
            Ev::PodBound(who) => self.pod_bound(who),
            Ev::ContainerStarted(who) => self.container_started(who),
            Ev::Relist(who) => self.relist(who),
            Ev::PodRunningSeen(who) => {
                self.kwok_sees_running(who);
                self.job_sees_pod(who, PodPhase::Running);
            }
            Ev::PodEndSeen(who) => self.job_sees_pod(who, PodPhase::Ended),
            Ev::EvictNode(node) => self.evict_node(node),
            Ev::AgentStarts(who) => self.agent_starts(who),
            Ev::AgentActs(who) => self.act(who),
            Ev::AgentActed(who) => self.acted(who),
            Ev::AgentActFailed(who) => self.action_failed(who),
            Ev::StatementDone(who) => self.statement_done(who),
            Ev::VaultUnavailable(who) => self.refused_by(who, Some(Component::VaultDown)),
            Ev::TokenRefused(who) => self.refused_by(who, None),
            Ev::LoginChecked(who) => self.login_checked(who),
            Ev::LoggedIn(who) => self.logged_in(who),
            Ev::CredentialRefused(who) => self.credential_refused(who),
            Ev::CredentialMade(who) => self.credential_made(who, None),
            Ev::Released(who) => self.released(who),
            Ev::ReleaseFailed(who) => self.release_answered(who),
            Ev::LockDone(lock) => self.lock_done(lock),
            Ev::TokenExpires(session) => self.token_expires(session),
            Ev::LeaseExpires(lease) => self.lease_expires(lease),
            Ev::RenewDue(lease) => self.renew_due(lease),
            Ev::Renewed(lease) => self.renewed(lease),
            Ev::Revoked(lease) => self.revoke_tried(lease, true),
            Ev::RevokeAgain(lease) => self.revoke_now(lease),
            Ev::FaultBegins(number) => self.fault_begins(number),
            Ev::FaultEnds(number) => self.fault_ends(number),
            Ev::Background => self.background_tick(),
            Ev::AdjustSeats => self.adjust_seats(),
            Ev::Compact => self.compact(),
            Ev::Sample => self.periodic_sample(),
            Ev::HostTick => self.host_tick(),
            Ev::Nothing => {}
        }
    }

    /// The API server's answer reaches the client.
    pub(crate) fn answered(&mut self, call: Call) {
        match call.then() {
            Then::Nothing => {}
            Then::Recorded(recorder) => self.event_sent(recorder),
            Then::BackendAccount(who) => self.account_created(who),
            Then::BackendBinding(who) => self.binding_created(who),
            Then::BackendJob(who) => self.job_answered(who),
            Then::JobSync(who, step) => self.job_called(who, step),
            Then::TtlRead(job) => self.ttl_read(job),
            Then::TtlDeleted(job) => self.ttl_deleted(job),
            Then::Collect(job, done) => self.collected_step(job, done),
            Then::Bound(who) => self.bound(who),
            Then::Kubelet(who, step) => self.kubelet_called(who, step),
            Then::Kwok(who, stage) => self.kwok_played(who, stage),
            Then::TokenReviewed(who) => self.token_reviewed(who),
            Then::TokenCreated(who) => self.credential_made(who, None),
            Then::AgentActed(who) => self.acted(who),
        }
    }
}
