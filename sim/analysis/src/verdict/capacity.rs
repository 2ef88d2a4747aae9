//! Capacity: the largest load that holds, found by doubling or halving until it is between two
//! loads, and by bisection then.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use alertstorm_model::scenario::{Plan, raw};

alertstorm_model::words! {
    /// What is meant by load.
    pub enum Axis {
        /// Alerts of the floods, all together.
        Flood = "flood",
        /// Alerts a second of the rates, all together.
        Rate = "rate",
        /// Investigations that the controller lets run at once.
        Concurrent = "concurrent",
    }
}

impl Axis {
    /// What a plan's load is most plainly: its floods where it has some, else its rates.
    pub fn of(plan: &Plan) -> Self {
        let floods = plan.scenario().alerts.iter().any(|source| source.flood.is_some());
        if floods { Self::Flood } else { Self::Rate }
    }

    /// The plan's load on this axis; nothing where it has none.
    pub fn load(self, plan: &Plan) -> Option<f64> {
        let scenario = plan.scenario();
        let load: f64 = match self {
            Self::Flood => scenario.alerts.iter().filter_map(|s| s.flood).sum::<u64>() as f64,
            Self::Rate => scenario.alerts.iter().map(top_rate).sum(),
            Self::Concurrent => f64::from(scenario.controller.concurrency.get()),
        };
        (load > 0.0).then_some(load)
    }

    /// What to set for another load: paths in the scenario and their values. Sources keep their
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

    /// The nearest load that there can be.
    fn round(self, load: f64) -> f64 {
        match self {
            Self::Rate => load,
            Self::Flood | Self::Concurrent => load.round().max(1.0),
        }
    }

    /// Its unit, as a load is followed by it.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Flood => "alerts",
            Self::Rate => "alerts/s",
            Self::Concurrent => "at once",
        }
    }
}

/// The highest rate of a source.
fn top_rate(source: &raw::Alerts) -> f64 {
    let steps = source.steps.iter().flatten().map(|step| step.rate.0);
    source.poisson.map_or_else(|| steps.fold(0.0, f64::max), |rate| rate.0)
}

/// Where the search looks.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Where it begins.
    pub start: f64,
    /// The most that is tried.
    pub most: f64,
    /// Two loads that differ by no more than this share are the same.
    pub within: f64,
}

/// The largest load that held and the smallest that broke, as far as was tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Knee {
    /// None where not even the least load holds.
    pub held: Option<f64>,
    /// None where the most that was tried holds.
    pub broke: Option<f64>,
}

/// Halvings, after which a rate is as good as none.
const HALVINGS_MAX: u32 = 24;

/// Finds the knee. `holds` is asked of each load once; it is taken for granted that what breaks at a
/// load breaks above it. `None` of `holds` ends the search.
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
        let mut asked = 0;
        let bounds = Bounds { start, most: 10_000.0, within: 0.01 };
        let knee = knee(axis, bounds, &mut |load| {
            asked += 1;
            assert!(load <= bounds.most);
            Some(load < breaks_at)
        });
        (knee.unwrap(), asked)
    }

    #[test]
    fn a_knee_is_found_from_either_side_to_one_percent() {
        for breaks_at in [2.0, 3.0, 57.0, 151.0, 4_321.0, 9_999.0] {
            for start in [1.0, 300.0, 5_000.0] {
                let (knee, asked) = find(Axis::Flood, start, breaks_at);
                let (held, broke) = (knee.held.unwrap(), knee.broke.unwrap());
                assert!(held < breaks_at && broke >= breaks_at, "{knee:?}");
                assert!(broke - held <= (held * 0.01).max(1.0), "{knee:?}");
                assert!(asked < 32, "{asked} runs");
            }
        }
    }

    #[test]
    fn what_never_holds_and_what_never_breaks_is_said_so() {
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
