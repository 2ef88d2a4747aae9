//! An arm of the suite: a world in which scenarios run.

use alertstorm_analysis::measure::Measures;
use alertstorm_model::event::{Event, Sink as _};
use alertstorm_model::scenario::Plan;

use crate::common;

/// A world in which scenarios run.
#[derive(Clone, Copy)]
pub struct Arm {
    /// Settings that every scenario gets in this world: knob and value.
    pub settings: &'static [(&'static str, &'static str)],
    /// Runs a plan; its events.
    pub events_of: fn(&Plan) -> Vec<Event>,
}

/// A complete run.
pub struct Ran {
    /// The plan.
    pub plan: Plan,
    /// Its events, in the order of time.
    pub events: Vec<Event>,
    /// What they measure.
    pub measures: Measures,
}

impl Arm {
    /// Virtual time.
    pub const TWIN: Self = Self { settings: &[], events_of: common::events };

    /// Runs a scenario; panics if the run is invalid.
    pub fn run(self, text: &str, set: &[(&str, &str)]) -> Ran {
        self.run_plan(common::plan(text, &[set, self.settings].concat()))
    }

    /// Runs a plan; panics if the run is invalid.
    pub fn run_plan(self, plan: Plan) -> Ran {
        let events = (self.events_of)(&plan);
        Ran::of(plan, events)
    }
}

impl Ran {
    /// Measures the events of a run; panics if the run is invalid.
    pub fn of(plan: Plan, mut events: Vec<Event>) -> Self {
        // Events of a live run are not in the order of time.
        events.sort_by_key(|event| event.at);
        let mut measures = Measures::default();
        events.iter().for_each(|event| measures.take(event));
        measures.close();
        // A slow harness is due to the shared machine, and breaks no promise.
        let broken = |why: &&String| !why.starts_with("the harness was the bottleneck");
        let broken: Vec<&String> = measures.invalid.iter().filter(broken).collect();
        assert_eq!(broken, Vec::<&String>::new(), "{:#?}", measures.remarks);
        Self { plan, events, measures }
    }
}
