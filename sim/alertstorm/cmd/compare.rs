//! `compare`: runs side by side, with the size of each difference, its interval, and the knobs that
//! differ.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use alertstorm_analysis::measure::Reached;
use alertstorm_model::investigation::Stage;
use alertstorm_reports::effects::{self, Compared};
use alertstorm_reports::{Report, compare};
use anyhow::Result;

use crate::exit::Exit;
use crate::{out, run_folder};

/// Compare runs: how much they differ, and whether by more than chance
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folders of the runs. Runs of the same plan on the same provider form a group; each group is
    /// compared with the first
    #[arg(value_name = "RUN", num_args = 2.., required = true)]
    runs: Vec<PathBuf>,
    /// Write a page with shift plots and the comparison as JSON to this folder
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Print the comparison as JSON
    #[arg(long)]
    json: bool,
}

/// Compares runs.
pub fn run(args: &Args) -> Result<Exit> {
    let runs = args.runs.iter().map(|folder| read(folder)).collect::<Result<Vec<_>>>()?;
    let reports: Vec<Report> = runs.iter().map(|run| run.report.clone()).collect();
    let comparison = effects::compare(&runs);
    let table = compare::table(&reports);
    if args.json {
        out::json(&comparison)?;
    } else {
        out::text(&format!("{table}{}", comparison.table()))?;
    }
    if let Some(folder) = &args.output {
        fs::create_dir_all(folder)?;
        run_folder::write_result(folder, "compare", &comparison, &comparison.page(&table, &runs)?)?;
        out::note(folder.join("compare.html").display());
    }
    Ok(Exit::Held)
}

fn read(folder: &Path) -> Result<Compared> {
    let name = folder.display().to_string();
    let report = run_folder::expect_report(folder)?;
    let mut latencies = BTreeMap::new();
    if run_folder::has(folder, run_folder::EVENTS) {
        let mut reached = Reached::default();
        run_folder::read_events(folder, &mut reached)?;
        for &stage in &Stage::ALL[1..] {
            let mut all = reached.latencies(stage);
            let missing = report.latency(stage.word()).map_or(0, |row| row.failed + row.censored);
            all.extend((0..missing).map(|_| f64::INFINITY));
            latencies.insert(stage, all);
        }
    }
    Ok(Compared { folder: name, report, scenario: scenario(folder), latencies })
}

/// The scenario of a run as JSON; null if it cannot be read.
fn scenario(folder: &Path) -> serde_json::Value {
    let plan = crate::source::load_of_run(folder);
    let value = plan.ok().and_then(|plan| serde_json::to_value(plan.scenario()).ok());
    value.unwrap_or_default()
}
