//! `clean`: removes what killed runs left behind.

use anyhow::Result;

use crate::exit::Exit;
use crate::live::Live;
use crate::options::ClusterArgs;
use crate::ui;

/// Remove what killed runs left behind
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to look: `here` for local platforms and kind clusters of this machine, `cluster` for
    /// objects labelled as Alertstorm's in the cluster of the kubeconfig's context
    #[arg(long, value_name = "WHERE", default_value = "here", value_parser = ["here", "cluster"])]
    on: String,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Cleans up.
pub fn run(args: &Args) -> Result<Exit> {
    let live = Live::of_this_build("clean")?;
    let removed = match args.on.as_str() {
        "cluster" => {
            let what = "This deletes everything labelled as Alertstorm's in the cluster, and in Vault and \
                        PostgreSQL if the environment names them.\n";
            if !args.cluster.yes && !ui::confirm(what) {
                return Ok(Exit::Inconclusive);
            }
            live.clean_cluster(&args.cluster)?
        }
        _ => live.clean()?,
    };
    if removed.is_empty() {
        anstream::eprintln!("nothing was left behind");
    }
    for what in removed {
        anstream::eprintln!("removed: {what}");
    }
    Ok(Exit::Held)
}
