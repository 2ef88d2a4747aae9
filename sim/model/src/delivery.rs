//! Delivery of alerts: their senders, and the controller that they deliver to. One state machine,
//! `step(now, input, actions)`, for the twin and for real servers; it does no I/O.
//!
//! A sender keeps an alert until it is *decided*: the API server has its Job, or the controller
//! refused it for good (a duplicate, or shed with no retries left). Until then it is *undecided*,
//! and delivered again
//!
//! - after the pause that the controller asked for, when the alert was turned away and its sender
//!   has retries left, and
//! - when the controller starts after a crash, which loses everything that it had not written to the
//!   API server.
//!
//! An alert may therefore reach the controller more than once, but no Job is created for one that is
//! decided.
//!
//! ```
//! use alertstorm_model::alert::Alert;
//! use alertstorm_model::delivery::{Action, Delivery, Input};
//! use alertstorm_model::investigation::{Domain, InvestigationId, Severity};
//! use alertstorm_model::scenario::knobs::Controller;
//! use alertstorm_model::time::{Span, Time};
//!
//! let mut delivery = Delivery::new(&Controller::default());
//! let (id, intended) = (InvestigationId(0), Time::ZERO);
//! let (domain, severity) = (Domain::Network, Severity::High);
//! let alert = Alert { id, intended, domain, severity, fingerprint: 7 };
//! let create = Action::CreateJob { alert, budget_wait: Span::ZERO };
//!
//! let mut actions = Vec::new();
//! delivery.step(intended, Input::Alert(alert), &mut actions);
//! assert_eq!(actions, [create]);
//!
//! // The controller crashes before the API server has the Job: it is created after the restart.
//! actions.clear();
//! delivery.step(intended + Span::secs(1), Input::ControllerCrashed, &mut actions);
//! delivery.step(intended + Span::secs(9), Input::ControllerStarted(Vec::new()), &mut actions);
//! assert_eq!(actions, [create]);
//!
//! delivery.step(intended + Span::secs(9), Input::JobCreated(id), &mut actions);
//! assert_eq!(delivery.undecided().len(), 0);
//! ```

use std::collections::BTreeMap;

use crate::alert::Alert;
use crate::controller::{self, Command, Controller};
use crate::investigation::InvestigationId;
use crate::scenario::knobs::Controller as Knobs;
use crate::time::{Span, Time};

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// An alert is due for the first time.
    Alert(Alert),
    /// The pause of an [`Action::TurnedAway`] is over.
    Retry(InvestigationId),
    /// The API server has the Job: it was created now or by an earlier attempt (409).
    JobCreated(InvestigationId),
    /// The Job could not be created; the controller tries again after a pause.
    JobFailedToCreate(InvestigationId),
    /// The Job is finished. It may come before [`Input::JobCreated`]: a watch and the answer to a
    /// request are two connections.
    JobFinished {
        /// Whose Job.
        id: InvestigationId,
        /// What the investigation cost, in millionths of a dollar.
        cost_micro_usd: u64,
    },
    /// The instant of an [`Action::WakeAt`] has come.
    Wake,
    /// The controller's process ended, and its memory is lost. Until it starts, alerts that are due
    /// wait at their senders.
    ControllerCrashed,
    /// The controller's process started and has listed these Jobs.
    ControllerStarted(Vec<FoundJob>),
}

/// A Job that a starting controller finds on the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundJob {
    /// The alert that it was created for.
    pub alert: Alert,
    /// Whether it is finished.
    pub finished: bool,
}

/// What is to be done, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Create the Job, and answer with [`Input::JobCreated`] or [`Input::JobFailedToCreate`]. Its
    /// name is a function of the alert: a second creation is a conflict, and counts as created.
    CreateJob {
        /// For which alert.
        alert: Alert,
        /// How long the alert waited for the cost budget, not for a place.
        budget_wait: Span,
    },
    /// Delete the Job.
    DeleteJob(InvestigationId),
    /// Answer with [`Input::Wake`] at this instant.
    WakeAt(Time),
    /// Back pressure began or ended.
    Pressure(bool),
    /// Decided: the alert is a duplicate.
    Deduplicated {
        /// The duplicate.
        id: InvestigationId,
        /// The investigation that covers it.
        of: InvestigationId,
    },
    /// The alert was turned away and stays undecided: answer with [`Input::Retry`] after the pause.
    TurnedAway {
        /// The alert.
        id: InvestigationId,
        /// The pause that the controller asked for.
        retry_after: Span,
    },
    /// Decided: the alert was turned away, and its sender has no retries left.
    Shed {
        /// The alert.
        id: InvestigationId,
        /// The pause that the controller asked for, although the sender does not retry.
        retry_after: Span,
    },
}

