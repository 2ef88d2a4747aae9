//! Sends the alerts of a plan at their intended instants. This is an open loop: alerts are sent on
//! time even if earlier ones are not handled yet.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use alertstorm_model::alert::Alert;
use alertstorm_model::investigation::InvestigationId;
use alertstorm_model::scenario::{Part, Plan};

use crate::reporter::{Observation, Reporter};
use crate::task::panicked;

/// The thread that sends the alerts. It is no task, because the runtime's timers have a resolution
/// of one millisecond.
#[derive(Debug)]
pub struct Alerts {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Alerts {
    /// Starts the thread. It sends the alerts of `part` except those in `known`, which the shard
    /// that died has handled.
    pub fn start(
        plan: Arc<Plan>,
        part: Part,
        known: BTreeSet<InvestigationId>,
        reporter: Reporter,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let to_end = reporter.clone();
        let send = move || {
            let own = |alert: &Alert| part.has(alert) && !known.contains(&alert.id);
            for alert in plan.alerts().filter(own) {
                let due = reporter.clock().instant(alert.intended).into_std();
                while let Some(wait) = due.checked_duration_since(Instant::now()) {
                    if stopped.load(Ordering::Acquire) {
                        return;
                    }
                    thread::park_timeout(wait);
                }
                reporter.send(Observation::Due(alert));
            }
            reporter.send(Observation::AllCame);
        };
        let thread = thread::spawn(move || {
            if let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(send)) {
                panicked("the sending of alerts", &to_end, &*panic);
            }
        });
        Self { stop, thread }
    }

    /// Stops the thread, if it has not ended by itself.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        // After a panic of the thread there is nothing left to stop.
        let _ = self.thread.join();
    }
}
