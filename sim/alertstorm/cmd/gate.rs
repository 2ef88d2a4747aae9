//! `gate`: whether a commit made it worse, held against a committed baseline or another program.

mod against;
mod baseline;

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use alertstorm_analysis::measure::Measures;
use alertstorm_analysis::verdict::gate::{self, Rule, Sample, Trail, Verdict};
use alertstorm_model::event::Event;
use alertstorm_model::scenario::Override;
use alertstorm_reports::gate::{Gate, SCHEMA, of_all};
use anyhow::{Context, Result, bail};

use crate::cmd::run::on_servers;
use crate::exit::{Exit, WrongInput};
use crate::source::{self, Loaded, parse_override};
use crate::world::{World, WorldArgs};
use crate::{interrupt, run_folder, trial};

/// Hold a scenario's runs against a baseline: has this commit made it worse?
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The scenario file
    #[arg(value_name = "FILE")]
    scenario: PathBuf,
    /// The baseline's file
    #[arg(long, value_name = "FILE", required_unless_present = "against")]
    baseline: Option<PathBuf>,
    /// Write the baseline instead of judging by it
    #[arg(long, requires = "baseline", conflicts_with = "against")]
    update: bool,
    /// Hold against another build instead, in turns: a program, or a revision of this repository
    #[arg(long, value_name = "PROGRAM|REV", conflicts_with = "baseline")]
    against: Option<String>,
    /// Runs on real servers, after one that is not counted, which finds them cold; the twin, which has
    /// no noise, runs once
    #[arg(long, value_name = "N", default_value = "6")]
    repeats: NonZeroU32,
    /// Runs that were made before, instead of new ones; their world is theirs
    #[arg(long, value_name = "RUN", num_args = 1.., conflicts_with = "against")]
    runs: Vec<PathBuf>,
    /// The share of gates that may raise a false alarm
    #[arg(long, value_name = "SHARE", default_value_t = 0.05, value_parser = share)]
    false_alarms: f64,
    /// The least change that matters, as a share
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, value_parser = share)]
    least_effect: f64,
    /// A knob that may differ from the baseline's plan; may be given more than once
    #[arg(long, value_name = "PATH")]
    may_differ: Vec<String>,
    /// Judge live runs on another machine than the baseline's too
    #[arg(long)]
    any_machine: bool,
    /// Set a value over the file's
    #[arg(long, value_name = "PATH=VALUE", value_parser = parse_override)]
    set: Vec<Override>,
    /// Write the verdict as JUnit's XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write the verdict as Markdown, besides to GITHUB_STEP_SUMMARY where that is set
    #[arg(long, value_name = "FILE")]
    summary: Option<PathBuf>,
    /// The folder in which the folders of live runs are made
    #[arg(short, long, value_name = "DIR", default_value = "runs")]
    output: PathBuf,
    /// Print the verdict as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    world: WorldArgs,
}

/// The provider of the twin's runs.
const EMBEDDED: &str = "embedded";

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share: &f64| *share > 0.0 && *share < 1.0);
    share.ok_or_else(|| "expected a share above 0 and below 1, like 0.05".to_owned())
}

/// Judges, or writes the baseline.
pub fn run(args: &Args) -> Result<Exit> {
    let loaded = source::load_with_files(&args.scenario, &args.set)?;
    let world = args.world.world(&loaded.plan)?;
    interrupt::listen()?;
    let rule = Rule {
        false_alarms: args.false_alarms,
        least_effect: args.least_effect,
        paired: args.against.is_some(),
    };
    let gate = match (&args.baseline, &args.against) {
        (Some(path), _) if args.update => return update(args, path, &loaded, &world),
        (Some(path), _) => match held_against(args, path, &loaded, &world, rule)? {
            Some(gate) => gate,
            None => return Ok(Exit::Inconclusive),
        },
        (None, Some(other)) => match against::judge(args, other, &loaded, &world, rule)? {
            Some(gate) => gate,
            None => return Ok(Exit::Inconclusive),
        },
        (None, None) => bail!("neither a baseline nor a program to hold against"),
    };
    publish(args, &gate)?;
    Ok(match gate.verdict {
        _ if gate.first_difference.is_some() => Exit::Missed,
        Verdict::Held | Verdict::Improved => Exit::Held,
        Verdict::Regressed => Exit::Missed,
        Verdict::Inconclusive => Exit::Inconclusive,
    })
}

