//! `doctor`: what each world needs, and what is missing.

use anyhow::Result;

use crate::exit::Exit;
use crate::live::Live;
use crate::out;

/// Show what each world needs, what is missing and how to get it
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Checks every world. Succeeds if the local servers are ready.
pub fn run(_: &Args) -> Result<Exit> {
    out::line("twin     ready: it needs nothing")?;
    let worlds = Live::of_this_build("doctor on local, kind and cluster")?.readiness();
    worlds.iter().try_for_each(|world| world.print())?;
    let missing = worlds.iter().any(|of| of.world == "local" && of.missing().next().is_some());
    Ok(if missing { Exit::Missing } else { Exit::Held })
}
