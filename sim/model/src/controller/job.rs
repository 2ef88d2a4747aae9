//! The Job template: what the controller asks of Kubernetes, free of Kubernetes' types.

use crate::alert::Alert;
use crate::digest;
use crate::investigation::{Domain, IdentityKind, InvestigationId};
use crate::phase::Phase;
use crate::quantity::Bytes;
use crate::scenario::Plan;
use crate::time::Span;

/// A Job for one investigation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobTemplate {
    /// Its name, a function of (plan, seed, alert): creating it twice makes one.
    pub name: String,
    /// The ServiceAccount that it runs as.
    pub service_account: String,
    /// Labels, by which a restarted controller finds its Jobs.
    pub labels: Vec<(&'static str, String)>,
    /// backoffLimit: an investigation is tried once.
    pub backoff_limit: u32,
    /// activeDeadlineSeconds.
    pub active_deadline: Span,
    /// ttlSecondsAfterFinished.
    pub ttl_after_finished: Span,
    /// The container's memory limit.
    pub memory_limit: Bytes,
    /// The container's memory request.
    pub memory_request: Bytes,
    /// The container's CPU request in thousandths of a core.
    pub cpu_request_millis: u32,
    /// The audience of the projected ServiceAccount token.
    pub token_audience: &'static str,
}

/// The ServiceAccount of an investigation of `domain`. An identity ends where what it grants does,
/// so agents of two phases or two domains never share one.
pub fn service_account(
    identity: IdentityKind,
    phase: Phase,
    domain: Domain,
    id: InvestigationId,
) -> String {
    match identity {
        IdentityKind::SharedAgent => format!("agent-{phase}-{domain}"),
        IdentityKind::PerInvestigation => format!("{id}-{phase}-{domain}"),
    }
}

/// The Job for an alert.
pub fn template(plan: &Plan, alert: &Alert) -> JobTemplate {
    let scenario = plan.scenario();
    let run = digest::of_text(&format!("{}/{}", plan.digest(), scenario.seed));
    let job = &scenario.controller.job;
    JobTemplate {
        name: format!("{}-{}", alert.id, &run[..8]),
        service_account: service_account(scenario.identity, scenario.phase, alert.domain, alert.id),
        labels: vec![
            ("app.kubernetes.io/managed-by", "alertstorm".to_owned()),
            ("alertstorm.dev/plan", run[..8].to_owned()),
            ("alertstorm.dev/investigation", alert.id.to_string()),
            ("alertstorm.dev/domain", alert.domain.to_string()),
            ("alertstorm.dev/phase", scenario.phase.to_string()),
        ],
        backoff_limit: 0,
        active_deadline: job.active_deadline,
        ttl_after_finished: job.ttl_after_finished,
        memory_limit: job.memory_limit,
        memory_request: job.memory_request,
        cpu_request_millis: job.cpu_request_millis,
        token_audience: "vault",
    }
}
