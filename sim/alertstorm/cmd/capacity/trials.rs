//! Runs of the twin at a given load, with given knobs.

use std::path::{Path, PathBuf};

use alertstorm_analysis::verdict::capacity::Axis;
use alertstorm_analysis::verdict::slo::{self, SloResult};
use alertstorm_model::scenario::Override;
use alertstorm_model::scenario::Slo;
use alertstorm_reports::Report;
use anyhow::Result;

use crate::source::{self, Loaded};
use crate::trial;

/// Knobs to set: path and value.
pub type Settings = Vec<(String, String)>;

/// One run.
pub struct Trial {
    /// The objectives, judged.
    pub slos: Vec<SloResult>,
    /// The report.
    pub report: Report,
}

/// Runs of one scenario.
pub struct Trials {
    scenario: PathBuf,
    set: Vec<Override>,
    axis: Axis,
}

impl Trials {
    /// Runs of a scenario; `axis` is what is meant by load.
    pub fn new(scenario: &Path, set: &[Override], axis: Axis) -> Self {
        Self { scenario: scenario.to_owned(), set: set.to_vec(), axis }
    }

    /// The scenario with settings.
    ///
    /// # Errors
    /// [`crate::exit::WrongInput`] if a setting is wrong.
    pub fn load(&self, settings: &Settings, more: &[(String, String)]) -> Result<Loaded> {
        let typed = |(path, value): &(String, String)| Override {
            path: path.clone(),
            value: value.clone(),
        };
        let own = settings.iter().chain(more).map(typed);
        let set: Vec<Override> = self.set.iter().cloned().chain(own).collect();
        source::load_with_files(&self.scenario, &set)
    }

    /// The scenario with settings, at a load.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn at(&self, settings: &Settings, load: f64) -> Result<Loaded> {
        let own = self.load(settings, &[])?;
        self.load(settings, &self.axis.settings(&own.plan, load))
    }

    /// A run of the twin; `None` if it was interrupted, or if the scenario cannot have this load.
    pub fn run(&self, settings: &Settings, load: f64, seed: u64, slos: &[Slo]) -> Option<Trial> {
        let plan = self.at(settings, load).ok()?.plan.with_seed(seed);
        let (measures, report) = trial::run(&plan, None, &mut |_, _| {});
        let slos = slos.iter().map(|slo| slo::judge(slo, &measures)).collect();
        (!report.interrupted).then_some(Trial { slos, report })
    }
}
