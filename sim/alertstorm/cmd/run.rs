//! `run`: one scenario, from its file to its report.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use alertstorm_model::event::Sink;
use alertstorm_model::scenario::Override;
use alertstorm_reports::Report;
use alertstorm_reports::spread::SeedSpread;
use alertstorm_reports::terminal::{self, Look};
use anyhow::Result;

use crate::cmd::report;
use crate::exit::{Exit, WrongInput};
use crate::run_folder::{self, EventLog};
use crate::source::Loaded;
use crate::world::{Choice, World, WorldArgs};
use crate::{interrupt, live, parallel, source, trial, ui};

/// Run a scenario and report what it shows
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The scenario file
    #[arg(value_name = "FILE")]
    scenario: PathBuf,
    /// Set a value over the file's, like controller.concurrency=50
    #[arg(long, value_name = "PATH=VALUE", value_parser = source::parse_override)]
    set: Vec<Override>,
    /// The seed, instead of the file's
    #[arg(long)]
    seed: Option<u64>,
    /// Run under so many seeds, from the first on, and report the spread
    #[arg(long, value_name = "N")]
    seeds: Option<NonZeroUsize>,
    /// Threads for --seeds; all cores where it is left out
    #[arg(long, value_name = "N", requires = "seeds")]
    threads: Option<NonZeroUsize>,
    /// The folder in which the run's own folder is made
    #[arg(short, long, value_name = "DIR", default_value = "runs")]
    output: PathBuf,
    /// Print the report as JSON instead of the summary
    #[arg(long)]
    json: bool,
    /// Do not write the event log
    #[arg(long)]
    no_events: bool,
    /// Do not run again with the bottleneck's knob moved
    #[arg(long)]
    no_advice: bool,
    #[command(flatten)]
    world: WorldArgs,
}

/// Runs a scenario.
pub fn run(args: &Args) -> Result<Exit> {
    let mut loaded = source::load_with_files(&args.scenario, &args.set)?;
    let plan = &mut loaded.plan;
    plan.scenario.seed = args.seed.unwrap_or(plan.scenario.seed);
    let world = args.world.world(plan)?;
    interrupt::listen()?;
    match (args.seeds, world) {
        (Some(_), World::Live(_)) => {
            let why = "many seeds run side by side, and real servers do not; run one after another";
            Err(WrongInput::of("--seeds", why))
        }
        (Some(count), World::Twin) => under_seeds(args, &loaded, count.get()),
        (None, World::Twin) => once(args, &loaded),
        (None, World::Live(choice)) => {
            let (report, folder) = on_servers(&loaded, &choice, &args.output)?;
            show(&report, &folder, args.json)?;
            Ok(verdict(&report))
        }
    }
}

fn once(args: &Args, loaded: &Loaded) -> Result<Exit> {
    let plan = &loaded.plan;
    let name = format!("{}-{}", plan.scenario.name, plan.scenario.seed);
    let folder = run_folder::create(&args.output, &name)?;
    run_folder::write_inputs(&folder, plan, &loaded.files)?;
    let keep = !args.no_events && plan.alerts_expected <= plan.scenario.limits.events_up_to.get();
    let mut log = keep.then(|| EventLog::create(&folder)).transpose()?;
    let bar = ui::progress(plan.alerts_expected);
    bar.set_message(plan.scenario.name.clone());
    let sink = log.as_mut().map(|log| log as &mut dyn Sink);
    let (measures, mut report) = trial::run(plan, sink, &mut |finished, progress| {
        bar.set_message(format!("{} {}", plan.scenario.name, clock(progress.now)));
        bar.set_position(finished);
    });
    bar.finish_and_clear();
    if let Some(log) = log {
        log.finish()?;
    }
    // What was measured is on disk before anything else is tried.
    run_folder::write_report(&folder, &report)?;
    let small = plan.alerts_expected <= trial::TRY_UP_TO;
    if small
        && !args.no_advice
        && !report.interrupted
        && let Some(advice) = trial::advice(plan, &measures)
    {
        report.tried(&advice);
        run_folder::write_report(&folder, &report)?;
    }
    show(&report, &folder, args.json)?;
    Ok(verdict(&report))
}

