//! `capacity`: the largest load that holds a scenario's objectives, and what limits it.

mod answer;
mod args;
mod question;
mod steps;
mod trials;

use alertstorm_model::scenario::Override;
use alertstorm_reports::capacity::{Capacity, SCHEMA, Setting};
use anyhow::Result;

use crate::exit::Exit;
use crate::world::World;
use crate::{interrupt, out, run_folder, source};
use question::Question;
use trials::Settings;

pub use args::Args;

/// Finds the knee.
pub fn run(args: &Args) -> Result<Exit> {
    let loaded = source::load_with_files(&args.scenario, &args.set)?;
    let world = args.world.world(&loaded)?;
    let plan = loaded.plan;
    let question = Question::new(args, &plan)?;
    let grid = grid(&args.vary);
    // A misspelt knob is an error before anything is run.
    for settings in &grid {
        question.trials.load(settings, &[])?;
    }
    interrupt::listen()?;
    let name = format!("capacity-{}-{}", plan.scenario().name, plan.scenario().seed);
    let folder = run_folder::create(&args.output, &name)?;
    let knees = args.hold.is_none() || !args.vary.is_empty();
    let settings = if knees { question.knees(&grid) } else { Vec::new() };
    let mut capacity = Capacity {
        schema: SCHEMA.to_owned(),
        name: plan.scenario().name.clone(),
        question: plan.scenario().question.clone(),
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
    let write = |capacity: &Capacity| {
        run_folder::write_result(&folder, "capacity", capacity, &capacity.page()?)
    };
    write(&capacity)?;
    if let (World::Live(servers), false) = (&world, interrupt::asked()) {
        steps::run(args, &question, servers, &folder, &mut capacity, &write)?;
        write(&capacity)?;
    }
    if args.json {
        out::json(&capacity)?;
    } else {
        out::text(&capacity.table())?;
        out::line(format_args!("  {}", folder.join("capacity.html").display()))?;
    }
    if interrupt::asked() {
        out::note("interrupted: the result above is incomplete");
        return Ok(Exit::Inconclusive);
    }
    Ok(verdict(&capacity))
}

/// Held if the scenario's own load, or that of `--for`, holds the objectives.
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

/// Every combination of the varied knobs; without any, one empty combination.
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
