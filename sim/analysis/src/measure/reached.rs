//! When each investigation reached each stage: what histograms leave out, for those who compare
//! investigations one by one.

use std::collections::BTreeMap;

use alertstorm_model::event::{Event, Fact, Sink};
use alertstorm_model::investigation::{InvestigationId, Stage};
use alertstorm_model::time::Time;

/// Folds events into the latencies of each investigation.
#[derive(Debug, Default)]
pub struct Reached(BTreeMap<InvestigationId, [Option<Time>; Stage::COUNT]>);

impl Sink for Reached {
    fn take(&mut self, event: &Event) {
        let Some(id) = event.inv else { return };
        let (stage, at) = match event.fact {
            Fact::Alert { intended, .. } => (Stage::Alert, intended),
            Fact::Stage { stage } => (stage, event.at),
            _ => return,
        };
        self.0.entry(id).or_default()[stage.index()].get_or_insert(at);
    }
}

impl Reached {
    /// Seconds from the alert to a stage, of all that reached it, ascending.
    pub fn latencies(&self, to: Stage) -> Vec<f64> {
        let latency = |of: &[Option<Time>; Stage::COUNT]| {
            let alert = of[Stage::Alert.index()]?;
            Some(of[to.index()]?.since(alert).as_secs_f64())
        };
        let mut all: Vec<f64> = self.0.values().filter_map(latency).collect();
        all.sort_by(f64::total_cmp);
        all
    }
}
