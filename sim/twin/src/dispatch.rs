//! Maps each event, and the answer to each call, to its handler.

use alertstorm_model::agent::AgentInput;
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
            Ev::CallDone(id) => self.on_call_done(id),
            Ev::CallComputed(id) => {
                let now = self.now();
                self.on_call_computed(id, now);
            }
            Ev::AgentStep(who) => self.resume_agent(who, AgentInput::Done),
            Ev::Alert => self.on_alert(),
            Ev::ControllerWake => self.on_controller_wake(),
            Ev::Redeliver(low, high) => {
                self.redeliver(InvestigationId(u64::from(high) << 32 | u64::from(low)));
            }
            Ev::JobAdded(who) => self.on_job_added(who),
            Ev::JobDue(who) => self.on_job_due(who),
            Ev::JobFinishedSeen(who) => self.on_job_finished(who),
            Ev::TtlDue(job) => self.on_ttl_due(job),
            Ev::PodAdded(who) => self.enqueue_pod(who),
            Ev::CycleDone(who) => self.on_cycle_done(who),
            Ev::PodBound(who) => self.on_pod_bound(who),
            Ev::ContainerStarted(who) => self.on_container_started(who),
            Ev::Relist(who) => self.on_relist(who),
            Ev::PodRunningSeen(who) => {
                self.on_running_observed(who);
                self.on_pod_observed(who, PodPhase::Running);
            }
            Ev::PodEndSeen(who) => self.on_pod_observed(who, PodPhase::Ended),
            Ev::EvictNode(node) => self.evict_node(node),
            Ev::AgentStarts(who) => self.start_agent(who),
            Ev::AgentActs(who) => self.attempt_action(who),
            Ev::AgentActed(who) => self.on_action_answer(who),
            Ev::AgentActFailed(who) => self.on_action_failed(who),
            Ev::StatementDone(who) => self.on_statement_done(who),
            Ev::VaultUnavailable(who) => self.on_vault_refusal(who, Some(Component::VaultDown)),
            Ev::TokenRefused(who) => self.on_vault_refusal(who, None),
            Ev::LoginChecked(who) => self.review_token(who),
            Ev::LoggedIn(who) => self.on_login_stored(who),
            Ev::CredentialRefused(who) => self.on_credential_refused(who),
            Ev::CredentialMade(who) => self.issue_credential(who, None),
            Ev::Released(who) => self.on_token_released(who),
            Ev::ReleaseFailed(who) => self.on_release_answer(who),
            Ev::LockDone(lock) => self.on_lock_done(lock),
            Ev::TokenExpires(session) => self.on_token_expired(session),
            Ev::LeaseExpires(lease) => self.on_lease_timer(lease),
            Ev::RenewDue(lease) => self.on_renew_due(lease),
            Ev::Renewed(lease) => self.on_renewed(lease),
            Ev::Revoked(lease) => self.on_revocation_tried(lease, true),
            Ev::RevokeAgain(lease) => self.queue_revocation(lease),
            Ev::FaultBegins(number) => self.begin_fault(number),
            Ev::FaultEnds(number) => self.end_fault(number),
            Ev::Background => self.on_background(),
            Ev::AdjustSeats => self.adjust_seats(),
            Ev::Compact => self.compact(),
            Ev::Sample => self.periodic_sample(),
            Ev::HostTick => self.on_host_tick(),
            Ev::Nothing => {}
        }
    }

    /// The API server's answer reaches the client.
    pub(crate) fn on_answer(&mut self, call: Call) {
        match call.then() {
            Then::Nothing => {}
            Then::Recorded(recorder) => self.on_event_sent(recorder),
            Then::BackendAccount(who) => self.on_account_created(who),
            Then::BackendBinding(who) => self.on_binding_created(who),
            Then::BackendJob(who) => self.on_job_created(who),
            Then::JobSync(who, step) => self.on_sync_answer(who, step),
            Then::TtlRead(job) => self.on_ttl_read(job),
            Then::TtlDeleted(job) => self.on_ttl_deleted(job),
            Then::Collect(job, done) => self.on_collect_answer(job, done),
            Then::Bound(who) => self.on_bound(who),
            Then::Kubelet(who, step) => self.on_kubelet_answer(who, step),
            Then::Kwok(who, stage) => self.on_stage_played(who, stage),
            Then::TokenReviewed(who) => self.on_token_reviewed(who),
            Then::TokenCreated(who) => self.issue_credential(who, None),
            Then::AgentActed(who) => self.on_action_answer(who),
        }
    }
}
