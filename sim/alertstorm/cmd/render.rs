//! `render`: the manifests of each phase in each environment, for GitOps.

use std::path::PathBuf;

use alertstorm_model::phase::Phase;
use anyhow::Result;

use crate::exit::Exit;

/// Write the manifests of trust phases, for GitOps
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The trust phase; all four where it is left out
    #[arg(long, value_name = "PHASE", value_parser = clap::builder::PossibleValuesParser::new(Phase::WORDS))]
    phase: Option<String>,
    /// The environment, of kind-config/environments.yaml; all where it is left out
    #[arg(long, value_name = "ENV")]
    env: Option<String>,
    /// A scenario whose engines of secrets and sizes of Jobs are taken, instead of the defaults
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// The folder in which PHASE/ENV/ are made
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
}

/// Writes the matrix.
#[cfg(feature = "live")]
pub fn run(args: &Args) -> Result<Exit> {
    use std::fs;

    use alertstorm_live::render;
    use anyhow::Context;

    use crate::exit::WrongInput;

    let scenario = match &args.scenario {
        Some(path) => crate::source::load(path, &[])?.scenario,
        None => crate::source::defaults()?,
    };
    let environments = render::environments().context("the table of environments")?;
    if let Some(env) = args.env.as_ref().filter(|env| !environments.contains_key(*env)) {
        let known: Vec<&str> = environments.keys().map(String::as_str).collect();
        let message = format!("expected one of {}", known.join(", "));
        return Err(WrongInput::of(&format!("--env {env}"), message));
    }
    let phases = Phase::ALL
        .iter()
        .filter(|phase| args.phase.as_deref().is_none_or(|wanted| wanted == phase.word()));
    let mut written = 0;
    for &phase in phases {
        let chosen = environments
            .iter()
            .filter(|(name, _)| args.env.as_ref().is_none_or(|env| env == *name));
        for (environment, room) in chosen {
            let folder = args.output.join(phase.word()).join(environment);
            let vault = folder.join("vault");
            fs::create_dir_all(&vault)
                .with_context(|| format!("could not make {}", vault.display()))?;
            let mut files = render::vault_files(&scenario, phase, environment)
                .into_iter()
                .map(|(name, text)| (vault.join(name), text))
                .collect::<Vec<_>>();
            for (name, objects) in render::manifests(&scenario, phase, environment, *room) {
                let documents: Result<Vec<String>, _> =
                    objects.iter().map(serde_saphyr::to_string).collect();
                let text = documents.context("could not write YAML")?.join("---\n");
                files.push((folder.join(name), text));
            }
            for (path, text) in files {
                fs::write(&path, text)
                    .with_context(|| format!("could not write {}", path.display()))?;
                written += 1;
            }
        }
    }
    anstream::eprintln!("{written} files in {}", args.output.display());
    Ok(Exit::Held)
}

/// This build has no live worlds.
#[cfg(not(feature = "live"))]
pub fn run(args: &Args) -> Result<Exit> {
    let Args { phase: _, env: _, scenario: _, output: _ } = args;
    Err(crate::live::absent())
}
