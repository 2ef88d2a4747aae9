//! `run`: one scenario, from its file to its report.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use alertstorm_model::event::Sink;
use alertstorm_model::scenario::{Override, Plan};
use alertstorm_reports::Report;
use alertstorm_reports::spread::SeedSpread;
use anyhow::Result;

use crate::exit::{Exit, WrongInput};
use crate::options::Provider;
use crate::run_folder::{self, EventLog};
use crate::source::Loaded;
use crate::world::{Servers, World, WorldArgs};
use crate::{interrupt, live_run, out, parallel, source, trial, ui};

/// Run a scenario and report the result
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The scenario file
    #[arg(value_name = "FILE")]
    scenario: PathBuf,
    /// Override a value of the file, like controller.concurrency=50
    #[arg(long, value_name = "PATH=VALUE", value_parser = source::parse_override)]
    set: Vec<Override>,
    /// The seed, instead of the file's
    #[arg(long)]
    seed: Option<u64>,
    /// Run N consecutive seeds, starting at --seed, and report the spread
    #[arg(long, value_name = "N")]
    seeds: Option<NonZeroUsize>,
    /// Threads for --seeds [default: all cores]
    #[arg(long, value_name = "N", requires = "seeds")]
    threads: Option<NonZeroUsize>,
    /// The folder in which the run's folder is created
    #[arg(short, long, value_name = "DIR", default_value = "runs")]
    output: PathBuf,
    /// Print the report as JSON instead of the summary
    #[arg(long)]
    json: bool,
    /// Do not write the event log
    #[arg(long)]
    no_events: bool,
    /// Skip the second run that tries the bottleneck's knob
    #[arg(long)]
    no_advice: bool,
    /// Print what a run on a cluster would create, and whether it exists; write nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    world: WorldArgs,
}

/// Runs a scenario.
pub fn run(args: &Args) -> Result<Exit> {
    let mut loaded = source::load_with_files(&args.scenario, &args.set)?;
    if let Some(seed) = args.seed {
        loaded.plan = loaded.plan.with_seed(seed);
    }
    let world = args.world.world(&loaded)?;
    if args.dry_run {
        return dry_run(&loaded, &world);
    }
    interrupt::listen()?;
    match (args.seeds, world) {
        (Some(_), World::Live(_)) => {
            let why = "seeds run in parallel, and real servers cannot: start one run for each seed";
            Err(WrongInput::of("--seeds", why))
        }
        (Some(count), World::Twin) => under_seeds(args, &loaded, count.get()),
        (None, World::Twin) => once(args, &loaded),
        (None, World::Live(servers)) => {
            let (mut report, folder) = live_run::run(&loaded, &servers, &args.output)?;
            if !args.no_advice {
                try_in_twin(&loaded.plan, &servers, &mut report, &folder)?;
            }
            ui::summary(&report, &folder, args.json)?;
            Ok(Exit::of_run(&report))
        }
    }
}

/// Nobody can move a knob of real servers in the middle of a run, and a second run takes as long as the
/// first: the twin of the plan answers what the knob of the bottleneck would change.
fn try_in_twin(plan: &Plan, servers: &Servers, report: &mut Report, folder: &Path) -> Result<()> {
    let small = report.invalid.is_empty() && plan.alerts_expected() <= trial::TRY_UP_TO;
    let Some(bottleneck) = report.bottleneck.as_ref().filter(|found| found.knob.is_some()) else {
        return Ok(());
    };
    if !small || report.interrupted {
        return Ok(());
    }
    let here = matches!(servers.provider, Provider::Local | Provider::Kind);
    let cores = std::thread::available_parallelism().ok().and_then(|n| u32::try_from(n.get()).ok());
    let cores = cores.filter(|_| here);
    if let Some(advice) = trial::advice_of_twin(plan, bottleneck.component, cores) {
        report.tried(&advice);
        run_folder::write_report(folder, report)?;
    }
    Ok(())
}

