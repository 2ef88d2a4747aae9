//! `run`: one scenario, from its file to its report.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use alertstorm_model::event::Sink;
use alertstorm_model::scenario::{Override, Part};
use alertstorm_reports::Report;
use alertstorm_reports::spread::SeedSpread;
use alertstorm_reports::terminal::{self, Look};
use anyhow::Result;

use crate::cmd::report;
use crate::exit::{Exit, WrongInput};
use crate::live::{Choice, ClusterArgs, KindArgs, Provider};
use crate::run_folder::{self, EventLog};
use crate::source::Loaded;
use crate::{interrupt, live, source, trial, ui};

/// Run a scenario and report what it shows
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The scenario file
    #[arg(value_name = "FILE")]
    scenario: PathBuf,
    /// Where it runs: `twin` is the platform in virtual time, `local` real servers on this machine,
    /// `kind` a kind cluster with real pods, `cluster` what a kubeconfig names
    #[arg(long, value_name = "WORLD", default_value = "twin")]
    on: String,
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
    /// The agent's image, instead of the one that `alertstorm setup kind` makes
    #[arg(long, value_name = "IMAGE", env = "ALERTSTORM_AGENT_IMAGE")]
    agent_image: Option<String>,
    /// Make the load in so many pods of the cluster, each with its part of the plan, instead of here
    #[arg(long, value_name = "N")]
    shards: Option<NonZeroU32>,
    /// The image of those pods, instead of one made of this program (kind) or the released one
    #[arg(long, value_name = "IMAGE", env = "ALERTSTORM_SHARD_IMAGE", requires = "shards")]
    shard_image: Option<String>,
    #[command(flatten, next_help_heading = "On kind")]
    kind: KindArgs,
    #[command(flatten, next_help_heading = "On a cluster")]
    cluster: ClusterArgs,
}

impl Args {
    fn choice(&self, provider: Provider) -> Choice {
        let (kind, cluster) = (self.kind.clone(), self.cluster.clone());
        let (shards, shard_image) = (self.shards, self.shard_image.clone());
        let agent_image = self.agent_image.clone();
        Choice { provider, agent_image, shards, shard_image, kind, cluster }
    }
}

/// Runs a scenario.
pub fn run(args: &Args) -> Result<Exit> {
    let mut loaded = source::load_with_files(&args.scenario, &args.set)?;
    let plan = &mut loaded.plan;
    plan.scenario.seed = args.seed.unwrap_or(plan.scenario.seed);
    let on = match args.on.as_str() {
        "twin" => On::Twin,
        "local" => On::Live(Provider::Local),
        "kind" => On::Live(Provider::Kind),
        "cluster" => On::Live(Provider::Cluster),
        other => {
            let source = format!("--on {other}");
            return Err(WrongInput::of(&source, "expected one of twin, local, kind, cluster"));
        }
    };
    let in_pods = matches!(on, On::Live(Provider::Kind | Provider::Cluster));
    if args.shards.is_some() && !in_pods {
        let why = "shards are pods of a cluster: --on kind or --on cluster";
        return Err(WrongInput::of("--shards", why));
    }
    if let Some(of) = args.shards {
        // What cannot be divided is told before anything starts.
        let last = Part::new(of.get() - 1, of).unwrap_or(Part::WHOLE);
        let name = args.scenario.display().to_string();
        last.of_plan(plan).map_err(|error| WrongInput::of(&name, error.to_string()))?;
    }
    interrupt::listen()?;
    match (args.seeds, on) {
        (Some(_), On::Live(_)) => {
            let why = "many seeds run side by side, and real servers do not; run one after another";
            Err(WrongInput::of("--seeds", why))
        }
        (Some(count), On::Twin) => under_seeds(args, &loaded, count.get()),
        (None, on) => once(args, &loaded, on),
    }
}

/// Where a run can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    Twin,
    Live(Provider),
}

fn once(args: &Args, loaded: &Loaded, on: On) -> Result<Exit> {
    if let On::Live(provider) = on {
        return once_live(args, loaded, provider);
    }
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
fn once_live(args: &Args, loaded: &Loaded, provider: Provider) -> Result<Exit> {
    let plan = &loaded.plan;
    let began = Instant::now();
    let platform = live::start(plan, &args.choice(provider))?;
    let name = format!("{}-{}", plan.scenario.name, plan.scenario.seed);
    let folder = run_folder::create(&args.output, &name)?;
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
    show(&report, &folder, args.json)?;
    Ok(verdict(&report))
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
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let threads = args.threads.map_or(cores, NonZeroUsize::get).min(count);
    let next = AtomicUsize::new(0);
    let reports: Vec<Mutex<Option<Report>>> = (0..count).map(|_| Mutex::new(None)).collect();
    let bar = ui::progress(count as u64);
    bar.set_message(format!("{} seeds", plan.scenario.name));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !interrupt::asked() {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(slot) = reports.get(number) else {
                        break;
                    };
                    let plan = plan.with_seed(first.wrapping_add(number as u64));
                    let (_, report) = trial::run(&plan, None, &mut |_, _| {});
                    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    let of =
        |slot: Mutex<Option<Report>>| slot.into_inner().unwrap_or_else(PoisonError::into_inner);
    // A run that was broken off says nothing of its seed.
    let whole = |report: &Report| !report.interrupted;
    let reports: Vec<Report> = reports.into_iter().filter_map(of).filter(whole).collect();
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
