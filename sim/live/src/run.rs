//! One run on a provider's platform, in four phases: prepare it for the plan, drive the plan on it,
//! judge the run by the servers' own records, and tear down what the run made. The last one always
//! runs.

mod drive;
mod error;
mod host;
mod judge;
mod lead;
mod prepare;
mod teardown;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;
use std::sync::Arc;

use alertstorm_model::event::Sink;
use alertstorm_model::scenario::{FaultKind, Plan};
use alertstorm_model::time::Time;
use alertstorm_platform::provider::{Progress, Provider};
use futures::future::LocalBoxFuture;

use crate::shard::Shards;
use teardown::Made;

pub use error::{RunError, TeardownError};

/// Checks that the provider can make every fault of the plan.
///
/// # Errors
/// The first that it cannot.
pub fn check_faults(plan: &Plan, can: impl Fn(FaultKind) -> bool) -> Result<(), RunError> {
    match plan.faults().iter().find(|fault| !can(fault.kind)) {
        Some(fault) => Err(RunError::Fault(fault.kind)),
        None => Ok(()),
    }
}

/// Runs a plan on a platform; events go to `sink` as they become known, each with its own instant.
/// `watch` hears how far the run is and can end it. With `shards` the load comes from pods in the
/// cluster, else from here.
///
/// # Errors
/// Where the platform cannot be set up for the run, or its trails not be read; what happened until
/// then is written.
pub fn run<'a>(
    plan: &'a Plan,
    provider: Arc<dyn Provider>,
    shards: Option<&'a Shards>,
    sink: &'a mut dyn Sink,
    progress: Progress<'a>,
    watch: &'a mut dyn FnMut(Time) -> ControlFlow<()>,
) -> LocalBoxFuture<'a, Result<(), RunError>> {
    Box::pin(on_platform(plan, provider, shards, sink, progress, watch))
}

async fn on_platform(
    plan: &Plan,
    provider: Arc<dyn Provider>,
    shards: Option<&Shards>,
    sink: &mut dyn Sink,
    progress: Progress<'_>,
    watch: &mut dyn FnMut(Time) -> ControlFlow<()>,
) -> Result<(), RunError> {
    check_faults(plan, |fault| provider.can(fault))?;
    let mut made = Made::new(Arc::new(plan.clone()), provider);
    let done = phases(&mut made, shards, sink, progress, watch).await;
    // In any case: what an error or Ctrl-C broke off has made something too.
    let left = made.teardown(progress).await;
    RunError::of(done, left)
}

/// Prepares, drives and judges; what any of it makes is in `made`.
async fn phases(
    made: &mut Made,
    shards: Option<&Shards>,
    sink: &mut dyn Sink,
    progress: Progress<'_>,
    watch: &mut dyn FnMut(Time) -> ControlFlow<()>,
) -> Result<(), RunError> {
    let prepared = prepare::prepare(made, shards, progress).await?;
    let mut driven = drive::drive(made, prepared, sink, progress, watch).await?;
    let judged = judge::judge(&mut driven, &made.provider, progress).await;
    // Events that are still buffered are written, also where the trails cannot be read.
    driven.close().await;
    judged
}
