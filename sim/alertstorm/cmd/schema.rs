//! `schema`: writes the JSON schemas for editors and scripts.

use std::path::PathBuf;

use alertstorm_reports::schema;
use anyhow::Result;

use crate::exit::Exit;
use crate::{out, run_folder};

/// Write the JSON schemas of scenarios, profiles and reports
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder to write them to
    #[arg(short, long, value_name = "DIR", default_value = "reports/schema")]
    output: PathBuf,
}

/// Writes every schema.
pub fn run(args: &Args) -> Result<Exit> {
    let folder = &args.output;
    let all = schema::all();
    let names: Vec<_> = all.iter().map(|(name, _)| folder.join(name)).collect();
    run_folder::write_all(folder, all)?;
    names.iter().try_for_each(|path| out::line(path.display()))?;
    Ok(Exit::Held)
}
