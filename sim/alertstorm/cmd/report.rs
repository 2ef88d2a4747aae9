//! `report`: an old run anew, from its event log or, where none was kept, from its report.json.

use std::path::{Path, PathBuf};

use alertstorm_analysis::measure::Measures;
use alertstorm_model::scenario::Plan;
use alertstorm_reports::Report;
use anyhow::Result;

use crate::cmd::run::{show, verdict};
use crate::exit::{Exit, WrongInput};
use crate::{run_folder, source};

/// Render an old run anew, also one that was killed
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder of the run
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Print the report as JSON instead of the summary
    #[arg(long)]
    json: bool,
}

/// Renders a run.
pub fn run(args: &Args) -> Result<Exit> {
    let folder = &args.run;
    let name = folder.display().to_string();
    if !folder.is_dir() {
        return Err(WrongInput::of(&name, "there is no such folder of a run"));
    }
    let stored = run_folder::read_report(folder)?;
    let report = if folder.join(run_folder::EVENTS).is_file() {
        let plan = source::load(&folder.join(run_folder::SCENARIO), &[])?;
        let mut report = from_events(folder, &plan)?;
        // Only the run itself knows how long it took, and what it tried.
        if let Some(stored) = stored.filter(|stored| stored.digest == report.digest) {
            report.harness.wall_s = stored.harness.wall_s;
            let tried = stored.bottleneck.and_then(|bottleneck| bottleneck.tried);
            if let Some(bottleneck) = &mut report.bottleneck {
                bottleneck.tried = tried;
            }
        }
        report
    } else {
        stored.ok_or_else(|| WrongInput::of(&name, "it has neither an event log nor a report"))?
    };
    run_folder::write_report(folder, &report)?;
    show(&report, folder, args.json)?;
    Ok(verdict(&report))
}

/// What a run's event log comes to.
pub fn from_events(folder: &Path, plan: &Plan) -> Result<Report> {
    let mut measures = Measures::default();
    let cut_off = run_folder::read_events(folder, &mut measures)?;
    // A log without its last sample was not written to its end.
    let whole = measures.last_sample.as_ref().is_some_and(|sample| !sample.waits.is_empty());
    measures.interrupted |= cut_off || !whole;
    measures.close();
    Ok(Report::new(plan, &measures, 0.0))
}
