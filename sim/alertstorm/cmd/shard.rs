//! `shard`: the program of a shard's pod, which a run with `--shards` starts by itself.

use std::path::PathBuf;

use anyhow::Result;

use crate::exit::Exit;

/// Run the part of a plan that falls to this pod
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder of the plan
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Runs a shard.
#[cfg(feature = "live")]
pub fn run(args: &Args) -> Result<Exit> {
    crate::live::shard(&args.folder)?;
    Ok(Exit::Held)
}

/// This build has no such world.
#[cfg(not(feature = "live"))]
pub fn run(args: &Args) -> Result<Exit> {
    let _ = &args.folder;
    Err(crate::live::absent())
}
