//! `capacity`: the largest load that holds a scenario's objectives, and what moves it.

mod answer;
mod live;
mod trials;

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};

use alertstorm_analysis::verdict::capacity::{Axis, Bounds, Knee, knee};
use alertstorm_model::scenario::Slo;
use alertstorm_model::scenario::{Override, Plan};
use alertstorm_reports::capacity::{Capacity, Curve, Figure, SCHEMA, Setting, Side, SloKnee};
use anyhow::Result;

use crate::exit::{Exit, WrongInput};
use crate::source::{self, parse_override};
use crate::world::{World, WorldArgs};
use crate::{interrupt, parallel, run_folder, ui};
use trials::{Settings, Trials};

/// Find the largest load that holds a scenario's objectives, and what moves it
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The scenario file
    #[arg(value_name = "FILE")]
    scenario: PathBuf,
    /// What is meant by load; floods where the scenario has some, else rates
    #[arg(long, value_name = "AXIS", value_parser = axis)]
    load: Option<Axis>,
    /// Vary a knob over these values, from the cheapest on, like
    /// cluster.control_plane.controller_manager.kube_api_qps=20,50,100; more than one makes a grid
    #[arg(long, value_name = "PATH=V,V…", value_parser = parse_override)]
    vary: Vec<Override>,
    /// Turn the question round: the cheapest setting that holds this load. Without --vary the knob of
    /// whatever is the bottleneck is moved until it holds
    #[arg(long = "for", value_name = "LOAD", value_parser = positive)]
    hold: Option<f64>,
    /// Judge by this objective instead of the scenario's; may be given more than once
    #[arg(long, value_name = "SLO")]
    slo: Vec<String>,
    /// Seeds, from the scenario's on; each has a knee of its own
    #[arg(long, value_name = "N", default_value = "16")]
    seeds: NonZeroU32,
    /// The most that is tried; eight times the scenario's load where it is left out
    #[arg(long, value_name = "LOAD", value_parser = positive)]
    most: Option<f64>,
    /// Set a value over the file's
    #[arg(long, value_name = "PATH=VALUE", value_parser = parse_override)]
    set: Vec<Override>,
    /// Threads; all cores where it is left out
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// On real servers: the loads that are run, as shares of the twin's knee, in ascending order
    #[arg(
        long,
        value_name = "SHARE,SHARE…",
        value_delimiter = ',',
        default_value = "0.7,0.85,1,1.15,1.3"
    )]
    steps: Vec<f64>,
    /// On real servers: seconds between two steps
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    cool_down: u64,
    /// The folder in which the result's own folder is made
    #[arg(short, long, value_name = "DIR", default_value = "runs")]
    output: PathBuf,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    world: WorldArgs,
}

fn axis(text: &str) -> Result<Axis, String> {
    text.parse().map_err(|error: alertstorm_model::UnknownWord| error.to_string())
}

/// `1000`, or `flood=1000`.
fn positive(text: &str) -> Result<f64, String> {
    let number = text.rsplit_once('=').map_or(text, |(_, number)| number);
    let load = number.parse().ok().filter(|load: &f64| load.is_finite() && *load > 0.0);
    load.ok_or_else(|| "expected a load above 0, like 1000".to_owned())
}

/// What the search is about.
struct Question {
    trials: Trials,
    axis: Axis,
    slos: Vec<Slo>,
    bounds: Bounds,
    seeds: Vec<u64>,
    threads: Option<NonZeroUsize>,
}

