//! The options of `gate`.

use std::num::NonZeroU32;
use std::path::PathBuf;

use alertstorm_model::scenario::Override;

use crate::source::parse_override;
use crate::world::WorldArgs;

/// Compare a scenario's runs with a baseline: did this commit make it worse?
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The scenario file
    #[arg(value_name = "FILE")]
    pub scenario: PathBuf,
    /// The baseline's file
    #[arg(long, value_name = "FILE", required_unless_present = "against")]
    pub baseline: Option<PathBuf>,
    /// Write the baseline instead of judging by it
    #[arg(long, requires = "baseline", conflicts_with = "against")]
    pub update: bool,
    /// Compare with another build instead, in alternating runs: a program, or a revision of this
    /// repository
    #[arg(long, value_name = "PROGRAM|REV", conflicts_with = "baseline")]
    pub against: Option<String>,
    /// Runs on real servers, after one warm-up run. The twin runs once: it has no noise
    #[arg(long, value_name = "N", default_value = "6")]
    pub repeats: NonZeroU32,
    /// Judge these earlier runs instead of making new ones; ignores --on
    #[arg(long, value_name = "RUN", num_args = 1.., conflicts_with = "against")]
    pub runs: Vec<PathBuf>,
    /// The share of gates that may raise a false alarm
    #[arg(long, value_name = "SHARE", default_value_t = 0.05, value_parser = share)]
    pub false_alarms: f64,
    /// The smallest change that matters, as a share
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, value_parser = share)]
    pub least_effect: f64,
    /// A knob that may differ from the baseline's plan; can be repeated
    #[arg(long, value_name = "PATH")]
    pub may_differ: Vec<String>,
    /// Judge live runs even if the baseline was made on another machine
    #[arg(long)]
    pub any_machine: bool,
    /// Override a value of the file, like controller.concurrency=50
    #[arg(long, value_name = "PATH=VALUE", value_parser = parse_override)]
    pub set: Vec<Override>,
    /// Write the verdict as JUnit XML
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Write the verdict as Markdown; it is also appended to GITHUB_STEP_SUMMARY, if set
    #[arg(long, value_name = "FILE")]
    pub summary: Option<PathBuf>,
    /// The folder in which the folders of live runs are created
    #[arg(short, long, value_name = "DIR", default_value = "runs")]
    pub output: PathBuf,
    /// Print the verdict as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub world: WorldArgs,
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share: &f64| *share > 0.0 && *share < 1.0);
    share.ok_or_else(|| "expected a share between 0 and 1, like 0.05".to_owned())
}
