//! Steps on real servers around the twin's knee, in ascending order, up to the first that misses an
//! objective.

use std::path::Path;
use std::time::{Duration, Instant};

use alertstorm_analysis::verdict::slo;
use alertstorm_reports::capacity::{Capacity, Step};
use alertstorm_reports::terminal;
use anyhow::Result;

use super::args::Args;
use super::question::Question;
use crate::world::Servers;
use crate::{interrupt, live_run, run_folder};

/// Runs the steps, with a pause in between. `write` is called after each.
///
/// # Errors
/// Where a run fails, or the result cannot be written.
pub fn run(
    args: &Args,
    question: &Question,
    servers: &Servers,
    folder: &Path,
    capacity: &mut Capacity,
    write: &dyn Fn(&Capacity) -> Result<()>,
) -> Result<()> {
    let knee = capacity.settings.first().and_then(|setting| setting.all.median);
    let around = args.hold.or(knee).unwrap_or(question.bounds.start);
    let settings = capacity.settings.first().map(|setting| setting.knobs.clone());
    let settings = settings.unwrap_or_default();
    let mut shares = args.steps.clone();
    shares.sort_by(f64::total_cmp);
    // All scenarios are read before the first step: later changes of the file have no effect.
    let at = |share: &f64| question.trials.at(&settings, around * share);
    let all = shares.iter().map(at).collect::<Result<Vec<_>>>()?;
    for (number, loaded) in all.iter().enumerate() {
        if number > 0 {
            cool_down(Duration::from_secs(args.cool_down));
        }
        if interrupt::asked() {
            return Ok(());
        }
        let load = question.axis.load(&loaded.plan).unwrap_or(around * shares[number]);
        let (report, run) = live_run::run(loaded, servers, folder)?;
        let measures = run_folder::read_measures(&run)?;
        let slos: Vec<_> = question.slos.iter().map(|slo| slo::judge(slo, &measures)).collect();
        let held = slos.iter().all(|slo| slo.held) && !report.interrupted;
        let broken = !report.invalid.is_empty();
        capacity.world = format!("twin, then live on {}", report.provider);
        capacity.steps.push(Step {
            load,
            held: held && !broken,
            slos: slos
                .iter()
                .map(|slo| format!("{} {}", slo.slo, terminal::slo_value(slo)))
                .collect(),
            invalid: report.invalid,
            folder: run.display().to_string(),
        });
        write(capacity)?;
        if !held || broken {
            return Ok(());
        }
    }
    Ok(())
}

/// Waits, or returns at once when the run is interrupted.
fn cool_down(pause: Duration) {
    let until = Instant::now() + pause;
    while Instant::now() < until && !interrupt::asked() {
        std::thread::sleep(Duration::from_millis(100));
    }
}
