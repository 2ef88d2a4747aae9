//! Runs a scenario in the twin with several values of a knob.
//!
//!     cargo run --example sweep_knob -- controller.concurrency 5 10 20 40

use std::ops::ControlFlow;
use std::{env, fs};

use alertstorm_analysis::measure::Measures;
use alertstorm_model::investigation::Stage;
use alertstorm_model::scenario::{Problem, load};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = env::args().skip(1);
    let knob = args.next().unwrap_or("controller.concurrency".to_owned());
    let mut values: Vec<String> = args.collect();
    if values.is_empty() {
        values = ["5", "10", "20", "40"].map(str::to_owned).to_vec();
    }
    let files =
        |name: &str| fs::read_to_string(format!("scenarios/{name}")).map_err(|e| e.to_string());
    let text = fs::read_to_string("scenarios/two-am-flood-small.yaml")?;
    let plan = load(&text, "two-am-flood-small.yaml", &[], &files).map_err(lines)?;

    for value in values {
        let changed = plan.with_knob(&knob, &value).map_err(lines)?;
        let mut measures = Measures::default();
        alertstorm_twin::run(&changed, &mut measures, &mut |_| ControlFlow::Continue(()));
        measures.close();
        let ready = measures.latencies.to(Stage::CredentialsReady).row();
        println!("{knob}={value}: agent ready p99 {:?} s", ready.p99_s);
    }
    Ok(())
}

fn lines(problems: Vec<Problem>) -> String {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n")
}
