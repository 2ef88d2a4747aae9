//! The investigation controller: `step(now, input, commands)` without I/O. The twin and the live engine
//! run the same code.
//!
//! ```
//! use alertstorm_model::controller::{Command, Controller, Input};
//! use alertstorm_model::scenario::{NoFiles, load};
//! use alertstorm_model::time::Time;
//!
//! let text = "alerts: [{flood: 2}]\ncontroller: {concurrency: 1}";
//! let plan = load(text, "two.yaml", &[], &NoFiles).unwrap();
//! let mut controller = Controller::new(&plan.scenario().controller);
//! let mut commands = Vec::new();
//! for alert in plan.alerts() {
//!     controller.step(Time::ZERO, Input::Alert(alert), &mut commands);
//! }
//! let jobs = commands.iter().filter(|c| matches!(c, Command::CreateJob { .. })).count();
//! assert_eq!((jobs, controller.waiting()), (1, 1));
//! ```

mod budget;
mod dedup;
pub mod job;
mod message;
mod pressure;
mod queue;

use rustc_hash::FxHashMap;

use crate::alert::Alert;
use crate::investigation::InvestigationId;
use crate::scenario::knobs::Admission;
use crate::scenario::knobs::Controller as Knobs;
use crate::time::{Span, Time};

use budget::CostBudget;
use dedup::Dedup;
use pressure::Pressure;
use queue::Queue;

pub use message::{Command, Input};

/// Pause before a failed creation is tried again.
const CREATE_RETRY: Span = Span::secs(1);

/// An investigation that holds a slot of the concurrency budget.
#[derive(Clone, Copy, Debug)]
struct Running {
    alert: Alert,
    created: bool,
    /// Set aside from the cost budget until the cost is known.
    reserved: u64,
}

/// The controller's state. A crash loses all of it; [`Input::FoundJob`] and redelivered alerts
/// restore what matters.
#[derive(Debug)]
pub struct Controller {
    knobs: Knobs,
    queue: Queue,
    pressure: Pressure,
    dedup: Dedup,
    budget: Option<CostBudget>,
    running: FxHashMap<InvestigationId, Running>,
    /// Creations to try again, the earliest first.
    retries: std::collections::VecDeque<(Time, InvestigationId)>,
    /// The instant of the last [`Command::WakeAt`], while it has not come.
    wake: Option<Time>,
}

impl Controller {
    /// A controller as after a start: empty.
    pub fn new(knobs: &Knobs) -> Self {
        Self {
            queue: Queue::new(&knobs.queue),
            pressure: Pressure::new(&knobs.queue),
            dedup: Dedup::new(knobs.dedup_window),
            budget: knobs.cost_budget.as_ref().map(CostBudget::new),
            running: FxHashMap::default(),
            retries: std::collections::VecDeque::new(),
            wake: None,
            knobs: knobs.clone(),
        }
    }

    /// Handles one input; the commands that follow from it are appended to `commands`.
    pub fn step(&mut self, now: Time, input: Input, commands: &mut Vec<Command>) {
        match input {
            Input::Alert(alert) => self.alert(now, alert, commands),
            Input::JobCreated(id) => {
                if let Some(running) = self.running.get_mut(&id) {
                    running.created = true;
                }
            }
            Input::JobFailedToCreate(id) => self.retries.push_back((now + CREATE_RETRY, id)),
            Input::JobFinished { id, cost_micro_usd } => self.finished(now, id, cost_micro_usd),
            Input::Cancel(id) => self.cancel(id, commands),
            Input::Wake => self.wake = None,
            Input::FoundJob { alert, finished } => {
                self.dedup.remember(now, &alert);
                if !finished && self.queues() {
                    let running = Running { alert, created: true, reserved: 0 };
                    self.running.insert(alert.id, running);
                }
            }
        }
        self.retry(now, commands);
        self.admit(now, commands);
        self.ask_to_wake(now, commands);
    }

