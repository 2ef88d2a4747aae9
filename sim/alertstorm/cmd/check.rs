//! `check`: whether scenarios can run, and their values with every default.

use std::path::PathBuf;

use alertstorm_model::scenario::Override;
use anyhow::Result;

use crate::exit::{Exit, WrongInput};
use crate::{out, run_folder, source};

/// Check scenarios without running them
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Scenario files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print each scenario with every default written out, as YAML
    #[arg(long)]
    resolved: bool,
    /// Override a value of the file, like controller.concurrency=50
    #[arg(long, value_name = "PATH=VALUE", value_parser = source::parse_override)]
    set: Vec<Override>,
}

/// Checks every file, and reports all problems of all files.
pub fn run(args: &Args) -> Result<Exit> {
    let mut wrong = WrongInput { files: Vec::new(), problems: Vec::new() };
    for path in &args.files {
        match source::load(path, &args.set) {
            Ok(plan) if args.resolved => {
                out::text(&run_folder::resolved(plan.scenario(), plan.digest())?)?;
            }
            Ok(plan) => {
                let alerts = plan.alerts_expected();
                let over = plan.alerts_last();
                out::line(format_args!("{}: fine, {alerts} alerts over {over}", path.display()))?;
            }
            Err(error) => {
                let found = error.downcast::<WrongInput>()?;
                wrong.files.extend(found.files);
                wrong.problems.extend(found.problems);
            }
        }
    }
    if wrong.problems.is_empty() { Ok(Exit::Held) } else { Err(wrong.into()) }
}
