//! `setup`: gets what a world needs.

use std::path::PathBuf;

use anyhow::Result;

use crate::exit::Exit;

/// Get what a world needs
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    world: World,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum World {
    /// Build etcd, the Kubernetes control plane and Vault from pinned Go modules
    Local,
    /// Make the agent's image
    Kind {
        /// A static program to make it of, instead of building it from the sources here
        #[arg(long, value_name = "FILE")]
        binary: Option<PathBuf>,
    },
}

/// Gets what is missing.
#[cfg(feature = "live")]
pub fn run(args: &Args) -> Result<Exit> {
    match &args.world {
        World::Local => local(),
        World::Kind { binary } => {
            let image = crate::live::agent_image(binary.as_deref())?;
            anstream::eprintln!("the agent's image is {image}");
            Ok(Exit::Held)
        }
    }
}

#[cfg(feature = "live")]
fn local() -> Result<Exit> {
    use alertstorm_live::provider::local::{doctor, setup};

    let bar = crate::ui::spinner();
    let built = setup::build(&mut |step| {
        let name = step.program.file();
        let line = match step.ready {
            true => format!("{}/{} {name} is there", step.number, step.of),
            false => format!("{}/{} building {name}", step.number, step.of),
        };
        crate::ui::tell(&bar, &line);
    });
    bar.finish_and_clear();
    anstream::eprintln!("the servers are in {}", built?.display());
    let missing = doctor::local();
    for finding in missing.iter().filter(|finding| finding.found.is_none()) {
        anstream::eprintln!("still missing: {}; it comes by: {}", finding.what, finding.got_by);
    }
    let all = missing.iter().all(|finding| finding.found.is_some());
    Ok(if all { Exit::Held } else { Exit::Missing })
}

/// This build has no such world.
#[cfg(not(feature = "live"))]
pub fn run(args: &Args) -> Result<Exit> {
    let (World::Local | World::Kind { .. }) = args.world;
    Err(crate::live::absent())
}