    /// Investigations in the queue.
    pub const fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Investigations that hold a slot of the concurrency budget.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    fn queues(&self) -> bool {
        self.knobs.admission == Admission::Queue
    }

    fn alert(&mut self, now: Time, alert: Alert, commands: &mut Vec<Command>) {
        if !self.queues() {
            // `direct` keeps no state; the Job's name prevents a second Job.
            commands.push(Command::CreateJob { alert, budget_wait: Span::ZERO });
            return;
        }
        if self.running.contains_key(&alert.id) || self.queue.contains(alert.id) {
            return;
        }
        if let Some(of) = self.dedup.covers(now, &alert) {
            if of != alert.id {
                commands.push(Command::Deduplicate { alert, of });
            }
            return;
        }
        let refused = if self.queue.is_full() { self.queue.make_room_for(&alert) } else { None };
        self.pressure.depth(self.queue.len(), refused.is_some(), commands);
        match refused {
            Some(worst) => {
                self.dedup.forget(&worst);
                let retry_after = self.pressure.retry_after(self.queue.len());
                commands.push(Command::Shed { alert: worst, retry_after });
                if worst.id == alert.id {
                    return;
                }
            }
            None if self.pressure.refuses(&alert, &self.queue) => {
                let retry_after = self.pressure.retry_after(self.queue.len());
                commands.push(Command::Shed { alert, retry_after });
                return;
            }
            None => {}
        }
        self.dedup.remember(now, &alert);
        self.queue.push(now, alert);
    }

    fn finished(&mut self, now: Time, id: InvestigationId, cost_micro_usd: u64) {
        let Some(running) = self.running.remove(&id) else {
            return;
        };
        if let Some(budget) = &mut self.budget {
            budget.spend(now, running.reserved, cost_micro_usd);
        }
    }

    fn cancel(&mut self, id: InvestigationId, commands: &mut Vec<Command>) {
        if let Some(alert) = self.queue.remove(id) {
            commands.push(Command::Shed { alert, retry_after: Span::ZERO });
        } else if self.running.contains_key(&id) || !self.queues() {
            commands.push(Command::DeleteJob(id));
        }
    }

    fn retry(&mut self, now: Time, commands: &mut Vec<Command>) {
        while let Some(&(_, id)) = self.retries.front().filter(|(at, _)| *at <= now) {
            self.retries.pop_front();
            if let Some(running) = self.running.get(&id).filter(|running| !running.created) {
                let alert = running.alert;
                commands.push(Command::CreateJob { alert, budget_wait: Span::ZERO });
            }
        }
    }

    fn admit(&mut self, now: Time, commands: &mut Vec<Command>) {
        while self.running.len() < self.knobs.concurrency.get() as usize {
            if self.queue.len() == 0 {
                break;
            }
            let reserved = match &mut self.budget {
                None => 0,
                Some(budget) => match budget.reserve(now) {
                    Some(reserved) => reserved,
                    None => break,
                },
            };
            let Some((alert, queued_at)) = self.queue.pop() else {
                break;
            };
            let waited_for = |budget: &CostBudget| budget.wait_within(queued_at, now);
            let budget_wait = self.budget.as_ref().map_or(Span::ZERO, waited_for);
            self.pressure.admitted(now);
            self.pressure.depth(self.queue.len(), false, commands);
            self.running.insert(alert.id, Running { alert, created: false, reserved });
            commands.push(Command::CreateJob { alert, budget_wait });
        }
    }

    fn ask_to_wake(&mut self, now: Time, commands: &mut Vec<Command>) {
        let budget = self.budget.as_ref().filter(|_| self.queue.len() > 0);
        let next = [
            self.retries.front().map(|(at, _)| *at),
            budget.and_then(|budget| budget.next_window(now)),
        ];
        let Some(at) = next.into_iter().flatten().min() else {
            return;
        };
        if self.wake.is_none_or(|asked| at < asked) {
            self.wake = Some(at);
            commands.push(Command::WakeAt(at));
        }
    }
}

#[cfg(test)]
mod tests;