/// Runs that were made, and of the twin's the trail.
struct Made {
    provider: String,
    runs: Vec<Sample>,
    trail: Trail,
}

/// A twin's log: the trail, and the events themselves to name one by.
type Followed = (Trail, Vec<Event>);

/// One run of the twin.
fn in_the_twin(loaded: &Loaded) -> Option<(Sample, Followed)> {
    let mut followed = Followed::default();
    let (measures, report) = trial::run(&loaded.plan, Some(&mut followed), &mut |_, _| {});
    let sample = Sample::of(loaded.plan.scenario.seed, &measures);
    (!report.interrupted).then_some((sample, followed))
}

/// One run on real servers; an invalid one is an error, one that was broken off nothing.
fn live_run(
    loaded: &Loaded,
    choice: &crate::world::Choice,
    output: &Path,
) -> Result<Option<(Sample, String)>> {
    let (report, folder) = on_servers(loaded, choice, output)?;
    if report.interrupted {
        return Ok(None);
    }
    if let Some(why) = report.invalid.first() {
        bail!("the run in {} is invalid: {why}", folder.display());
    }
    Ok(Some((sample_of(&folder, report.seed)?, report.provider)))
}

/// What a run's folder comes to.
fn sample_of(folder: &Path, seed: u64) -> Result<Sample> {
    Ok(Sample::of(seed, &run_folder::read_measures(folder)?))
}

/// Makes the runs of a gate; nothing where somebody broke it off.
fn make(args: &Args, loaded: &Loaded, world: &World) -> Result<Option<(Made, Vec<Event>)>> {
    if !args.runs.is_empty() {
        return made_before(args, loaded).map(Some);
    }
    let World::Live(choice) = world else {
        let Some((sample, followed)) = in_the_twin(loaded) else { return Ok(None) };
        let provider = EMBEDDED.to_owned();
        let (trail, events) = followed;
        return Ok(Some((Made { provider, runs: vec![sample], trail }, events)));
    };
    let mut made = Made { provider: String::new(), runs: Vec::new(), trail: Trail::default() };
    for number in 0..=args.repeats.get() {
        let Some((sample, provider)) = live_run(loaded, choice, &args.output)? else {
            return Ok(None);
        };
        made.provider = provider;
        // The first finds the machine cold.
        if number > 0 {
            made.runs.push(sample);
        }
    }
    Ok(Some((made, Vec::new())))
}

/// Runs of this plan that were made before.
fn made_before(args: &Args, loaded: &Loaded) -> Result<(Made, Vec<Event>)> {
    let mut made = Made { provider: String::new(), runs: Vec::new(), trail: Trail::default() };
    let mut events = Vec::new();
    for folder in &args.runs {
        let name = folder.display().to_string();
        let wrong = |why: String| WrongInput::of(&name, why);
        let report = run_folder::expect_report(folder)?;
        if report.plan != loaded.plan.digest {
            return Err(wrong("it is a run of another plan than the scenario's".to_owned()));
        }
        if let Some(why) = report.invalid.first() {
            return Err(wrong(format!("the run is invalid: {why}")));
        }
        if report.interrupted {
            return Err(wrong("the run was interrupted".to_owned()));
        }
        if !made.provider.is_empty() && made.provider != report.provider {
            return Err(wrong(format!(
                "it was made on {}, and others on {}",
                report.provider, made.provider
            )));
        }
        if report.provider == EMBEDDED {
            let mut both = (Measures::default(), Followed::default());
            run_folder::read_events(folder, &mut both)?;
            both.0.close();
            made.runs.push(Sample::of(report.seed, &both.0));
            (made.trail, events) = both.1;
        } else {
            made.runs.push(sample_of(folder, report.seed)?);
        }
        made.provider = report.provider;
    }
    Ok((made, events))
}

