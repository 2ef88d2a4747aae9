//! `report`: the report of an earlier run, computed again from its event log; without one, from its
//! report.json.

use std::path::PathBuf;

use anyhow::Result;

use crate::exit::{Exit, WrongInput};
use crate::{run_folder, source, ui};

/// Render the report of an earlier run again; works for killed runs too
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
        return Err(WrongInput::of(&name, "no such folder"));
    }
    let stored = run_folder::read_report(folder)?;
    let report = if run_folder::has(folder, run_folder::EVENTS) {
        let plan = source::load_of_run(folder)?;
        let mut report = run_folder::report_from_events(folder, &plan)?;
        if report.interrupted && stored.as_ref().is_some_and(|stored| !stored.interrupted) {
            let why = format!(
                "the event log is incomplete, and {} was made from a complete one: it is kept. \
                 Without it, `alertstorm report` reports what the log still has",
                run_folder::REPORT
            );
            return Err(WrongInput::of(&name, why));
        }
        // These two are not in the event log.
        if let Some(stored) = stored.filter(|stored| stored.digest == report.digest) {
            report.harness.wall_s = stored.harness.wall_s;
            let tried = stored.bottleneck.and_then(|bottleneck| bottleneck.tried);
            if let Some(bottleneck) = &mut report.bottleneck {
                bottleneck.tried = tried;
            }
        }
        report
    } else {
        stored.ok_or_else(|| {
            WrongInput::of(&name, "the folder has neither an event log nor a report")
        })?
    };
    run_folder::write_report(folder, &report)?;
    ui::summary(&report, folder, args.json)?;
    Ok(Exit::of_run(&report))
}
