//! Steps on real servers: few, in ascending order, with a pause between, up to the first that breaks.

use std::path::Path;
use std::time::{Duration, Instant};

use alertstorm_analysis::verdict::slo;
use alertstorm_reports::capacity::{Capacity, Step};
use alertstorm_reports::terminal;
use anyhow::Result;

use super::{Args, Question};
use crate::cmd::run::on_servers;
use crate::world::Choice;
use crate::{interrupt, run_folder};

/// Runs the steps around the twin's knee; the result is written after each.
pub fn steps(
    args: &Args,
    question: &Question,
    choice: &Choice,
    folder: &Path,
    capacity: &mut Capacity,
) -> Result<()> {
    let knee = capacity.settings.first().and_then(|setting| setting.all.median);
    let around = args.hold.or(knee).unwrap_or(question.bounds.start);
    let settings = capacity.settings.first().map(|setting| setting.knobs.clone());
    let settings = settings.unwrap_or_default();
    let mut shares = args.steps.clone();
    shares.sort_by(f64::total_cmp);
    // Read before the first: a file that is changed meanwhile changes nothing here.
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
        let (report, run) = on_servers(loaded, choice, folder)?;
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
        super::write(folder, capacity)?;
        if !held || broken {
            return Ok(());
        }
    }
    Ok(())
}

/// Waits, unless somebody asks for the end.
fn cool_down(pause: Duration) {
    let until = Instant::now() + pause;
    while Instant::now() < until && !interrupt::asked() {
        std::thread::sleep(Duration::from_millis(100));
    }
}
