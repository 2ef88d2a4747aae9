//! Runs a scenario in the twin and prints its result.
//!
//!     cargo run --example run_scenario -- scenarios/two-am-flood-small.yaml

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::{env, fs};

use alertstorm_analysis::measure::Measures;
use alertstorm_model::investigation::Stage;
use alertstorm_model::scenario::load;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = env::args().nth(1).unwrap_or("scenarios/two-am-flood-small.yaml".to_owned());
    let folder = PathBuf::from(&path).parent().map(PathBuf::from).unwrap_or_default();
    // The model does no I/O: the caller reads the files that a scenario names.
    let files = |name: &str| fs::read_to_string(folder.join(name)).map_err(|e| e.to_string());
    let plan = load(&fs::read_to_string(&path)?, &path, &[], &files).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        lines.join("\n")
    })?;

    let mut measures = Measures::default();
    alertstorm_twin::run(&plan, &mut measures, &mut |_| ControlFlow::Continue(()));
    measures.close();

    let accounting = measures.accounting;
    let ready = measures.latencies.to(Stage::CredentialsReady).row();
    println!("{}: {} alerts", plan.scenario().name, accounting.alerts);
    println!("{} finished, {} shed", accounting.finished, accounting.shed);
    println!("agent ready: p50 {:?} s, p99 {:?} s", ready.p50_s, ready.p99_s);
    println!("digest {}", measures.digest());
    Ok(())
}
