//! Tasks of a run. A panic in one of them ends the run as invalid.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures::FutureExt;

use crate::reporter::{Observation, Reporter};

/// A task that does `what`. If it panics, the run ends as invalid: what the task did for the run is
/// missing from then on.
pub async fn guarded(what: &'static str, reporter: Reporter, task: impl Future<Output = ()>) {
    if let Err(panic) = AssertUnwindSafe(task).catch_unwind().await {
        panicked(what, &reporter, &*panic);
    }
}

/// Ends the run as invalid after a panic.
pub fn panicked(what: &str, reporter: &Reporter, panic: &(dyn Any + Send)) {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    let why = format!("the harness panicked in {what}: {text}");
    reporter.send(Observation::Abort(why));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reporter::Clock;

    #[tokio::test]
    async fn a_panic_in_a_task_ends_the_run_as_invalid() {
        let (reporter, mut inbox) = Reporter::new(Clock::default());
        guarded("a test", reporter.clone(), async { panic!("on purpose") }).await;
        let Some(Observation::Abort(why)) = inbox.try_recv() else { panic!("not aborted") };
        assert_eq!(why, "the harness panicked in a test: on purpose");
        guarded("a test", reporter, async {}).await;
        assert!(inbox.is_empty());
    }
}
