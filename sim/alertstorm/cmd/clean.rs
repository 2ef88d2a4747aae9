//! `clean`: what killed runs left behind.

use anyhow::Result;

use crate::exit::Exit;
use crate::world::ClusterArgs;

/// Take back what killed runs left behind
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where: `here` on this machine, local platforms and kind clusters; `cluster` in the cluster of
    /// the kubeconfig's context, by the label of what is ours
    #[arg(long, value_name = "WHERE", default_value = "here", value_parser = ["here", "cluster"])]
    on: String,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Cleans up.
#[cfg(feature = "live")]
pub fn run(args: &Args) -> Result<Exit> {
    let swept = match args.on.as_str() {
        "cluster" => {
            let what = "This deletes what Alertstorm labelled as its own in the cluster, and in Vault and \
                        PostgreSQL where the environment names them.\n";
            if !args.cluster.yes && !crate::ui::confirm(what) {
                return Ok(Exit::Inconclusive);
            }
            crate::live::clean_cluster(&args.cluster)?
        }
        _ => crate::live::clean()?,
    };
    if swept.is_empty() {
        anstream::eprintln!("nothing was left behind");
    }
    for what in swept {
        anstream::eprintln!("taken back: {what}");
    }
    Ok(Exit::Held)
}

/// This build has no live worlds.
#[cfg(not(feature = "live"))]
pub fn run(args: &Args) -> Result<Exit> {
    let Args { on: _, cluster: _ } = args;
    Err(crate::live::absent())
}
