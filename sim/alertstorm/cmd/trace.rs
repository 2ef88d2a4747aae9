//! `trace`: the traces that a scenario's agents would follow, as JSON Lines, to be read, edited and
//! replayed with `agents: {traces: FILE}`.

use std::path::PathBuf;

use alertstorm_model::agent::trace;
use anyhow::Result;

use crate::exit::Exit;
use crate::{out, source};

/// Print the traces of a scenario's agents as JSON Lines
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The scenario file
    #[arg(value_name = "FILE")]
    scenario: PathBuf,
    /// Number of traces, starting with the first alert's
    #[arg(short, long, default_value_t = 1)]
    number: usize,
    /// The seed, instead of the file's
    #[arg(long)]
    seed: Option<u64>,
}

/// Prints traces.
pub fn run(args: &Args) -> Result<Exit> {
    let plan = source::load(&args.scenario, &[])?;
    let plan = plan.with_seed(args.seed.unwrap_or(plan.scenario().seed));
    for alert in plan.alerts().take(args.number) {
        let name = alert.id.to_string();
        out::json_lines(&trace::write([(name.as_str(), &plan.trace(&alert))]))?;
    }
    Ok(Exit::Held)
}
