//! Capacity: the largest load at which the objectives hold. Doubling or halving brackets it, and
//! bisection narrows the bracket.
//!
//! ```
//! use alertstorm_analysis::verdict::capacity::{Axis, Bounds, knee};
//!
//! let bounds = Bounds { start: 100.0, most: 1_000.0, within: 0.01 };
//! // In a real search, this runs the scenario at the load and judges its objectives.
//! let found = knee(Axis::Flood, bounds, &mut |load| Some(load <= 150.0)).expect("not stopped");
//! assert_eq!((found.held, found.broke), (Some(150.0), Some(151.0)));
//! ```

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use alertstorm_model::scenario::{Plan, raw};

alertstorm_model::words! {
    /// The quantity that is varied as the load.
    pub enum Axis {
        /// Number of alerts, summed over all floods.
        Flood = "flood",
        /// Alerts per second, summed over all sources with a rate; of a source with steps the
        /// highest.
        Rate = "rate",
        /// The controller's limit on concurrent investigations.
        Concurrent = "concurrent",
    }
}

impl Axis {
    /// The default axis of a plan: `flood` if a source is one, else `rate`.
    pub fn of(plan: &Plan) -> Self {
        let floods = plan.scenario().alerts.iter().any(|source| source.flood.is_some());
        if floods { Self::Flood } else { Self::Rate }
    }

    /// The plan's load on this axis; `None` if no source has one.
    pub fn load(self, plan: &Plan) -> Option<f64> {
        let scenario = plan.scenario();
        let load: f64 = match self {
            Self::Flood => scenario.alerts.iter().filter_map(|s| s.flood).sum::<u64>() as f64,
            Self::Rate => scenario.alerts.iter().map(top_rate).sum(),
            Self::Concurrent => f64::from(scenario.controller.concurrency.get()),
        };
        (load > 0.0).then_some(load)
    }

    /// Changes to the scenario that give another load, as paths and values. Each source keeps its
    /// share of the load.
    pub fn settings(self, plan: &Plan, load: f64) -> Vec<(String, String)> {
        if self == Self::Concurrent {
            return vec![("controller.concurrency".to_owned(), format!("{load:.0}"))];
        }
        let scale = load / self.load(plan).unwrap_or(load);
        let mut settings = Vec::new();
        for (i, source) in plan.scenario().alerts.iter().enumerate() {
            let at = format!("alerts.{i}");
            match (self, source.flood, source.poisson, &source.steps) {
                (Self::Flood, Some(flood), ..) => {
                    let flood = (flood as f64 * scale).round().max(1.0);
                    settings.push((format!("{at}.flood"), format!("{flood:.0}")));
                }
                (Self::Rate, _, Some(rate), _) => {
                    settings.push((format!("{at}.poisson"), format!("{}/s", rate.0 * scale)));
                }
                (Self::Rate, _, _, Some(steps)) => {
                    for (j, step) in steps.iter().enumerate() {
                        let rate = format!("{}/s", step.rate.0 * scale);
                        settings.push((format!("{at}.steps.{j}.rate"), rate));
                    }
                }
                _ => {}
            }
        }
        settings
    }

    /// The nearest valid load: rates are continuous, the others are whole numbers from 1.
    fn round(self, load: f64) -> f64 {
        match self {
            Self::Rate => load,
            Self::Flood | Self::Concurrent => load.round().max(1.0),
        }
    }

    /// Unit, as printed after a load.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Flood => "alerts",
            Self::Rate => "alerts/s",
            Self::Concurrent => "at once",
        }
    }
}

/// The highest rate of a source, in alerts per second; 0 for a source without one.
fn top_rate(source: &raw::Alerts) -> f64 {
    let steps = source.steps.iter().flatten().map(|step| step.rate.0);
    source.poisson.map_or_else(|| steps.fold(0.0, f64::max), |rate| rate.0)
}

/// Range and resolution of the search.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The first load that is tried.
    pub start: f64,
    /// The largest load that is tried.
    pub most: f64,
    /// Relative width of the bracket at which the search stops; 0.01 is 1 %.
    pub within: f64,
}

/// Result of a search: the largest load at which the objectives held, and the smallest at which
/// they did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Knee {
    /// Empty if the objectives fail at the smallest load.
    pub held: Option<f64>,
    /// Empty if they hold at the largest load that was tried.
    pub broke: Option<f64>,
}

/// After this many halvings without success, a rate counts as 0.
const HALVINGS_MAX: u32 = 24;

/// Finds the knee. `holds` is called once for each load that is tried; if it returns `None`, the
/// search stops and returns `None`. Assumes that objectives which fail at a load also fail above
/// it.
pub fn knee(
    axis: Axis,
    bounds: Bounds,
    holds: &mut dyn FnMut(f64) -> Option<bool>,
) -> Option<Knee> {
    let mut knee = Knee::default();
    let mut load = axis.round(bounds.start);
    let mut halvings = 0;
    loop {
        match (holds(load)?, knee.held, knee.broke) {
            (true, _, None) if load >= bounds.most => {
                return Some(Knee { held: Some(load), broke: None });
            }
            (true, ..) => knee.held = Some(load),
            (false, ..) => knee.broke = Some(load),
        }
        load = match (knee.held, knee.broke) {
            (Some(held), None) => (held * 2.0).min(bounds.most),
            (None, Some(broke)) => {
                halvings += 1;
                let half = axis.round((broke / 2.0).floor().max(broke / 4.0));
                if half >= broke || halvings > HALVINGS_MAX {
                    return Some(knee);
                }
                half
            }
            (Some(held), Some(broke)) => {
                let middle = axis.round(held.midpoint(broke));
                let same = broke - held <= bounds.within * held;
                if same || middle <= held || middle >= broke {
                    return Some(knee);
                }
                middle
            }
            (None, None) => return Some(knee),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(axis: Axis, start: f64, breaks_at: f64) -> (Knee, u32) {
        let mut runs = 0;
        let bounds = Bounds { start, most: 10_000.0, within: 0.01 };
        let knee = knee(axis, bounds, &mut |load| {
            runs += 1;
            assert!(load <= bounds.most);
            Some(load < breaks_at)
        });
        (knee.unwrap(), runs)
    }

    #[test]
    fn the_search_finds_the_knee_to_one_percent_from_either_side() {
        for breaks_at in [2.0, 3.0, 57.0, 151.0, 4_321.0, 9_999.0] {
            for start in [1.0, 300.0, 5_000.0] {
                let (knee, runs) = find(Axis::Flood, start, breaks_at);
                let (held, broke) = (knee.held.unwrap(), knee.broke.unwrap());
                assert!(held < breaks_at && broke >= breaks_at, "{knee:?}");
                assert!(broke - held <= (held * 0.01).max(1.0), "{knee:?}");
                assert!(runs < 32, "{runs} runs");
            }
        }
    }

    #[test]
    fn a_knee_outside_the_bounds_is_reported_as_open() {
        assert_eq!(find(Axis::Flood, 300.0, 0.0).0, Knee { held: None, broke: Some(1.0) });
        let never = Knee { held: Some(10_000.0), broke: None };
        assert_eq!(find(Axis::Flood, 300.0, 1e9).0, never);
        assert_eq!(find(Axis::Rate, 2.0, 0.3).0.held.map(|rate| rate < 0.3), Some(true));
        assert_eq!(
            knee(Axis::Rate, Bounds { start: 1.0, most: 9.0, within: 0.1 }, &mut |_| None),
            None
        );
    }
}
