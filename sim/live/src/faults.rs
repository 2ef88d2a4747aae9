//! Timers of a plan's faults.

use alertstorm_model::scenario::{FaultKind, Plan};
use tokio::task::JoinSet;

use crate::reporter::{Observation, Reporter};

/// Starts a task for the beginning and the end of each fault whose kind `here` accepts. At that
/// instant it sends the engine a message.
pub fn plan(
    plan: &Plan,
    reporter: &Reporter,
    here: impl Fn(FaultKind) -> bool,
    tasks: &mut JoinSet<()>,
) {
    let faults = plan.faults().iter().enumerate();
    for (number, fault) in faults.filter(|(_, fault)| here(fault.kind)) {
        for (at, begins) in [(fault.from, true), (fault.until, false)] {
            let reporter = reporter.clone();
            tasks.spawn(async move {
                tokio::time::sleep_until(reporter.clock().instant(at)).await;
                reporter.send(Observation::Fault(number, begins));
            });
        }
    }
}
