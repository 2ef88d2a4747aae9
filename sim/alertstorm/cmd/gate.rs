//! `gate`: whether a commit made a scenario worse, judged by a committed baseline or another program.

mod against;
mod args;
mod baseline;
mod judge;
mod runs;

use std::path::Path;

use alertstorm_analysis::verdict::gate::{Rule, Verdict};
use alertstorm_reports::gate::Gate;
use anyhow::{Context, Result, bail};

use crate::exit::{Exit, WrongInput};
use crate::source::{self, Loaded};
use crate::world::World;
use crate::{interrupt, out, run_folder};
use runs::EMBEDDED;

pub use args::Args;

/// Judges, or writes the baseline.
pub fn run(args: &Args) -> Result<Exit> {
    let loaded = source::load_with_files(&args.scenario, &args.set)?;
    let world = args.world.world(&loaded)?;
    interrupt::listen()?;
    let rule = Rule {
        false_alarms: args.false_alarms,
        least_effect: args.least_effect,
        paired: args.against.is_some(),
    };
    let gate = match (&args.baseline, &args.against) {
        (Some(path), _) if args.update => return update(args, path, &loaded, &world),
        (Some(path), _) => against_baseline(args, path, &loaded, &world, rule)?,
        (None, Some(other)) => against::judge(args, other, &loaded, &world, rule)?,
        (None, None) => bail!("neither --baseline nor --against was given"),
    };
    let Some(gate) = gate else { return Ok(Exit::Inconclusive) };
    publish(args, &gate)?;
    Ok(match gate.verdict {
        _ if gate.first_difference.is_some() => Exit::Missed,
        Verdict::Held | Verdict::Improved => Exit::Held,
        Verdict::Regressed => Exit::Missed,
        Verdict::Inconclusive => Exit::Inconclusive,
    })
}

fn update(args: &Args, path: &Path, loaded: &Loaded, world: &World) -> Result<Exit> {
    let Some((made, _)) = runs::make(args, loaded, world)? else { return Ok(Exit::Inconclusive) };
    let baseline = baseline::of(loaded, &made)?;
    let json = serde_json::to_string(&baseline)? + "\n";
    run_folder::write(path, &json)?;
    out::note(format_args!("{}: {} runs on {}", path.display(), made.runs.len(), made.provider));
    Ok(Exit::Held)
}

fn against_baseline(
    args: &Args,
    path: &Path,
    loaded: &Loaded,
    world: &World,
    rule: Rule,
) -> Result<Option<Gate>> {
    let name = path.display().to_string();
    let baseline = baseline::read(path)?;
    baseline::same_plan(&name, &baseline, loaded, &args.may_differ)?;
    // Before anything is run.
    if args.runs.is_empty() && matches!(world, World::Twin) != (baseline.provider == EMBEDDED) {
        let here = if matches!(world, World::Twin) { "in the twin" } else { "on real servers" };
        let why = format!("the baseline was made on {}, and --on runs {here}", baseline.provider);
        return Err(WrongInput::of(&name, why));
    }
    let Some((made, events)) = runs::make(args, loaded, world)? else { return Ok(None) };
    let twin = made.provider == EMBEDDED;
    if made.provider != baseline.provider {
        let why = format!(
            "the baseline was made on {}, and these runs on {}",
            baseline.provider, made.provider
        );
        return Err(WrongInput::of(&name, why));
    }
    let mut gate = judge::judge(loaded, name, made.provider, (&baseline.runs, &made.runs), rule);
    let other_machine = !twin && baseline.machine != baseline::machine();
    if other_machine && !args.any_machine {
        let why = "the baseline was made on another machine, whose speed differs; --any-machine judges \
                   nevertheless";
        gate.remarks.push(why.to_owned());
        gate.verdict = Verdict::Inconclusive;
    }
    let same = !twin
        || baseline.runs.first().map(|run| &run.digest) == made.runs.first().map(|run| &run.digest);
    gate.first_difference = (!same && args.may_differ.is_empty())
        .then(|| baseline::name_difference(made.trail.first_difference(&baseline.trail), &events));
    Ok(Some(gate))
}

/// Prints the verdict and writes the requested files.
fn publish(args: &Args, gate: &Gate) -> Result<()> {
    if args.json {
        out::json(gate)?;
    } else {
        out::text(&gate.table())?;
    }
    if let Some(path) = &args.junit {
        run_folder::write(path, &gate.junit().context("could not make JUnit XML")?)?;
    }
    if let Some(path) = &args.summary {
        run_folder::write(path, &gate.markdown())?;
    }
    if let Some(path) = std::env::var_os("GITHUB_STEP_SUMMARY") {
        use std::io::Write;
        let name = Path::new(&path).display().to_string();
        let mut options = std::fs::OpenOptions::new();
        let file = options.append(true).create(true).open(&path);
        let written = file.and_then(|mut file| file.write_all(gate.markdown().as_bytes()));
        written.with_context(|| format!("could not write {name}"))?;
    }
    if std::env::var_os("GITHUB_ACTIONS").is_some_and(|value| value == "true") {
        out::annotations(&gate.annotations())?;
    }
    Ok(())
}
