//! `up` and `down`: a platform that several runs share.

use std::path::PathBuf;

use anyhow::Result;

use crate::exit::Exit;
use crate::live::Live;
use crate::{out, source};

/// Start a platform and keep it for several runs
#[derive(Debug, clap::Args)]
pub struct UpArgs {
    /// Where to start it
    #[arg(long, value_name = "WORLD", default_value = "local", value_parser = ["local"])]
    on: String,
    /// The scenario whose settings the servers get; the platform serves every scenario with the same
    /// settings
    #[arg(value_name = "FILE")]
    scenario: PathBuf,
}

/// Stop the platforms that were kept, and what crashed runs left behind
#[derive(Debug, clap::Args)]
pub struct DownArgs {}

/// Starts a platform.
pub fn up(args: &UpArgs) -> Result<Exit> {
    let plan = source::load(&args.scenario, &[])?;
    let kubeconfig = Live::of_this_build("up")?.up(&plan)?;
    out::note("the platform is up; `alertstorm down` stops it");
    out::note(format_args!("its administrator's kubeconfig: {}", kubeconfig.display()));
    Ok(Exit::Held)
}

/// Stops platforms.
pub fn down(_: &DownArgs) -> Result<Exit> {
    let stopped = Live::of_this_build("down")?.down()?;
    out::note(format_args!("kept platforms stopped: {stopped}"));
    Ok(Exit::Held)
}
