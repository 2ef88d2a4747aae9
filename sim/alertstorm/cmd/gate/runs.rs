//! The runs that a gate judges: new ones, or the folders of earlier ones.

use std::path::Path;

use alertstorm_analysis::measure::Measures;
use alertstorm_analysis::verdict::gate::{Sample, Trail};
use alertstorm_model::event::Event;
use anyhow::{Result, bail};

use super::args::Args;
use crate::exit::WrongInput;
use crate::source::Loaded;
use crate::world::{Servers, World};
use crate::{live_run, run_folder, trial};

/// The provider of the twin's runs.
pub const EMBEDDED: &str = "embedded";

/// Runs of one provider.
pub struct Made {
    /// The provider.
    pub provider: String,
    /// What each run measured.
    pub runs: Vec<Sample>,
    /// The event log of the twin's only run, in short; empty for runs on real servers.
    pub trail: Trail,
}

/// The event log of a run of the twin: in short, and event by event, to name one that differs.
pub type Followed = (Trail, Vec<Event>);

/// One run of the twin; `None` if it was interrupted.
pub fn run_twin(loaded: &Loaded) -> Option<(Sample, Followed)> {
    let mut followed = Followed::default();
    let (measures, report) = trial::run(&loaded.plan, Some(&mut followed), &mut |_, _| {});
    let sample = Sample::of(loaded.plan.scenario().seed, &measures);
    (!report.interrupted).then_some((sample, followed))
}

/// One run on real servers, and its provider; `None` if it was interrupted.
///
/// # Errors
/// Where the run fails or is invalid.
pub fn run_live(
    loaded: &Loaded,
    servers: &Servers,
    output: &Path,
) -> Result<Option<(Sample, String)>> {
    let (report, folder) = live_run::run(loaded, servers, output)?;
    if report.interrupted {
        return Ok(None);
    }
    if let Some(why) = report.invalid.first() {
        bail!("the run in {} is invalid: {why}", folder.display());
    }
    Ok(Some((sample_of(&folder, report.seed)?, report.provider)))
}

/// What the run in a folder measured.
///
/// # Errors
/// Where its event log cannot be read.
pub fn sample_of(folder: &Path, seed: u64) -> Result<Sample> {
    Ok(Sample::of(seed, &run_folder::read_measures(folder)?))
}

/// The runs of a gate, and the twin's events; `None` if a run was interrupted.
///
/// # Errors
/// Where a run fails, or an earlier one cannot be used.
pub fn make(args: &Args, loaded: &Loaded, world: &World) -> Result<Option<(Made, Vec<Event>)>> {
    if !args.runs.is_empty() {
        return read_earlier(args, loaded).map(Some);
    }
    let World::Live(servers) = world else {
        let Some((sample, followed)) = run_twin(loaded) else { return Ok(None) };
        let provider = EMBEDDED.to_owned();
        let (trail, events) = followed;
        return Ok(Some((Made { provider, runs: vec![sample], trail }, events)));
    };
    let mut made = Made { provider: String::new(), runs: Vec::new(), trail: Trail::default() };
    for number in 0..=args.repeats.get() {
        let Some((sample, provider)) = run_live(loaded, servers, &args.output)? else {
            return Ok(None);
        };
        made.provider = provider;
        // Number 0 is the warm-up run.
        if number > 0 {
            made.runs.push(sample);
        }
    }
    Ok(Some((made, Vec::new())))
}

/// Reads the folders of earlier runs of this plan.
fn read_earlier(args: &Args, loaded: &Loaded) -> Result<(Made, Vec<Event>)> {
    let mut made = Made { provider: String::new(), runs: Vec::new(), trail: Trail::default() };
    let mut events = Vec::new();
    for folder in &args.runs {
        let name = folder.display().to_string();
        let wrong = |why: String| WrongInput::of(&name, why);
        let report = run_folder::expect_report(folder)?;
        if report.plan != loaded.plan.digest() {
            return Err(wrong("the run's plan is not the scenario's".to_owned()));
        }
        if let Some(why) = report.invalid.first() {
            return Err(wrong(format!("the run is invalid: {why}")));
        }
        if report.interrupted {
            return Err(wrong("the run was interrupted".to_owned()));
        }
        if !made.provider.is_empty() && made.provider != report.provider {
            return Err(wrong(format!(
                "the run was made on {}, and others on {}",
                report.provider, made.provider
            )));
        }
        if report.provider == EMBEDDED {
            let mut both = (Measures::default(), Followed::default());
            run_folder::read_events(folder, &mut both)?;
            both.0.close();
            made.runs.push(Sample::of(report.seed, &both.0));
            (made.trail, events) = both.1;
        } else {
            made.runs.push(sample_of(folder, report.seed)?);
        }
        made.provider = report.provider;
    }
    Ok((made, events))
}
