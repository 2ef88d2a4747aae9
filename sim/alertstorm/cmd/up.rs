//! `up` and `down`: a platform that several runs share.

use std::path::PathBuf;

use anyhow::Result;

use crate::exit::Exit;

/// Start a platform and keep it for several runs
#[derive(Debug, clap::Args)]
pub struct UpArgs {
    /// Where
    #[arg(long, value_name = "WORLD", default_value = "local", value_parser = ["local"])]
    on: String,
    /// The scenario whose settings the servers get; runs of it and of scenarios with the same
    /// settings can use the platform
    #[arg(value_name = "FILE")]
    scenario: PathBuf,
}

/// End the platforms that are kept, and what crashed runs left behind
#[derive(Debug, clap::Args)]
pub struct DownArgs {}

/// Starts a platform.
#[cfg(feature = "live")]
pub fn up(args: &UpArgs) -> Result<Exit> {
    let loaded = crate::source::load(&args.scenario, &[])?;
    crate::live::up(&loaded)?;
    Ok(Exit::Held)
}

/// Ends platforms.
#[cfg(feature = "live")]
pub fn down(_: &DownArgs) -> Result<Exit> {
    let ended = alertstorm_live::provider::local::down()?;
    anstream::eprintln!("{ended} kept platforms ended");
    Ok(Exit::Held)
}

/// This build has no such world.
#[cfg(not(feature = "live"))]
pub fn up(_: &UpArgs) -> Result<Exit> {
    Err(crate::live::absent())
}

/// This build has no such world.
#[cfg(not(feature = "live"))]
pub fn down(_: &DownArgs) -> Result<Exit> {
    Err(crate::live::absent())
}
