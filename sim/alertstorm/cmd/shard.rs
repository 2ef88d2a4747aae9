//! `shard`: the program of a shard's pod, started by a run with `--shards`.

use std::path::PathBuf;

use anyhow::Result;

use crate::exit::Exit;
use crate::live::Live;

/// Run this pod's part of a plan
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder of the plan
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Runs a shard.
pub fn run(args: &Args) -> Result<Exit> {
    Live::of_this_build("shard")?.shard(&args.folder)?;
    Ok(Exit::Held)
}
