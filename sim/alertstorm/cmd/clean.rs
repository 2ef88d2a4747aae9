//! `clean`: removes what killed runs left behind.

use anyhow::Result;

use crate::exit::{Exit, WrongInput};
use crate::live::Live;
use crate::options::CleanArgs;
use crate::out;

/// Remove what killed runs left behind
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to look: `here` for local platforms and kind clusters of this machine, `cluster` for runs
    /// on the cluster of the kubeconfig's context, with the Vault and the PostgreSQL of the environment
    #[arg(long, value_name = "WHERE", default_value = "here", value_parser = ["here", "cluster"])]
    on: String,
    #[command(flatten)]
    cluster: CleanArgs,
}

/// Cleans up.
pub fn run(args: &Args) -> Result<Exit> {
    let live = Live::of_this_build("clean")?;
    let removed = match args.on.as_str() {
        "cluster" => match live.clean_cluster(&args.cluster)? {
            Some(removed) => removed,
            None => return Ok(Exit::Inconclusive),
        },
        _ if args.cluster.is_default() => live.clean()?,
        _ => {
            let why =
                "--run, --dry-run, --context, --production and --yes are options of --on cluster";
            return Err(WrongInput::of("clean", why));
        }
    };
    if removed.is_empty() {
        out::note("nothing was left behind");
    }
    for what in removed {
        out::note(format_args!("removed: {what}"));
    }
    Ok(Exit::Held)
}