/// Finds the knee.
pub fn run(args: &Args) -> Result<Exit> {
    let plan = source::load(&args.scenario, &args.set)?;
    let world = args.world.world(&plan)?;
    let question = Question::new(args, &plan)?;
    let grid = grid(&args.vary);
    // A typing error in a knob is told before anything is run.
    for settings in &grid {
        question.trials.load(settings, &[])?;
    }
    interrupt::listen()?;
    let name = format!("capacity-{}-{}", plan.scenario.name, plan.scenario.seed);
    let folder = run_folder::create(&args.output, &name)?;
    let knees = args.hold.is_none() || !args.vary.is_empty();
    let settings = if knees { question.knees(&grid) } else { Vec::new() };
    let mut capacity = Capacity {
        schema: SCHEMA.to_owned(),
        name: plan.scenario.name.clone(),
        question: plan.scenario.question.clone(),
        world: "twin".to_owned(),
        axis: question.axis,
        load: question.bounds.start,
        most: question.bounds.most,
        seeds: question.seeds.clone(),
        curve: question.curve(grid.first(), settings.first()),
        settings,
        answer: None,
        steps: Vec::new(),
    };
    if let Some(load) = args.hold {
        capacity.answer = Some(match args.vary.is_empty() {
            true => question.moved_until_it_holds(&plan, load)?,
            false => question.cheapest(&grid, load),
        });
    }
    write(&folder, &capacity)?;
    if let (World::Live(choice), false) = (&world, interrupt::asked()) {
        live::steps(args, &question, choice, &folder, &mut capacity)?;
        write(&folder, &capacity)?;
    }
    if args.json {
        anstream::println!("{}", serde_json::to_string_pretty(&capacity)?);
    } else {
        anstream::print!("{}", capacity.table());
        anstream::println!("  {}", folder.join("capacity.html").display());
    }
    if interrupt::asked() {
        anstream::eprintln!("interrupted: what was found until then is above");
        return Ok(Exit::Inconclusive);
    }
    Ok(verdict(&capacity))
}

/// Held where the scenario's own load, or that of `--for`, is held.
fn verdict(capacity: &Capacity) -> Exit {
    let broken = capacity.steps.iter().any(|step| !step.invalid.is_empty());
    let held = match &capacity.answer {
        Some(answer) => !answer.settings.is_empty(),
        None => {
            let holds = |setting: &Setting| setting.all.median.is_some_and(|m| m >= capacity.load);
            capacity.settings.iter().any(holds)
        }
    };
    match (broken, held) {
        (true, _) => Exit::Invalid,
        (false, true) => Exit::Held,
        (false, false) => Exit::Missed,
    }
}

fn write(folder: &Path, capacity: &Capacity) -> Result<()> {
    run_folder::write_json(&folder.join("capacity.json"), capacity)?;
    run_folder::write(&folder.join("capacity.html"), &capacity.page()?)
}

/// Every combination of the varied knobs; one empty one where none is.
fn grid(vary: &[Override]) -> Vec<Settings> {
    let mut grid = vec![Settings::new()];
    for Override { path, value } in vary {
        let values: Vec<&str> = value.split(',').map(str::trim).collect();
        let with = |settings: &Settings| -> Vec<Settings> {
            let one = |value: &&str| {
                let mut settings = settings.clone();
                settings.push((path.clone(), (*value).to_owned()));
                settings
            };
            values.iter().map(one).collect()
        };
        grid = grid.iter().flat_map(with).collect();
    }
    grid
}

impl Question {
    fn new(args: &Args, plan: &Plan) -> Result<Self> {
        let name = args.scenario.display().to_string();
        let axis = args.load.unwrap_or_else(|| Axis::of(plan));
        let Some(start) = axis.load(plan) else {
            let why = format!("it has no load on the axis `{axis}`; --load names another");
            return Err(WrongInput::of(&name, why));
        };
        let slos: Vec<Slo> = match args.slo.is_empty() {
            true => plan.scenario.slos.clone(),
            false => {
                let parse = |text: &String| {
                    let wrong = |expected| {
                        WrongInput::of(&format!("--slo {text}"), format!("expected {expected}"))
                    };
                    Slo::parse(text).map_err(wrong)
                };
                args.slo.iter().map(parse).collect::<Result<_>>()?
            }
        };
        if slos.is_empty() {
            let why = "it has no `slos`, and without one every load holds; add some, or give --slo";
            return Err(WrongInput::of(&name, why));
        }
        let most = args.most.unwrap_or(start * 8.0).max(start);
        let first = plan.scenario.seed;
        Ok(Self {
            trials: Trials::new(&args.scenario, &args.set, axis),
            axis,
            slos,
            bounds: Bounds { start, most, within: 0.01 },
            seeds: (0..u64::from(args.seeds.get())).map(|n| first.wrapping_add(n)).collect(),
            threads: args.threads,
        })
    }

