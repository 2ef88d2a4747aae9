//! What the controller receives, and what it answers.

use crate::alert::Alert;
use crate::investigation::InvestigationId;
use crate::time::{Span, Time};

/// What the controller receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// An alert was delivered; the same alert may be delivered more than once.
    Alert(Alert),
    /// The API server has the Job (it was created, or was there already).
    JobCreated(InvestigationId),
    /// The Job could not be created; it is tried again after a pause.
    JobFailedToCreate(InvestigationId),
    /// The Job is finished, and the investigation cost so much.
    JobFinished {
        /// Whose Job.
        id: InvestigationId,
        /// Millionths of a dollar.
        cost_micro_usd: u64,
    },
    /// The investigation is to be stopped.
    Cancel(InvestigationId),
    /// The instant asked for with [`Command::WakeAt`] has come.
    Wake,
    /// After a restart: this alert's Job is on the API server, finished or not.
    FoundJob {
        /// The alert that the Job was made for, from its annotations.
        alert: Alert,
        /// Whether it is finished.
        finished: bool,
    },
}

/// What the caller has to do for the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Answer the sender that the alert is a duplicate.
    Deduplicate {
        /// The repeat.
        alert: Alert,
        /// The investigation that covers it.
        of: InvestigationId,
    },
    /// Refuse the alert.
    Shed {
        /// The refused alert: the one delivered, or a less urgent one from the queue.
        alert: Alert,
        /// When the sender may try again.
        retry_after: Span,
    },
    /// Create the Job. Its name is a function of the id, so creating it twice makes one.
    CreateJob {
        /// For which alert.
        alert: Alert,
        /// The part of its wait in the queue that the cost budget caused.
        budget_wait: Span,
    },
    /// Delete the Job.
    DeleteJob(InvestigationId),
    /// Pass [`Input::Wake`] at this instant.
    WakeAt(Time),
    /// Back pressure began or ended.
    Pressure(bool),
}