/// An alert that is neither refused for good nor has a Job.
#[derive(Clone, Copy, Debug)]
struct Undecided {
    alert: Alert,
    retries_left: u32,
}

/// The senders' memory, which outlives the controller's.
#[derive(Debug)]
pub struct Delivery {
    knobs: Knobs,
    /// None while its process is down.
    controller: Option<Controller>,
    undecided: BTreeMap<InvestigationId, Undecided>,
    /// Empty between steps; kept for its capacity.
    commands: Vec<Command>,
}

impl Delivery {
    /// Senders that have no alert yet, and a controller that runs.
    pub fn new(knobs: &Knobs) -> Self {
        Self {
            controller: Some(Controller::new(knobs)),
            undecided: BTreeMap::new(),
            commands: Vec::new(),
            knobs: knobs.clone(),
        }
    }

    /// Takes one input and appends what is to be done about it.
    pub fn step(&mut self, now: Time, input: Input, actions: &mut Vec<Action>) {
        match input {
            Input::Alert(alert) => {
                let retries_left = self.knobs.sender_retries;
                self.undecided.insert(alert.id, Undecided { alert, retries_left });
                self.control(now, controller::Input::Alert(alert), actions);
            }
            Input::Retry(id) => {
                if let Some(&Undecided { alert, .. }) = self.undecided.get(&id) {
                    self.control(now, controller::Input::Alert(alert), actions);
                }
            }
            Input::JobCreated(id) => {
                self.undecided.remove(&id);
                self.control(now, controller::Input::JobCreated(id), actions);
            }
            Input::JobFailedToCreate(id) => {
                self.control(now, controller::Input::JobFailedToCreate(id), actions);
            }
            Input::JobFinished { id, cost_micro_usd } => {
                self.undecided.remove(&id);
                let finished = controller::Input::JobFinished { id, cost_micro_usd };
                self.control(now, finished, actions);
            }
            Input::Wake => self.control(now, controller::Input::Wake, actions),
            Input::ControllerCrashed => self.controller = None,
            Input::ControllerStarted(jobs) => self.controller_started(now, &jobs, actions),
        }
    }

    /// Alerts that are neither refused for good nor have a Job, the earliest first.
    pub fn undecided(&self) -> impl ExactSizeIterator<Item = &Alert> {
        self.undecided.values().map(|undecided| &undecided.alert)
    }

    /// Whether an alert has come, and is neither refused for good nor has a Job.
    pub fn is_undecided(&self, id: InvestigationId) -> bool {
        self.undecided.contains_key(&id)
    }

    /// Alerts in the controller's queue; 0 while it is down.
    pub fn queued(&self) -> usize {
        self.controller.as_ref().map_or(0, Controller::waiting)
    }

    fn controller_started(&mut self, now: Time, jobs: &[FoundJob], actions: &mut Vec<Action>) {
        self.controller = Some(Controller::new(&self.knobs));
        for &FoundJob { alert, finished } in jobs {
            self.undecided.remove(&alert.id);
            self.control(now, controller::Input::FoundJob { alert, finished }, actions);
        }
        let again: Vec<Alert> = self.undecided().copied().collect();
        for alert in again {
            self.control(now, controller::Input::Alert(alert), actions);
        }
    }

    /// Steps the controller, if it runs, and turns its commands into actions.
    fn control(&mut self, now: Time, input: controller::Input, actions: &mut Vec<Action>) {
        let Some(controller) = &mut self.controller else {
            return;
        };
        controller.step(now, input, &mut self.commands);
        for command in self.commands.drain(..) {
            let action = match command {
                Command::CreateJob { alert, budget_wait } => {
                    // One that was sent before a crash may have been created since this
                    // controller listed the Jobs and queued the alert.
                    if !self.undecided.contains_key(&alert.id) {
                        continue;
                    }
                    Action::CreateJob { alert, budget_wait }
                }
                Command::Deduplicate { alert, of } => {
                    self.undecided.remove(&alert.id);
                    Action::Deduplicated { id: alert.id, of }
                }
                Command::Shed { alert: Alert { id, .. }, retry_after } => {
                    let Some(undecided) = self.undecided.get_mut(&id) else {
                        continue;
                    };
                    match undecided.retries_left.checked_sub(1) {
                        Some(left) => {
                            undecided.retries_left = left;
                            Action::TurnedAway { id, retry_after }
                        }
                        None => {
                            self.undecided.remove(&id);
                            Action::Shed { id, retry_after }
                        }
                    }
                }
                Command::DeleteJob(id) => Action::DeleteJob(id),
                Command::WakeAt(at) => Action::WakeAt(at),
                Command::Pressure(began) => Action::Pressure(began),
            };
            actions.push(action);
        }
    }
}

#[cfg(test)]
mod tests;
