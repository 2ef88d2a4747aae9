//! The faults of a plan, at their instants.

use alertstorm_model::scenario::{FaultKind, Plan};
use tokio::task::JoinSet;

use crate::reporter::{Observation, Reporter};

/// Tells the engine of the beginnings and ends of the plan's faults, of the kinds that are `here`'s.
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
