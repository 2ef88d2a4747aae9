//! The options of `capacity`.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;

use alertstorm_analysis::verdict::capacity::Axis;
use alertstorm_model::scenario::Override;

use crate::source::parse_override;
use crate::world::WorldArgs;

/// Find the largest load that holds a scenario's objectives, and what limits it
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The scenario file
    #[arg(value_name = "FILE")]
    pub scenario: PathBuf,
    /// The load to vary [default: flood if the scenario has one, else rate]
    #[arg(long, value_name = "AXIS", value_parser = axis)]
    pub load: Option<Axis>,
    /// Vary a knob over these values, cheapest first, like
    /// cluster.control_plane.controller_manager.kube_api_qps=20,50,100; several make a grid
    #[arg(long, value_name = "PATH=V,V…", value_parser = parse_override)]
    pub vary: Vec<Override>,
    /// Find the cheapest setting that holds this load instead. Without --vary, the bottleneck's knob is
    /// moved until the load holds
    #[arg(long = "for", value_name = "LOAD", value_parser = positive)]
    pub hold: Option<f64>,
    /// Judge by this objective instead of the scenario's; can be repeated
    #[arg(long, value_name = "SLO")]
    pub slo: Vec<String>,
    /// Number of consecutive seeds, starting at the scenario's; each has its own knee
    #[arg(long, value_name = "N", default_value = "16")]
    pub seeds: NonZeroU32,
    /// The largest load to try [default: eight times the scenario's]
    #[arg(long, value_name = "LOAD", value_parser = positive)]
    pub most: Option<f64>,
    /// Override a value of the file, like controller.concurrency=50
    #[arg(long, value_name = "PATH=VALUE", value_parser = parse_override)]
    pub set: Vec<Override>,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// On real servers: the loads to run, as shares of the twin's knee, in ascending order
    #[arg(
        long,
        value_name = "SHARE,SHARE…",
        value_delimiter = ',',
        default_value = "0.7,0.85,1,1.15,1.3"
    )]
    pub steps: Vec<f64>,
    /// On real servers: pause between two steps, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub cool_down: u64,
    /// The folder in which the result's folder is created
    #[arg(short, long, value_name = "DIR", default_value = "runs")]
    pub output: PathBuf,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub world: WorldArgs,
}

fn axis(text: &str) -> Result<Axis, String> {
    text.parse().map_err(|error: alertstorm_model::UnknownWord| error.to_string())
}

/// `1000`, or `flood=1000`.
fn positive(text: &str) -> Result<f64, String> {
    let number = text.rsplit_once('=').map_or(text, |(_, number)| number);
    let load = number.parse().ok().filter(|load: &f64| load.is_finite() && *load > 0.0);
    load.ok_or_else(|| "expected a load above 0, like 1000".to_owned())
}
