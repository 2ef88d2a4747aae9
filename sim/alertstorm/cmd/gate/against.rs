//! The gate against another build: both run in turns on the same machine, so that what makes it slow
//! for a while makes both slow.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use alertstorm_analysis::verdict::gate::{Rule, Sample};
use alertstorm_model::event::Event;
use alertstorm_reports::gate::Gate;
use anyhow::{Context, Result, bail};

use super::{Args, EMBEDDED, in_the_twin, live_run, sample_of};
use crate::exit::WrongInput;
use crate::source::Loaded;
use crate::world::World;
use crate::{interrupt, run_folder};

/// Judges this build against another; nothing where somebody broke it off.
pub fn judge(
    args: &Args,
    other: &str,
    loaded: &Loaded,
    world: &World,
    rule: Rule,
) -> Result<Option<Gate>> {
    let program = program(other)?;
    let folder = run_folder::create(&args.output, &format!("gate-{}", loaded.plan.scenario.name))?;
    let plan = folder.join("plan");
    run_folder::write_inputs(&plan, &loaded.plan, &loaded.files)?;
    // On real servers the first pair finds the machine cold, and is not counted.
    let (repeats, cold) = match world {
        World::Twin => (1, 0),
        World::Live(_) => (args.repeats.get() + 1, 1),
    };
    let (mut before, mut after) = (Vec::new(), Vec::new());
    let mut events = Vec::new();
    let mut provider = EMBEDDED.to_owned();
    for _ in 0..repeats {
        if interrupt::asked() {
            return Ok(None);
        }
        before.push(other_run(&program, args, loaded, &plan, &folder)?);
        match world {
            World::Twin => {
                let Some((sample, (_, own))) = in_the_twin(loaded) else { return Ok(None) };
                after.push(sample);
                events = own;
            }
            World::Live(choice) => {
                let Some((sample, by)) = live_run(loaded, choice, &folder)? else {
                    return Ok(None);
                };
                provider = by;
                after.push(sample);
            }
        }
    }
    let (before, after) = (before.split_off(cold), after.split_off(cold));
    let same = before.first().map(|run| &run.digest) == after.first().map(|run| &run.digest);
    let mut gate = super::judge(loaded, other.to_owned(), provider, (&before, &after), rule);
    if matches!(world, World::Twin) && !same {
        gate.first_difference = Some(first_difference(&folder, &events)?);
    }
    Ok(Some(gate))
}

/// A run of the other program.
fn other_run(
    program: &Path,
    args: &Args,
    loaded: &Loaded,
    plan: &Path,
    folder: &Path,
) -> Result<Sample> {
    let runs = folder.join("other");
    let seed = loaded.plan.scenario.seed;
    let before = folders(&runs);
    let mut command = Command::new(program);
    command.arg("run").arg(plan.join(run_folder::SCENARIO)).arg("-o").arg(&runs);
    command.args(["--no-advice", "--seed", &seed.to_string()]).args(args.world.as_typed());
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let name = program.display();
    let status = command.status().with_context(|| format!("{name} cannot be run"))?;
    // Held and missed are both runs that can be compared.
    if !matches!(status.code(), Some(0 | 1)) {
        bail!("{name} ended with {status}");
    }
    let made = folders(&runs).into_iter().find(|folder| !before.contains(folder));
    let made = made.with_context(|| format!("{name} left no run"))?;
    sample_of(&made, seed)
}

fn folders(within: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(within).into_iter().flatten().flatten();
    let mut all: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    all.sort();
    all
}

/// The first line of both event logs that differs.
fn first_difference(folder: &Path, events: &[Event]) -> Result<String> {
    let other = folders(&folder.join("other")).into_iter().next_back().unwrap_or_default();
    let text =
        fs::read_to_string(other.join(run_folder::EVENTS)).context("the other run left no log")?;
    let mut lines = text.lines();
    for (n, event) in events.iter().enumerate() {
        let own = serde_json::to_string(event)?;
        match lines.next() {
            Some(line) if line == own => {}
            Some(line) => return Ok(format!("event {n} is now {own}, and was {line}")),
            None => return Ok(format!("event {n} is now {own}, and the other log ended before")),
        }
    }
    Ok(match lines.next() {
        Some(line) => format!("the log ends, and the other went on with {line}"),
        None => "in no event".to_owned(),
    })
}

/// The other program: a file, or a revision that is built.
fn program(other: &str) -> Result<PathBuf> {
    let path = Path::new(other);
    if path.is_file() {
        return Ok(path.canonicalize()?);
    }
    let git = |args: &[&str]| -> Result<String> {
        let done = Command::new("git").args(args).output().context("git cannot be run")?;
        if !done.status.success() {
            let why = String::from_utf8_lossy(&done.stderr).trim().to_owned();
            return Err(WrongInput::of(
                &format!("--against {other}"),
                format!("neither a program nor a revision: {why}"),
            ));
        }
        Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
    };
    let commit =
        git(&["rev-parse", "--verify", "--end-of-options", &format!("{other}^{{commit}}")])?;
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let tree = cache
        .context("neither XDG_CACHE_HOME nor HOME is set")?
        .join("alertstorm/gate")
        .join(&commit);
    let built = tree.join("target/release/alertstorm");
    if built.is_file() {
        return Ok(built);
    }
    anstream::eprintln!("building {other} ({})", &commit[..12]);
    let sources = tree.join("sources");
    if !sources.join("Cargo.toml").is_file() {
        fs::create_dir_all(&tree)?;
        let text = sources.to_str().context("the cache's path is no text")?;
        git(&["worktree", "add", "--force", "--detach", text, &commit])?;
    }
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--locked"]).current_dir(&sources);
    cargo.env("CARGO_TARGET_DIR", tree.join("target"));
    if !cargo.status().context("cargo cannot be run")?.success() {
        bail!("{other} could not be built");
    }
    Ok(built)
}
