//! `promote --backtest`: simulated agents of known quality, promoted and demoted by the policies.

use std::num::NonZeroU64;
use std::path::PathBuf;

use alertstorm_analysis::verdict::promotion::Policy;
use alertstorm_analysis::verdict::promotion::backtest::{Ladder, Setting};
use alertstorm_model::phase::Phase;
use alertstorm_model::scenario::Agents;
use alertstorm_reports::promotion::{BACKTEST_SCHEMA, Backtest};
use anyhow::Result;

use crate::exit::{Exit, WrongInput};
use crate::{interrupt, out, parallel, run_folder, source, ui};

/// Options of the backtest.
#[derive(Clone, Debug, clap::Args)]
pub struct Simulated {
    /// The scenario whose agents, limits and leases are simulated
    #[arg(long, value_name = "FILE", default_value = "scenarios/two-am-flood.yaml")]
    scenario: PathBuf,
    /// Number of agents of each quality
    #[arg(long, value_name = "N", default_value = "100")]
    agents: NonZeroU64,
    /// Qualities, as multiples of the profile's error rates
    #[arg(
        long,
        value_name = "X,X…",
        value_delimiter = ',',
        default_value = "0.25,0.5,0.75,0.9,1.1,1.5,2"
    )]
    errors: Vec<f64>,
    /// Investigations a day
    #[arg(long, value_name = "N", default_value_t = 100.0)]
    per_day: f64,
    /// Number of investigations after which an agent's simulation ends
    #[arg(long, value_name = "N", default_value = "5000")]
    most: NonZeroU64,
    /// Number of investigations between two judgements
    #[arg(long, value_name = "N", default_value = "50")]
    look_every: NonZeroU64,
    /// The seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The folder in which the result's folder is created
    #[arg(short, long, value_name = "DIR", default_value = "runs")]
    output: PathBuf,
}

/// Runs the simulation.
pub fn run(args: &Simulated, files: &[PathBuf], policies: Vec<Policy>, json: bool) -> Result<Exit> {
    let plan = source::load(&args.scenario, &[])?;
    let name = args.scenario.display().to_string();
    let Agents::Profiles(profiles) = plan.agents() else {
        let why = "its agents are recorded: agents of other qualities need profiles";
        return Err(WrongInput::of(&name, why));
    };
    if args.per_day <= 0.0 || args.errors.iter().any(|errors| !errors.is_finite() || *errors < 0.0)
    {
        return Err(WrongInput::of(
            "--per-day, --errors",
            "expected numbers that are not negative",
        ));
    }
    let ladder = Ladder { scenario: plan.scenario(), profiles, policies: steps(files, policies)? };
    let mut qualities = args.errors.clone();
    qualities.sort_by(f64::total_cmp);
    let setting = Setting {
        seed: args.seed,
        agents: args.agents.get(),
        per_day: args.per_day,
        most: args.most.get(),
        look_every: args.look_every.get(),
    };
    let folder = run_folder::create(&args.output, &format!("backtest-{}", args.seed))?;
    let bar = ui::progress(qualities.len() as u64);
    bar.set_message("qualities");
    let found = parallel::map(None, &qualities, |errors| {
        let quality = ladder.quality(&setting, *errors);
        bar.inc(1);
        quality
    });
    bar.finish_and_clear();
    let backtest = Backtest {
        schema: BACKTEST_SCHEMA.to_owned(),
        policies: files.iter().map(|path| path.display().to_string()).collect(),
        seed: setting.seed,
        per_day: setting.per_day,
        most: setting.most,
        look_every: setting.look_every,
        qualities: found.into_iter().flatten().collect(),
    };
    run_folder::write_result(&folder, "backtest", &backtest, &backtest.page()?)?;
    if json {
        out::json(&backtest)?;
    } else {
        out::text(&backtest.table())?;
        out::line(format_args!("  {}", folder.join("backtest.html").display()))?;
    }
    Ok(if interrupt::asked() { Exit::Inconclusive } else { Exit::Held })
}

/// The policies in the order of their phases.
fn steps(files: &[PathBuf], policies: Vec<Policy>) -> Result<Vec<Option<Policy>>> {
    let mut steps: Vec<Option<Policy>> = vec![None; Phase::COUNT];
    for (path, policy) in files.iter().zip(policies) {
        let Some(from) = policy.from else { continue };
        if steps[from.index()].replace(policy).is_some() {
            let why = format!("this is the second policy for the phase {from}");
            return Err(WrongInput::of(&path.display().to_string(), why));
        }
    }
    if steps[Phase::Shadow.index()].is_none() {
        let why = "a policy for the phase shadow is missing, in which every agent starts";
        return Err(WrongInput::of("--policy", why));
    }
    Ok(steps)
}
