//! `schema`: writes the JSON schemas for editors and scripts.

use std::fs;
use std::path::PathBuf;

use alertstorm_reports::schema;
use anyhow::{Context, Result};

use crate::exit::Exit;

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
    fs::create_dir_all(folder).with_context(|| format!("could not create {}", folder.display()))?;
    for (name, text) in schema::all() {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("could not write {}", path.display()))?;
        anstream::println!("{}", path.display());
    }
    Ok(Exit::Held)
}