fn update(args: &Args, path: &Path, loaded: &Loaded, world: &World) -> Result<Exit> {
    let Some((made, _)) = make(args, loaded, world)? else { return Ok(Exit::Inconclusive) };
    let baseline = baseline::of(loaded, &made)?;
    let json = serde_json::to_string(&baseline)? + "\n";
    run_folder::write(path, &json)?;
    anstream::eprintln!("{}: {} runs on {}", path.display(), made.runs.len(), made.provider);
    Ok(Exit::Held)
}

fn held_against(
    args: &Args,
    path: &Path,
    loaded: &Loaded,
    world: &World,
    rule: Rule,
) -> Result<Option<Gate>> {
    let name = path.display().to_string();
    let baseline = baseline::read(path)?;
    baseline::same_plan(&name, &baseline, loaded, &args.may_differ)?;
    // A baseline of the wrong world is told before anything is run.
    if args.runs.is_empty() && matches!(world, World::Twin) != (baseline.provider == EMBEDDED) {
        let here = if matches!(world, World::Twin) { "the twin's" } else { "of real servers" };
        let why = format!("it was made on {}, and these runs are {here}", baseline.provider);
        return Err(WrongInput::of(&name, why));
    }
    let Some((made, events)) = make(args, loaded, world)? else { return Ok(None) };
    let twin = made.provider == EMBEDDED;
    if made.provider != baseline.provider {
        let why =
            format!("it was made on {}, and these runs on {}", baseline.provider, made.provider);
        return Err(WrongInput::of(&name, why));
    }
    let mut gate = judge(loaded, name, made.provider, (&baseline.runs, &made.runs), rule);
    let other_machine = !twin && baseline.machine != baseline::machine();
    if other_machine && !args.any_machine {
        gate.remarks.push("another machine made the baseline: its speed is not this one's (--any-machine judges all the same)".to_owned());
        gate.verdict = Verdict::Inconclusive;
    }
    let same = !twin
        || baseline.runs.first().map(|run| &run.digest) == made.runs.first().map(|run| &run.digest);
    gate.first_difference = (!same && args.may_differ.is_empty())
        .then(|| baseline::name_difference(made.trail.first_difference(&baseline.trail), &events));
    Ok(Some(gate))
}

/// Judges runs, the second after the first: the twin's, which have no noise, by their difference.
fn judge(
    loaded: &Loaded,
    against: String,
    provider: String,
    (before, after): (&[Sample], &[Sample]),
    rule: Rule,
) -> Gate {
    let judged = match (before, after) {
        ([before], [after]) if provider == EMBEDDED => {
            gate::judge_exactly(before, after, rule.least_effect)
        }
        (before, after) => gate::judge(before, after, rule),
    };
    Gate {
        schema: SCHEMA.to_owned(),
        name: loaded.plan.scenario.name.clone(),
        provider,
        against,
        repeats: (before.len() as u64, after.len() as u64),
        rule,
        verdict: of_all(&judged),
        judged,
        first_difference: None,
        remarks: Vec::new(),
    }
}

/// Prints the verdict, and writes it where it is asked for.
fn publish(args: &Args, gate: &Gate) -> Result<()> {
    if args.json {
        anstream::println!("{}", serde_json::to_string_pretty(gate)?);
    } else {
        anstream::print!("{}", gate.table());
    }
    if let Some(path) = &args.junit {
        run_folder::write(path, &gate.junit().context("could not make JUnit's XML")?)?;
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
        gate.annotations().iter().for_each(|line| anstream::println!("{line}"));
    }
    Ok(())
}
