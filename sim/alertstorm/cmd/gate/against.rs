//! The gate against another build. The builds run alternately on one machine, so that a slow phase of
//! the machine slows both.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use alertstorm_analysis::verdict::gate::{Rule, Sample};
use alertstorm_model::event::Event;
use alertstorm_reports::gate::Gate;
use anyhow::{Context, Result, bail};

use super::args::Args;
use super::judge;
use super::runs::{EMBEDDED, run_live, run_twin, sample_of};
use crate::exit::WrongInput;
use crate::live::{BUILD, FEATURES};
use crate::source::Loaded;
use crate::world::World;
use crate::{interrupt, out, run_folder};

/// Judges this build against another; `None` if a run was interrupted.
///
/// # Errors
/// Where the other program cannot be built, or a run of either fails.
pub fn judge(
    args: &Args,
    other: &str,
    loaded: &Loaded,
    world: &World,
    rule: Rule,
) -> Result<Option<Gate>> {
    let program = program(other)?;
    let folder =
        run_folder::create(&args.output, &format!("gate-{}", loaded.plan.scenario().name))?;
    let plan = folder.join("plan");
    run_folder::write_inputs(&plan, &loaded.plan, &loaded.files)?;
    // On real servers the first pair is a warm-up.
    let (repeats, warm_up) = match world {
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
                let Some((sample, (_, own))) = run_twin(loaded) else { return Ok(None) };
                after.push(sample);
                events = own;
            }
            World::Live(servers) => {
                let Some((sample, by)) = run_live(loaded, servers, &folder)? else {
                    return Ok(None);
                };
                provider = by;
                after.push(sample);
            }
        }
    }
    let (before, after) = (before.split_off(warm_up), after.split_off(warm_up));
    let same = before.first().map(|run| &run.digest) == after.first().map(|run| &run.digest);
    let mut gate = judge::judge(loaded, other.to_owned(), provider, (&before, &after), rule);
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
    let seed = loaded.plan.scenario().seed;
    let before = folders(&runs);
    let mut command = Command::new(program);
    command.arg("run").arg(plan.join(run_folder::SCENARIO)).arg("-o").arg(&runs);
    command.args(["--no-advice", "--seed", &seed.to_string()]).args(args.world.as_typed());
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let name = program.display();
    let status = command.status().with_context(|| format!("could not run {name}"))?;
    // Objectives held or missed: both are complete runs.
    if !matches!(status.code(), Some(0 | 1)) {
        bail!("{name} ended with {status}");
    }
    let made = folders(&runs).into_iter().find(|folder| !before.contains(folder));
    let made = made.with_context(|| format!("{name} created no run folder"))?;
    sample_of(&made, seed)
}

fn folders(within: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(within).into_iter().flatten().flatten();
    let mut all: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    all.sort();
    all
}

/// The first line in which the event logs differ.
fn first_difference(folder: &Path, events: &[Event]) -> Result<String> {
    let other = folders(&folder.join("other")).into_iter().next_back().unwrap_or_default();
    let text = fs::read_to_string(other.join(run_folder::EVENTS))
        .context("the other run has no event log")?;
    let mut lines = text.lines();
    for (n, event) in events.iter().enumerate() {
        let own = serde_json::to_string(event)?;
        match lines.next() {
            Some(line) if line == own => {}
            Some(line) => return Ok(format!("event {n} is now {own}, and was {line}")),
            None => return Ok(format!("event {n} is now {own}, and the other log ends before it")),
        }
    }
    Ok(match lines.next() {
        Some(line) => format!("this log ends, and the other continues with {line}"),
        None => "no event differs".to_owned(),
    })
}

/// The other program: a file, or a revision to build with the features of this program.
fn program(other: &str) -> Result<PathBuf> {
    let path = Path::new(other);
    if path.is_file() {
        return Ok(path.canonicalize()?);
    }
    let revision = format!("{other}^{{commit}}");
    let commit =
        git(Command::new("git").args(["rev-parse", "--verify", "--end-of-options", &revision]))
            .map_err(|why| {
                let why = format!("neither a program nor a revision: {why:#}");
                WrongInput::of(&format!("--against {other}"), why)
            })?;
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let tree = cache
        .context("neither XDG_CACHE_HOME nor HOME is set")?
        .join("alertstorm/gate")
        .join(&commit);
    // Builds with other features have folders of their own.
    let target = tree.join(format!("target-{BUILD}"));
    let built = target.join("release/alertstorm");
    if built.is_file() {
        return Ok(built);
    }
    out::note(format_args!("building {other} ({})", &commit[..12]));
    let sources = tree.join("sources");
    if !sources.join("Cargo.toml").is_file() {
        fs::create_dir_all(&tree)?;
        export(&commit, &tree)?;
    }
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--locked"]).args(FEATURES).current_dir(&sources);
    cargo.env("CARGO_TARGET_DIR", target);
    if !cargo.status().context("could not run cargo")?.success() {
        bail!("could not build {other}");
    }
    Ok(built)
}

/// Runs git; what it prints.
fn git(command: &mut Command) -> Result<String> {
    let done = command.output().context("could not run git")?;
    if !done.status.success() {
        bail!("{}", String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
}

/// Writes the sources of a commit to `sources` in a folder, by an index of its own: a worktree would
/// stay in the user's repository if this process were killed. The name appears when all is written.
fn export(commit: &str, to: &Path) -> Result<()> {
    let (partial, index) = (to.join("sources.partial"), to.join("index"));
    // What a killed process left.
    for left in [&partial, &to.join("sources")] {
        if left.exists() {
            fs::remove_dir_all(left)
                .with_context(|| format!("could not remove {}", left.display()))?;
        }
    }
    let top = git(Command::new("git").args(["rev-parse", "--show-toplevel"]))?;
    let with_index = |args: &[&str]| {
        git(Command::new("git").current_dir(&top).env("GIT_INDEX_FILE", &index).args(args))
    };
    let prefix = format!("--prefix={}/", partial.to_str().context("the path is not UTF-8")?);
    with_index(&["read-tree", commit])
        .and_then(|_| with_index(&["checkout-index", "--all", "--force", &prefix]))
        .with_context(|| format!("could not write the sources of {commit}"))?;
    fs::rename(&partial, to.join("sources"))?;
    fs::remove_file(&index)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sources_of_a_commit_are_written_without_a_worktree_also_after_a_killed_attempt() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("sources.partial")).expect("created");
        let commit = git(Command::new("git").args(["rev-parse", "HEAD"])).expect("a commit");
        export(&commit, folder.path()).expect("written");
        assert!(folder.path().join("sources/sim/model/src/lib.rs").is_file());
        assert!(!folder.path().join("sources.partial").exists());
        let trees = git(Command::new("git").args(["worktree", "list"])).expect("a list");
        assert!(!trees.contains(&folder.path().display().to_string()), "{trees}");
    }
}