    /// The knees of every setting, each seed's search on a core of its own.
    fn knees(&self, grid: &[Settings]) -> Vec<Setting> {
        let work: Vec<(usize, u64)> = (0..grid.len())
            .flat_map(|setting| self.seeds.iter().map(move |seed| (setting, *seed)))
            .collect();
        let bar = ui::progress(work.len() as u64);
        bar.set_message("searches");
        let found = parallel::map(self.threads, &work, |(setting, seed)| {
            let found = self.knees_of(&grid[*setting], *seed);
            bar.inc(1);
            found
        });
        bar.finish_and_clear();
        let mut settings = Vec::new();
        for (number, knobs) in grid.iter().enumerate() {
            let own = work.iter().zip(&found).filter(|((setting, _), _)| *setting == number);
            // A search that was broken off says nothing of its seed.
            let own: Vec<&Vec<Knee>> =
                own.filter_map(|(_, found)| found.as_ref()?.as_ref()).collect();
            if own.is_empty() {
                continue;
            }
            settings.push(self.setting(knobs, &own));
        }
        settings
    }

    /// One seed's knee for each objective.
    fn knees_of(&self, settings: &Settings, seed: u64) -> Option<Vec<Knee>> {
        let mut known: Vec<(f64, Vec<bool>)> = Vec::new();
        let of = |number: usize, known: &mut Vec<(f64, Vec<bool>)>| {
            knee(self.axis, self.bounds, &mut |load| {
                if let Some((_, held)) = known.iter().find(|(tried, _)| *tried == load) {
                    return Some(held[number]);
                }
                let trial = self.trials.run(settings, load, seed, &self.slos)?;
                let held: Vec<bool> = trial.slos.iter().map(|slo| slo.held).collect();
                known.push((load, held));
                known.last().map(|(_, held)| held[number])
            })
        };
        (0..self.slos.len()).map(|number| of(number, &mut known)).collect()
    }

    fn setting(&self, knobs: &Settings, seeds: &[&Vec<Knee>]) -> Setting {
        let least = |seed: &&Vec<Knee>| {
            let held = |knee: &Knee| knee.held.unwrap_or(0.0);
            let least = seed.iter().min_by(|a, b| held(a).total_cmp(&held(b)));
            least.copied().unwrap_or_default()
        };
        let all: Vec<Knee> = seeds.iter().map(least).collect();
        let slos = self.slos.iter().enumerate().map(|(number, slo)| {
            let knees: Vec<Knee> = seeds.iter().map(|seed| seed[number]).collect();
            let knee = Figure::of(&knees);
            // What waits says something of latencies alone.
            let at = knee.median.filter(|_| slo.latency().is_some());
            let broke = knee.unbroken < seeds.len() as u64;
            let side = |load: f64| self.side(knobs, load);
            SloKnee {
                slo: slo.to_string(),
                below: at.and_then(side),
                above: at.filter(|_| broke).and_then(|load| side((load * 1.1).ceil())),
                knee,
            }
        });
        let slos = slos.collect();
        Setting { knobs: knobs.clone(), all: Figure::of(&all), slos }
    }

    fn side(&self, settings: &Settings, load: f64) -> Option<Side> {
        let trial = self.trials.run(settings, load, self.seeds[0], &self.slos)?;
        let bottleneck = trial.report.bottleneck?;
        let (component, share, knob) = (bottleneck.component, bottleneck.share, bottleneck.knob);
        Some(Side { load, component, share, knob })
    }

    /// Latency by load around the knee, for the first objective that is a latency.
    fn curve(&self, knobs: Option<&Settings>, setting: Option<&Setting>) -> Option<Curve> {
        let slo = self.slos.iter().find(|slo| slo.latency().is_some())?;
        let (stage, limit_s) = slo.latency()?;
        let of = setting?.slos.iter().find(|of| of.slo == slo.to_string())?;
        let around = of.knee.median.unwrap_or(self.bounds.start);
        let loads = [0.1, 0.25, 0.4, 0.55, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.35, 1.5, 1.75, 2.0];
        let mut loads: Vec<f64> = loads.iter().map(|share| share * around).collect();
        if self.axis != Axis::Rate {
            loads.iter_mut().for_each(|load| *load = load.round().max(1.0));
            loads.dedup();
        }
        let points = parallel::map(self.threads, &loads, |load| {
            let trial = self.trials.run(knobs?, *load, self.seeds[0], &self.slos)?;
            let row = trial.report.latency(stage.word())?;
            Some((*load, row.p50_s, row.p99_s))
        });
        let points = points.into_iter().flatten().flatten().collect();
        Some(Curve { to: stage.to_string(), slo: slo.to_string(), limit_s, points })
    }
}
