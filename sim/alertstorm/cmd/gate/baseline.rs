//! The baseline file: made, read and checked.

use std::fs;
use std::path::Path;

use alertstorm_model::event::Event;
use alertstorm_model::scenario::Problem;
use alertstorm_reports::gate::{BASELINE_SCHEMA, Baseline, Machine};
use alertstorm_reports::plan_diff;
use anyhow::Result;

use super::runs::Made;
use crate::exit::WrongInput;
use crate::source::Loaded;
use crate::{files, run_folder};

/// The baseline that runs make.
///
/// # Errors
/// Where the scenario cannot be written as JSON.
pub fn of(loaded: &Loaded, made: &Made) -> Result<Baseline> {
    let plan = &loaded.plan;
    Ok(Baseline {
        schema: BASELINE_SCHEMA.to_owned(),
        name: plan.scenario().name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        provider: made.provider.clone(),
        machine: machine(),
        plan: plan.digest().to_owned(),
        scenario: serde_json::to_value(plan.scenario())?,
        runs: made.runs.clone(),
        trail: if made.runs.len() == 1 { made.trail.hex() } else { String::new() },
    })
}

/// Reads a baseline.
///
/// # Errors
/// [`WrongInput`] if it is not a baseline of this version.
pub fn read(path: &Path) -> Result<Baseline> {
    let name = path.display().to_string();
    let text = files::text(path).map_err(|error| {
        WrongInput::of(&name, format!("could not read the baseline: {error}; --update creates one"))
    })?;
    let expected = (BASELINE_SCHEMA, "baseline", "; --update writes a new one");
    let baseline: Baseline = run_folder::parse_json(&name, &text, expected)?;
    if baseline.runs.is_empty() {
        return Err(WrongInput::of(&name, "the baseline has no runs"));
    }
    Ok(baseline)
}

/// Checks that a plan is the baseline's.
///
/// # Errors
/// [`WrongInput`] with every difference except those in `may_differ`.
pub fn same_plan(
    name: &str,
    baseline: &Baseline,
    loaded: &Loaded,
    may_differ: &[String],
) -> Result<()> {
    let plan = &loaded.plan;
    if plan.digest() == baseline.plan && plan.scenario().seed == baseline.runs[0].seed {
        return Ok(());
    }
    let here = serde_json::to_value(plan.scenario())?;
    // Names, questions and objectives do not decide a run.
    let ignored = |path: &str| {
        may_differ.iter().any(|may| path == may || path.starts_with(&format!("{may}.")))
            || ["name", "question"].contains(&path)
            || path.starts_with("slos")
    };
    let differences = plan_diff::between(&baseline.scenario, &here);
    let named: Vec<String> = differences
        .iter()
        .filter(|difference| !ignored(&difference.path))
        .map(ToString::to_string)
        .collect();
    if named.is_empty() && !may_differ.is_empty() {
        return Ok(());
    }
    let problem = |message: String| Problem {
        source: name.to_owned(),
        place: None,
        message,
        help: Some(
            "--update writes a baseline of this plan; --may-differ PATH ignores a difference"
                .to_owned(),
        ),
    };
    let problems = match named.is_empty() {
        true => vec![problem(
            "the plan differs in a file that the scenario names: profiles, traces or alerts"
                .to_owned(),
        )],
        false => named.into_iter().map(|n| problem(format!("the plan differs: {n}"))).collect(),
    };
    Err(WrongInput { files: Vec::new(), problems }.into())
}

/// Describes the first event that differs; `None` is one beyond the baseline's trail.
pub fn name_difference(at: Option<usize>, events: &[Event]) -> String {
    let Some(at) = at else {
        return "after the events that the baseline keeps one by one".to_owned();
    };
    let json = |n: usize| events.get(n).and_then(|event| serde_json::to_string(event).ok());
    match json(at) {
        Some(event) => format!("event {at} is now {event}"),
        None => format!("event {at} is missing now: the log ends before it"),
    }
}

/// The machine that this program runs on.
pub fn machine() -> Machine {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let value = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
    };
    let cpu = value(&read("/proc/cpuinfo"), "model name")
        .unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let memory = value(&read("/proc/meminfo"), "MemTotal");
    let kib =
        memory.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0);
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    Machine { cpu, cores, memory_gib: (kib >> 20) as u32 }
}
