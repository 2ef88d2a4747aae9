//! An investigation as the twin keeps it: its Job, its pod, its agent and its critical path.

use alertstorm_model::alert::Alert;
use alertstorm_model::event::Component;
use alertstorm_model::investigation::{InvestigationId, Outcome};
use alertstorm_model::time::Span;

use crate::agent_process::AgentProcess;
use crate::job::Job;
use crate::path::Path;
use crate::pod::Pod;

#[derive(Debug)]
pub(crate) struct Inv {
    alert: Alert,
    pub job: Job,
    pub pod: Pod,
    pub agent: AgentProcess,
    pub path: Path,
    outcome: Option<Outcome>,
    /// Its own ServiceAccount and RoleBinding exist.
    account: bool,
}

impl Inv {
    pub fn new(alert: Alert) -> Self {
        Self {
            alert,
            job: Job::new(),
            pod: Pod::new(),
            agent: AgentProcess::default(),
            path: Path::new(),
            outcome: None,
            account: false,
        }
    }

    pub const fn id(&self) -> InvestigationId {
        self.alert.id
    }

    pub const fn alert(&self) -> Alert {
        self.alert
    }

    /// Books a wait on the critical path.
    pub fn wait(&mut self, component: Component, span: Span) {
        self.path.wait(component, span);
    }

    pub const fn has_account(&self) -> bool {
        self.account
    }

    pub const fn account_created(&mut self) {
        self.account = true;
    }

    pub const fn is_over(&self) -> bool {
        self.outcome.is_some()
    }

    /// Returns false if it has ended before; the first outcome stays.
    pub const fn end(&mut self, outcome: Outcome) -> bool {
        let first = self.outcome.is_none();
        if first {
            self.outcome = Some(outcome);
        }
        first
    }
}

/// What is kept of an investigation from the end of its Job until the Job is collected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FinishedJob(pub InvestigationId);
