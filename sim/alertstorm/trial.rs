//! One run of a plan in the twin, from the plan to the report.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::time::Instant;

use alertstorm_analysis::advice;
use alertstorm_analysis::measure::Measures;
use alertstorm_model::event::{Component, Event, Sink};
use alertstorm_model::scenario::Plan;
use alertstorm_reports::{Advice, Report, TwinOf};
use alertstorm_twin::Progress;

use crate::interrupt;

/// The largest number of alerts for which the twin is run again with the bottleneck's knob moved.
pub const TRY_UP_TO: u64 = 20_000;

/// A sink for measures and, if one is kept, a log. The measures are in a cell because the run's `watch`
/// reads them between two events.
pub struct Both<'m, 'l> {
    /// What is measured.
    pub measures: &'m RefCell<Measures>,
    /// The event log, if one is kept.
    pub log: Option<&'l mut dyn Sink>,
}

impl Sink for Both<'_, '_> {
    fn take(&mut self, event: &Event) {
        if let Some(log) = &mut self.log {
            log.take(event);
        }
        self.measures.borrow_mut().take(event);
    }

    fn flush(&mut self) {
        if let Some(log) = &mut self.log {
            log.flush();
        }
    }
}

/// Runs a plan. `watch` is called with the number of finished investigations and the engine's progress.
pub fn run(
    plan: &Plan,
    log: Option<&mut dyn Sink>,
    watch: &mut dyn FnMut(u64, Progress),
) -> (Measures, Report) {
    let began = Instant::now();
    let measures = RefCell::new(Measures::default());
    let mut both = Both { measures: &measures, log };
    alertstorm_twin::run(plan, &mut both, &mut |progress| {
        watch(measures.borrow().accounting.finished, progress);
        if interrupt::asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let mut measures = measures.into_inner();
    measures.close();
    let wall_s = began.elapsed().as_secs_f64();
    let report = Report::new(plan, &measures, wall_s);
    (measures, report)
}

/// Runs the plan again with the bottleneck's knob moved. `None` if no knob moves the bottleneck, or if
/// the second run was interrupted.
pub fn advice(plan: &Plan, measures: &Measures) -> Option<Advice> {
    tried(plan, measures.bottleneck()?.component, None)
}

/// Runs the twin of a live run twice, the second time with the knob of the live run's bottleneck moved.
/// `cores` is the number of cores of the machine on which all servers ran, if they ran on one. `None` if
/// no knob moves the bottleneck, or if a run was interrupted.
pub fn advice_of_twin(plan: &Plan, bottleneck: Component, cores: Option<u32>) -> Option<Advice> {
    let with = |plan: Plan, path: &str, value: &str| plan.with_knob(path, value).ok();
    let plan = match cores {
        Some(cores) => {
            let plan = with(plan.clone(), "cluster.control_plane.cores", &cores.to_string())?;
            with(plan, "cluster.control_plane.shared_with_everything", "true")?
        }
        None => plan.clone(),
    };
    let (before, _) = run(&plan, None, &mut |_, _| {});
    if before.interrupted {
        return None;
    }
    let first = before.bottleneck().map(|share| share.component);
    tried(&plan, bottleneck, Some((TwinOf { cores, bottleneck: first }, before)))
}

fn tried(plan: &Plan, bottleneck: Component, twin: Option<(TwinOf, Measures)>) -> Option<Advice> {
    let knob = advice::knob(bottleneck, plan.scenario())?;
    // A value that does not fit the rest of the scenario is no advice.
    let moved = plan.with_knob(knob.path, &knob.to).ok()?;
    let (measures, _) = run(&moved, None, &mut |_, _| {});
    if measures.interrupted {
        return None;
    }
    Some(Advice { twin, knob: knob.path, from: knob.from, to: knob.to, measures })
}
