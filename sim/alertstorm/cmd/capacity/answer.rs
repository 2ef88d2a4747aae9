//! `--for`: the cheapest settings that hold a given load.

use alertstorm_analysis::advice;
use alertstorm_model::scenario::Plan;
use alertstorm_reports::capacity::Answer;
use anyhow::Result;

use super::question::Question;
use super::trials::Settings;
use crate::{interrupt, parallel};

impl Question {
    /// Whether a setting holds a load under every seed.
    fn holds(&self, settings: &Settings, load: f64) -> bool {
        let runs = parallel::map(self.threads, &self.seeds, |seed| {
            let trial = self.trials.run(settings, load, *seed, &self.slos)?;
            Some(trial.slos.iter().all(|slo| slo.held))
        });
        runs.into_iter().all(|held| held.flatten() == Some(true))
    }

    /// The settings of a grid that hold, without those that are dearer than another in every knob.
    pub fn cheapest(&self, grid: &[Settings], load: f64) -> Answer {
        let tried: Vec<(Settings, bool)> =
            grid.iter().map(|settings| (settings.clone(), self.holds(settings, load))).collect();
        // Values are listed cheapest first: their position is their price.
        let price = |settings: &Settings| -> Vec<usize> {
            let of = |(at, (path, value)): (usize, &(String, String))| {
                let mut seen: Vec<&String> = Vec::new();
                for settings in grid {
                    let known = settings.get(at).filter(|(known, _)| known == path);
                    if let Some((_, value)) = known.filter(|(_, value)| !seen.contains(&value)) {
                        seen.push(value);
                    }
                }
                seen.iter().position(|known| *known == value).unwrap_or(0)
            };
            settings.iter().enumerate().map(of).collect()
        };
        let holding: Vec<&Settings> =
            tried.iter().filter(|(_, held)| *held).map(|(settings, _)| settings).collect();
        let undercut = |settings: &&&Settings| {
            let own = price(settings);
            holding.iter().any(|other| {
                let other = price(other);
                other != own && other.iter().zip(&own).all(|(other, own)| other <= own)
            })
        };
        let settings = holding.iter().filter(|s| !undercut(s)).map(|s| (*s).clone()).collect();
        Answer { load, settings, remark: None, tried }
    }

    /// Moves the bottleneck's knob until the load holds, then moves each knob back as far as the load
    /// still holds.
    pub fn moved_until_it_holds(&self, plan: &Plan, load: f64) -> Result<Answer> {
        const MOVES_MAX: usize = 16;
        let mut settings = Settings::new();
        let mut tried = Vec::new();
        let mut remark = None;
        let mut held = false;
        for _ in 0..MOVES_MAX {
            held = self.holds(&settings, load);
            tried.push((settings.clone(), held));
            if held || interrupt::asked() {
                break;
            }
            let at = self.trials.at(&settings, load)?.plan;
            let trial = self.trials.run(&settings, load, self.seeds[0], &self.slos);
            let component = trial.and_then(|trial| Some(trial.report.bottleneck?.component));
            let Some(knob) = component.and_then(|c| advice::knob(c, at.scenario())) else {
                remark = Some(match component {
                    Some(component) => {
                        format!("the bottleneck is {component}, and no knob moves it")
                    }
                    None => {
                        "no waits on the critical path: the missed objective does not depend on the load".to_owned()
                    }
                });
                break;
            };
            settings.retain(|(path, _)| path != knob.path);
            settings.push((knob.path.to_owned(), knob.to));
        }
        if held {
            self.moved_back(plan, load, &mut settings, &mut tried);
        }
        Ok(Answer { load, settings: Vec::from_iter(held.then_some(settings)), remark, tried })
    }

    fn moved_back(
        &self,
        plan: &Plan,
        load: f64,
        settings: &mut Settings,
        tried: &mut Vec<(Settings, bool)>,
    ) {
        let own = serde_json::to_value(plan.scenario()).unwrap_or_default();
        for at in 0..settings.len() {
            let pointer = format!("/{}", settings[at].0.replace('.', "/"));
            let low = own.pointer(&pointer).and_then(serde_json::Value::as_f64);
            let (Some(mut low), Ok(mut high)) = (low, settings[at].1.parse::<f64>()) else {
                continue;
            };
            while high - low > (low * 0.05).max(1.0) && !interrupt::asked() {
                let middle = low.midpoint(high).round();
                settings[at].1 = format!("{middle}");
                let held = self.holds(settings, load);
                tried.push((settings.clone(), held));
                if held { high = middle } else { low = middle }
            }
            settings[at].1 = format!("{high}");
        }
    }
}
