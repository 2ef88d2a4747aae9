//! `render`: the manifests of each phase in each environment, for GitOps.

use std::path::{Path, PathBuf};

use alertstorm_model::investigation::IdentityKind;
use alertstorm_model::phase::Phase;
use anyhow::Result;

use crate::exit::{Exit, WrongInput};
use crate::live::Live;
use crate::options::EgressArgs;
use crate::{out, run_folder, source};

/// Write the manifests of trust phases, for GitOps
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The trust phase [default: all four]
    #[arg(long, value_name = "PHASE", value_parser = clap::builder::PossibleValuesParser::new(Phase::WORDS))]
    phase: Option<String>,
    /// The environment, one of kind-config/environments.yaml [default: all]
    #[arg(long, value_name = "ENV")]
    env: Option<String>,
    /// The identity of the agents [default: the scenario's]
    #[arg(long, value_name = "KIND", value_parser = clap::builder::PossibleValuesParser::new(IdentityKind::WORDS))]
    identity: Option<String>,
    /// Take secrets engines and Job sizes from this scenario, instead of the defaults
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// The folder in which PHASE/ENV/ are created
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// The NetworkPolicy.
    #[command(flatten, next_help_heading = "Servers that agents may connect to")]
    egress: EgressArgs,
}

/// Writes the manifests of the chosen phases and environments.
pub fn run(args: &Args) -> Result<Exit> {
    let live = Live::of_this_build("render")?;
    let mut scenario = match &args.scenario {
        Some(path) => source::load(path, &[])?.scenario().clone(),
        None => source::defaults()?,
    };
    let chosen = args.identity.as_deref();
    let chosen = IdentityKind::ALL.iter().find(|kind| chosen == Some(kind.word()));
    scenario.identity = chosen.copied().unwrap_or(scenario.identity);
    let environments = live.environments()?;
    if let Some(env) = args.env.as_ref().filter(|env| !environments.contains(env)) {
        let message = format!("expected one of {}", environments.join(", "));
        return Err(WrongInput::of(&format!("--env {env}"), message));
    }
    let phases = Phase::ALL
        .iter()
        .filter(|phase| args.phase.as_deref().is_none_or(|wanted| wanted == phase.word()));
    let mut files = Vec::new();
    for &phase in phases {
        let chosen =
            environments.iter().filter(|&name| args.env.as_ref().is_none_or(|e| e == name));
        for environment in chosen {
            for (path, text) in live.render(&scenario, phase, environment, &args.egress)? {
                files.push((Path::new(phase.word()).join(environment).join(path), text));
            }
        }
    }
    let unreachable = live.unreachable(&args.egress)?;
    if !unreachable.is_empty() {
        out::note(format_args!(
            "the NetworkPolicy lets agents connect to no address of {}; name them: \
             --api-server-at, --vault-at, --postgres-at",
            unreachable.join(", ")
        ));
    }
    let written = files.len();
    run_folder::write_all(&args.output, files)?;
    out::note(format_args!("{written} files in {}", args.output.display()));
    Ok(Exit::Held)
}