/// Prints what a run would create on a cluster that is not its own.
fn dry_run(loaded: &Loaded, world: &World) -> Result<Exit> {
    let servers = match world {
        World::Live(servers) if servers.provider == Provider::Cluster => servers,
        _ => {
            let why = "it is for --on cluster: in the other worlds a run creates its own servers";
            return Err(WrongInput::of("--dry-run", why));
        }
    };
    let (text, existing) = servers.live.difference(&loaded.plan, &servers.args)?;
    out::text(&(text + "\n"))?;
    if existing.is_empty() {
        out::line("nothing was written")?;
        return Ok(Exit::Held);
    }
    let existing = existing.join("\n  ");
    out::line(format_args!("the run would not begin, and nothing was written:\n  {existing}"))?;
    Ok(Exit::Missing)
}

fn once(args: &Args, loaded: &Loaded) -> Result<Exit> {
    let plan = &loaded.plan;
    let name = format!("{}-{}", plan.scenario().name, plan.scenario().seed);
    let folder = run_folder::create(&args.output, &name)?;
    run_folder::write_inputs(&folder, plan, &loaded.files)?;
    let keep =
        !args.no_events && plan.alerts_expected() <= plan.scenario().limits.events_up_to.get();
    let mut log = keep.then(|| EventLog::create(&folder)).transpose()?;
    let bar = ui::progress(plan.alerts_expected());
    bar.set_message(plan.scenario().name.clone());
    let sink = log.as_mut().map(|log| log as &mut dyn Sink);
    let (measures, mut report) = trial::run(plan, sink, &mut |finished, progress| {
        bar.set_message(format!("{} {}", plan.scenario().name, ui::clock(progress.now)));
        bar.set_position(finished);
    });
    bar.finish_and_clear();
    let lost = log.and_then(EventLog::finish);
    // On disk before the advice's second run begins.
    run_folder::write_report_of(&folder, &mut report, lost)?;
    let small = report.invalid.is_empty() && plan.alerts_expected() <= trial::TRY_UP_TO;
    if small
        && !args.no_advice
        && !report.interrupted
        && let Some(advice) = trial::advice(plan, &measures)
    {
        report.tried(&advice);
        run_folder::write_report(&folder, &report)?;
    }
    ui::summary(&report, &folder, args.json)?;
    Ok(Exit::of_run(&report))
}

/// Runs consecutive seeds in parallel: each thread takes the next one that is left.
fn under_seeds(args: &Args, loaded: &Loaded, count: usize) -> Result<Exit> {
    let plan = &loaded.plan;
    let first = plan.scenario().seed;
    let folder =
        run_folder::create(&args.output, &format!("{}-{first}+{count}", plan.scenario().name))?;
    run_folder::write_inputs(&folder, plan, &loaded.files)?;
    let bar = ui::progress(count as u64);
    bar.set_message(format!("{} seeds", plan.scenario().name));
    let seeds: Vec<u64> = (0..count as u64).map(|number| first.wrapping_add(number)).collect();
    let reports = parallel::map(args.threads, &seeds, |seed| {
        let (_, report) = trial::run(&plan.with_seed(*seed), None, &mut |_, _| {});
        bar.inc(1);
        report
    });
    bar.finish_and_clear();
    // An interrupted run has no result for its seed.
    let whole = |report: &Report| !report.interrupted;
    let reports: Vec<Report> = reports.into_iter().flatten().filter(whole).collect();
    let spread = SeedSpread::new(&reports);
    run_folder::write_spread(&folder, &spread)?;
    if args.json {
        out::json(&spread)?;
    } else {
        out::text(&spread.table())?;
        out::line(format_args!("  {}", folder.join("spread.json").display()))?;
    }
    if reports.len() < count {
        out::note(format_args!("interrupted after {} of {count} seeds", reports.len()));
        return Ok(Exit::Inconclusive);
    }
    let worst = reports.iter().map(Exit::of_run).max_by_key(|exit| *exit as u8);
    Ok(worst.unwrap_or(Exit::Inconclusive))
}
