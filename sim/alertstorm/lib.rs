//! The command line of Alertstorm: one file for each verb in `cmd`, exit codes in `exit`. What several
//! verbs share has a module of its own here; no verb imports another.

mod cmd;
mod exit;
mod files;
mod interrupt;
// The only place that depends on the feature `live`: both files have the same interface.
#[cfg_attr(feature = "live", path = "live/with.rs")]
#[cfg_attr(not(feature = "live"), path = "live/without.rs")]
mod live;
mod live_run;
mod options;
mod out;
mod parallel;
mod readiness;
mod run_folder;
mod source;
mod trial;
mod ui;
mod world;

use std::process::ExitCode;

use clap::{ArgAction, Parser, Subcommand};

pub use exit::Exit;

/// Simulator and load-testing harness for platforms that run one Kubernetes Job per AI-agent
/// investigation.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    /// Print what the harness does on real servers: -v its steps, -vv also their details and other
    /// crates' warnings. RUST_LOG overrides it, like alertstorm_live=debug. The twin logs nothing
    #[arg(short, long, action = ArgAction::Count, global = true)]
    verbose: u8,
    #[command(subcommand)]
    verb: Verb,
}

const EXIT_CODES: &str = "Exit codes: 0 held · 1 an objective was missed · 2 the input is wrong · \
    3 the environment lacks something · 4 the run is invalid · 5 inconclusive";

#[derive(Debug, Subcommand)]
enum Verb {
    Run(Box<cmd::run::Args>),
    Check(cmd::check::Args),
    Report(cmd::report::Args),
    Render(cmd::render::Args),
    Compare(cmd::compare::Args),
    Capacity(Box<cmd::capacity::Args>),
    Gate(Box<cmd::gate::Args>),
    Promote(Box<cmd::promote::Args>),
    Trace(cmd::trace::Args),
    Schema(cmd::schema::Args),
    Setup(cmd::setup::Args),
    Doctor(cmd::doctor::Args),
    Up(cmd::up::UpArgs),
    Down(cmd::up::DownArgs),
    Clean(cmd::clean::Args),
    #[command(hide = true)]
    Shard(cmd::shard::Args),
}

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // A shard's messages and its standard error are the same stream, the log of its pod.
    if !matches!(cli.verb, Verb::Shard(_)) {
        live::log_to_stderr(cli.verbose);
    }
    let done = match cli.verb {
        Verb::Run(args) => cmd::run::run(&args),
        Verb::Check(args) => cmd::check::run(&args),
        Verb::Report(args) => cmd::report::run(&args),
        Verb::Render(args) => cmd::render::run(&args),
        Verb::Capacity(args) => cmd::capacity::run(&args),
        Verb::Compare(args) => cmd::compare::run(&args),
        Verb::Gate(args) => cmd::gate::run(&args),
        Verb::Promote(args) => cmd::promote::run(&args),
        Verb::Trace(args) => cmd::trace::run(&args),
        Verb::Schema(args) => cmd::schema::run(&args),
        Verb::Setup(args) => cmd::setup::run(&args),
        Verb::Doctor(args) => cmd::doctor::run(&args),
        Verb::Up(args) => cmd::up::up(&args),
        Verb::Down(args) => cmd::up::down(&args),
        Verb::Clean(args) => cmd::clean::run(&args),
        Verb::Shard(args) => cmd::shard::run(&args),
    };
    match done {
        Ok(exit) => exit.into(),
        Err(error) => {
            ui::fail(&error);
            Exit::of(&error).into()
        }
    }
}
