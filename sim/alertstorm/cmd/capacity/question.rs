//! What a search is about, and the search itself: a knee for each setting, seed and objective.

use std::num::NonZeroUsize;

use alertstorm_analysis::measure::Reading;
use alertstorm_analysis::verdict::capacity::{Axis, Bounds, Knee, knee};
use alertstorm_model::scenario::{Plan, Slo};

use alertstorm_reports::capacity::{Curve, Figure, Setting, Side, SloKnee};
use anyhow::Result;

use super::args::Args;
use super::trials::{Settings, Trials};
use crate::exit::WrongInput;
use crate::{parallel, ui};

/// What a search is about.
pub struct Question {
    /// Runs of the scenario.
    pub trials: Trials,
    /// What is meant by load.
    pub axis: Axis,
    /// The objectives to hold.
    pub slos: Vec<Slo>,
    /// Where the search starts and ends.
    pub bounds: Bounds,
    /// The seeds, each with a knee of its own.
    pub seeds: Vec<u64>,
    /// Threads to use; all cores if `None`.
    pub threads: Option<NonZeroUsize>,
}

impl Question {
    /// The question that the command line asks about a plan.
    ///
    /// # Errors
    /// [`WrongInput`] if an objective is wrong, or if the plan has no objective or no such load.
    pub fn new(args: &Args, plan: &Plan) -> Result<Self> {
        let name = args.scenario.display().to_string();
        let axis = args.load.unwrap_or_else(|| Axis::of(plan));
        let Some(start) = axis.load(plan) else {
            let why = format!(
                "the scenario has no load of the kind `{axis}`; choose another with --load"
            );
            return Err(WrongInput::of(&name, why));
        };
        let slos: Vec<Slo> = match args.slo.is_empty() {
            true => plan.scenario().slos.clone(),
            false => {
                let parse = |text: &String| {
                    let wrong = |expected| {
                        WrongInput::of(&format!("--slo {text}"), format!("expected {expected}"))
                    };
                    Slo::parse(text).map_err(wrong)
                };
                args.slo.iter().map(parse).collect::<Result<_>>()?
            }
        };
        if slos.is_empty() {
            let why = "the scenario has no `slos`, and without any every load holds; add one, or pass --slo";
            return Err(WrongInput::of(&name, why));
        }
        let most = args.most.unwrap_or(start * 8.0).max(start);
        let first = plan.scenario().seed;
        Ok(Self {
            trials: Trials::new(&args.scenario, &args.set, axis),
            axis,
            slos,
            bounds: Bounds { start, most, within: 0.01 },
            seeds: (0..u64::from(args.seeds.get())).map(|n| first.wrapping_add(n)).collect(),
            threads: args.threads,
        })
    }

    /// The knees of every setting. Searches run in parallel, one for each setting and seed.
    pub fn knees(&self, grid: &[Settings]) -> Vec<Setting> {
        let work: Vec<(usize, u64)> = (0..grid.len())
            .flat_map(|setting| self.seeds.iter().map(move |seed| (setting, *seed)))
            .collect();
        let bar = ui::progress(work.len() as u64);
        bar.set_message("searches");
        let found = parallel::map(self.threads, &work, |(setting, seed)| {
            let found = self.knees_of(&grid[*setting], *seed);
            bar.inc(1);
            found
        });
        bar.finish_and_clear();
        let mut settings = Vec::new();
        for (number, knobs) in grid.iter().enumerate() {
            let own = work.iter().zip(&found).filter(|((setting, _), _)| *setting == number);
            // An interrupted search has no result for its seed.
            let own: Vec<&Vec<Knee>> =
                own.filter_map(|(_, found)| found.as_ref()?.as_ref()).collect();
            if own.is_empty() {
                continue;
            }
            settings.push(self.setting(knobs, &own));
        }
        settings
    }

    /// One seed's knee for each objective.
    fn knees_of(&self, settings: &Settings, seed: u64) -> Option<Vec<Knee>> {
        let mut known: Vec<(f64, Vec<bool>)> = Vec::new();
        let of = |number: usize, known: &mut Vec<(f64, Vec<bool>)>| {
            knee(self.axis, self.bounds, &mut |load| {
                if let Some((_, held)) = known.iter().find(|(tried, _)| *tried == load) {
                    return Some(held[number]);
                }
                let trial = self.trials.run(settings, load, seed, &self.slos)?;
                let held: Vec<bool> = trial.slos.iter().map(|slo| slo.held).collect();
                known.push((load, held));
                known.last().map(|(_, held)| held[number])
            })
        };
        (0..self.slos.len()).map(|number| of(number, &mut known)).collect()
    }

    fn setting(&self, knobs: &Settings, seeds: &[&Vec<Knee>]) -> Setting {
        let least = |seed: &&Vec<Knee>| {
            let held = |knee: &Knee| knee.held.unwrap_or(0.0);
            let least = seed.iter().min_by(|a, b| held(a).total_cmp(&held(b)));
            least.copied().unwrap_or_default()
        };
        let all: Vec<Knee> = seeds.iter().map(least).collect();
        let slos = self.slos.iter().enumerate().map(|(number, slo)| {
            let knees: Vec<Knee> = seeds.iter().map(|seed| seed[number]).collect();
            let knee = Figure::of(&knees);
            // A bottleneck explains a latency, not a share or a count.
            let at = knee.median.filter(|_| slo.latency().is_some());
            let broke = knee.unbroken < seeds.len() as u64;
            let side = |load: f64| self.side(knobs, load);
            SloKnee {
                slo: slo.to_string(),
                below: at.and_then(side),
                above: at.filter(|_| broke).and_then(|load| side((load * 1.1).ceil())),
                knee,
            }
        });
        let slos = slos.collect();
        Setting { knobs: knobs.clone(), all: Figure::of(&all), slos }
    }

    fn side(&self, settings: &Settings, load: f64) -> Option<Side> {
        let trial = self.trials.run(settings, load, self.seeds[0], &self.slos)?;
        let bottleneck = trial.report.bottleneck?;
        let (component, share, knob) = (bottleneck.component, bottleneck.share, bottleneck.knob);
        Some(Side { load, component, share, knob })
    }

    /// Latency by load around the knee, for the first objective that is a latency.
    pub fn curve(&self, knobs: Option<&Settings>, setting: Option<&Setting>) -> Option<Curve> {
        let slo = self.slos.iter().find(|slo| slo.latency().is_some())?;
        let (stage, limit_s) = slo.latency()?;
        let of = setting?.slos.iter().find(|of| of.slo == slo.to_string())?;
        let around = of.knee.median.unwrap_or(self.bounds.start);
        let loads = [0.1, 0.25, 0.4, 0.55, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.35, 1.5, 1.75, 2.0];
        let mut loads: Vec<f64> = loads.iter().map(|share| share * around).collect();
        if self.axis != Axis::Rate {
            loads.iter_mut().for_each(|load| *load = load.round().max(1.0));
            loads.dedup();
        }
        let points = parallel::map(self.threads, &loads, |load| {
            let trial = self.trials.run(knobs?, *load, self.seeds[0], &self.slos)?;
            let row = trial.report.latency(stage.word())?;
            let finite = |of: Option<Reading>| of.and_then(Reading::finite);
            Some((*load, finite(row.p50_s), finite(row.p99_s)))
        });
        let points = points.into_iter().flatten().flatten().collect();
        Some(Curve { to: stage.to_string(), slo: slo.to_string(), limit_s, points })
    }
}