/// A run on real servers. The platform is made first: a run's folder holds what was measured.
pub fn on_servers(loaded: &Loaded, choice: &Choice, output: &Path) -> Result<(Report, PathBuf)> {
    let plan = &loaded.plan;
    let began = Instant::now();
    let platform = live::start(plan, choice)?;
    let name = format!("{}-{}", plan.scenario.name, plan.scenario.seed);
    let folder = run_folder::create(output, &name)?;
    run_folder::write_inputs(&folder, plan, &loaded.files)?;
    let mut log = EventLog::create(&folder)?;
    let bar = ui::progress(plan.alerts_expected);
    bar.set_message(plan.scenario.name.clone());
    let files = run_folder::inputs(plan, &loaded.files)?;
    let ran = live::run(plan, &platform, files, &mut log, &mut |finished, now| {
        bar.set_message(format!("{} {}", plan.scenario.name, clock(now)));
        bar.set_position(finished);
    });
    bar.finish_and_clear();
    let written = log.finish();
    let stopped = live::stop(platform);
    written?;
    // What was measured is on disk, whatever else went wrong.
    let mut report = report::from_events(&folder, plan)?;
    report.harness.wall_s = began.elapsed().as_secs_f64();
    run_folder::write_report(&folder, &report)?;
    ran.and(stopped).inspect_err(|_| {
        anstream::eprintln!("what was measured is in {}", folder.display());
    })?;
    Ok((report, folder))
}

fn clock(now: alertstorm_model::time::Time) -> String {
    let s = now.as_secs_f64() as u64;
    format!("{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
}

/// Prints what a run came to.
pub fn show(report: &Report, folder: &Path, json: bool) -> Result<()> {
    if json {
        anstream::println!("{}", serde_json::to_string_pretty(report)?);
    } else {
        let look = Look { width: ui::columns() };
        anstream::print!("{}", terminal::summary(report, look));
        anstream::println!("  {}", folder.join(run_folder::PAGE).display());
    }
    Ok(())
}

/// The exit code of a run.
pub fn verdict(report: &Report) -> Exit {
    if !report.invalid.is_empty() {
        Exit::Invalid
    } else if report.interrupted {
        Exit::Inconclusive
    } else if report.held() {
        Exit::Held
    } else {
        Exit::Missed
    }
}

/// Many seeds side by side: each thread takes the next that is left.
fn under_seeds(args: &Args, loaded: &Loaded, count: usize) -> Result<Exit> {
    let plan = &loaded.plan;
    let first = plan.scenario.seed;
    let folder =
        run_folder::create(&args.output, &format!("{}-{first}+{count}", plan.scenario.name))?;
    run_folder::write_inputs(&folder, plan, &loaded.files)?;
    let bar = ui::progress(count as u64);
    bar.set_message(format!("{} seeds", plan.scenario.name));
    let seeds: Vec<u64> = (0..count as u64).map(|number| first.wrapping_add(number)).collect();
    let reports = parallel::map(args.threads, &seeds, |seed| {
        let (_, report) = trial::run(&plan.with_seed(*seed), None, &mut |_, _| {});
        bar.inc(1);
        report
    });
    bar.finish_and_clear();
    // A run that was broken off says nothing of its seed.
    let whole = |report: &Report| !report.interrupted;
    let reports: Vec<Report> = reports.into_iter().flatten().filter(whole).collect();
    let spread = SeedSpread::new(&reports);
    run_folder::write_spread(&folder, &spread)?;
    if args.json {
        anstream::println!("{}", serde_json::to_string_pretty(&spread)?);
    } else {
        anstream::print!("{}", spread.table());
        anstream::println!("  {}", folder.join("spread.json").display());
    }
    if reports.len() < count {
        anstream::eprintln!("interrupted: {} of {count} seeds had run", reports.len());
        return Ok(Exit::Inconclusive);
    }
    let worst = reports.iter().map(verdict).max_by_key(|exit| *exit as u8);
    Ok(worst.unwrap_or(Exit::Inconclusive))
}
