//! `setup`: gets what a world needs.

use anyhow::Result;

use crate::exit::Exit;

/// Get what a world needs
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The world
    #[arg(value_enum)]
    world: World,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum World {
    /// etcd, the Kubernetes control plane and Vault, built from pinned Go modules
    Local,
}

/// Builds what is missing.
#[cfg(feature = "live")]
pub fn run(args: &Args) -> Result<Exit> {
    use alertstorm_live::local::setup;

    let World::Local = args.world;
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
    let missing = alertstorm_live::local::doctor::local();
    for finding in missing.iter().filter(|finding| finding.found.is_none()) {
        anstream::eprintln!("still missing: {}; it comes by: {}", finding.what, finding.got_by);
    }
    let all = missing.iter().all(|finding| finding.found.is_some());
    Ok(if all { Exit::Held } else { Exit::Missing })
}

/// This build has no such world.
#[cfg(not(feature = "live"))]
pub fn run(args: &Args) -> Result<Exit> {
    let World::Local = args.world;
    Err(crate::live::absent())
}
