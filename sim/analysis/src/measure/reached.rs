//! The instant at which each investigation reached each stage, for comparisons that need single
//! investigations. Histograms do not keep them.

use std::collections::BTreeMap;

use alertstorm_model::event::{Event, Fact, Sink};
use alertstorm_model::investigation::{InvestigationId, Stage};
use alertstorm_model::time::Time;

/// Instants of all stages by investigation, from the events taken so far.
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
    /// Seconds from the alert to a stage, of the investigations that reached it, in ascending
    /// order.
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
