//! `setup`: builds what a world needs.

use std::path::PathBuf;

use anyhow::Result;

use crate::exit::Exit;
use crate::live::Live;
use crate::out;

/// Build what a world needs
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    world: World,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum World {
    /// Build etcd, the Kubernetes control plane and Vault from pinned Go modules
    Local,
    /// Build the agent's image
    Kind {
        /// A static program to put into the image, instead of building it from these sources
        #[arg(long, value_name = "FILE")]
        binary: Option<PathBuf>,
    },
}

/// Builds what is missing.
pub fn run(args: &Args) -> Result<Exit> {
    let live = Live::of_this_build("setup")?;
    match &args.world {
        World::Local => local(live),
        World::Kind { binary } => {
            let image = live.build_agent_image(binary.as_deref())?;
            out::note(format_args!("the agent's image is {image}"));
            Ok(Exit::Held)
        }
    }
}

fn local(live: Live) -> Result<Exit> {
    let (folder, readiness) = live.build_servers()?;
    out::note(format_args!("the servers are in {}", folder.display()));
    let mut exit = Exit::Held;
    for need in readiness.missing() {
        out::note(format_args!("still missing: {}; to get it: {}", need.what, need.got_by));
        exit = Exit::Missing;
    }
    Ok(exit)
}
