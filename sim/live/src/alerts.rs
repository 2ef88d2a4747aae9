//! The alerts of a plan at their intended instants: an open loop, which waits for nobody.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use alertstorm_model::alert::Alert;
use alertstorm_model::investigation::InvestigationId;
use alertstorm_model::scenario::{Part, Plan};

use crate::reporter::{Observation, Reporter};

/// A thread of its own: the runtime's timers are as coarse as a millisecond.
#[derive(Debug)]
pub struct Alerts {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Alerts {
    /// Begins to tell of alerts as they are due.
    ///
    /// Only those of a part, and not those that are `known` already.
    pub fn start(
        plan: Arc<Plan>,
        part: Part,
        known: BTreeSet<InvestigationId>,
        reporter: Reporter,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
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
        });
        Self { stop, thread }
    }

    /// No more alerts.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        // A thread that panicked has no more to tell.
        let _ = self.thread.join();
    }
}
