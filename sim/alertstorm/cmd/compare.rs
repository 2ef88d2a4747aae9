//! `compare`: runs side by side.

use std::path::PathBuf;

use alertstorm_reports::{Report, compare};
use anyhow::Result;

use crate::exit::{Exit, WrongInput};
use crate::run_folder;

/// Print runs side by side: stages, calls, leases, processor time
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folders of the runs; each is held against the first
    #[arg(value_name = "RUN", num_args = 2.., required = true)]
    runs: Vec<PathBuf>,
}

/// Compares runs.
pub fn run(args: &Args) -> Result<Exit> {
    let mut reports: Vec<Report> = Vec::new();
    for folder in &args.runs {
        let report = run_folder::read_report(folder)?;
        let name = folder.display().to_string();
        reports.push(report.ok_or_else(|| WrongInput::of(&name, "it is no run with a report"))?);
    }
    anstream::print!("{}", compare::table(&reports));
    Ok(Exit::Held)
}
