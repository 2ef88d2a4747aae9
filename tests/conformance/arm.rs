//! The two arms.

use alertstorm_model::event::{Event, Sink};
use alertstorm_model::measure::Measures;
use alertstorm_model::scenario::Plan;

use crate::common;

/// Where a scenario is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arm {
    /// In virtual time.
    Twin,
    /// On real servers.
    #[cfg(feature = "live")]
    Local,
}

/// A run, whole.
pub struct Ran {
    /// The plan.
    pub plan: Plan,
    /// Its events.
    pub events: Vec<Event>,
    /// What they come to.
    pub measures: Measures,
}

impl Arm {
    /// Runs a scenario; an invalid run is a failure.
    pub fn run(self, text: &str, set: &[(&str, &str)]) -> Ran {
        let plan = common::plan(text, set);
        let mut events: Vec<Event> = Vec::new();
        match self {
            Self::Twin => common::run(&plan, &mut events),
            #[cfg(feature = "live")]
            Self::Local => local(&plan, &mut events),
        }
        // Of a live run some become known late.
        events.sort_by_key(|event| event.at);
        let mut measures = Measures::default();
        events.iter().for_each(|event| measures.take(event));
        measures.close();
        assert_eq!(measures.invalid, Vec::<String>::new(), "{:#?}", measures.remarks);
        Ran { plan, events, measures }
    }
}

#[cfg(feature = "live")]
fn local(plan: &Plan, sink: &mut dyn Sink) {
    use std::ops::ControlFlow;
    use std::sync::Arc;

    use alertstorm_live::provider::Provider;
    use alertstorm_live::provider::local::Local;

    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let silent = |_: &str| {};
        let local = Local::start(&plan.scenario, false, &silent).await;
        let local = Arc::new(local.unwrap_or_else(|error| panic!("{error}")));
        let mut watch = |_| ControlFlow::Continue(());
        let provider: Arc<dyn Provider> = Arc::clone(&local) as Arc<dyn Provider>;
        let ran = alertstorm_live::run(plan, provider, sink, &silent, &mut watch).await;
        local.stop().expect("the platform ends");
        ran.unwrap_or_else(|error| panic!("{error}"));
    });
}
