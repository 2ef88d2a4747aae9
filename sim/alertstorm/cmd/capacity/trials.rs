//! Runs of the twin at a load, with settings of knobs.

use std::path::{Path, PathBuf};

use alertstorm_analysis::verdict::capacity::Axis;
use alertstorm_analysis::verdict::slo::{self, SloResult};
use alertstorm_model::scenario::Override;
use alertstorm_model::scenario::Slo;
use alertstorm_reports::Report;
use anyhow::Result;

use crate::source::{self, Loaded};
use crate::trial;

/// Knobs that are set: path and value.
pub type Settings = Vec<(String, String)>;

/// One run.
pub struct Trial {
    /// What the objectives came to.
    pub slos: Vec<SloResult>,
    /// The report.
    pub report: Report,
}

/// Makes runs of one scenario.
pub struct Trials {
    scenario: PathBuf,
    set: Vec<Override>,
    axis: Axis,
}

impl Trials {
    /// Runs of a scenario, with loads on an axis.
    pub fn new(scenario: &Path, set: &[Override], axis: Axis) -> Self {
        Self { scenario: scenario.to_owned(), set: set.to_vec(), axis }
    }

    /// The scenario with settings.
    ///
    /// # Errors
    /// [`crate::exit::WrongInput`] where a setting is none.
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

    /// A run of the twin; nothing where it was broken off, or the load cannot be.
    pub fn run(&self, settings: &Settings, load: f64, seed: u64, slos: &[Slo]) -> Option<Trial> {
        let plan = self.at(settings, load).ok()?.plan.with_seed(seed);
        let (measures, report) = trial::run(&plan, None, &mut |_, _| {});
        let slos = slos.iter().map(|slo| slo::judge(slo, &measures)).collect();
        (!report.interrupted).then_some(Trial { slos, report })
    }
}
