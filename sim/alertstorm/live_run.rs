//! One run on real servers, from the plan to the report.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use alertstorm_reports::Report;
use anyhow::Result;

use crate::exit::{InvalidRun, NotCleanedUp};
use crate::live::{Platform, RunLog};
use crate::run_folder::{self, EventLog};
use crate::source::Loaded;
use crate::world::Servers;
use crate::{out, ui};

/// Runs a scenario on real servers; its report and folder.
///
/// # Errors
/// Where the platform, the run or its folder fails. The platform is ended in any case, and the report
/// is written from the event log, if there is one.
pub fn run(loaded: &Loaded, servers: &Servers, output: &Path) -> Result<(Report, PathBuf)> {
    let plan = &loaded.plan;
    let began = Instant::now();
    let harness = RunLog::begin();
    // Before a platform is made for it.
    run_folder::check_writable(output)?;
    let platform = servers.live.start(plan, servers.provider, &servers.args)?;
    // The folder is made once the platform is up, so that a failed start leaves no empty folder.
    let driven = prepare(loaded, output, &harness)
        .map(|(folder, log)| (folder, drive(loaded, &platform, log)));
    let stopped = platform.stop();
    let (folder, (ran, lost)) = match driven {
        Ok(driven) => driven,
        Err(error) => return Err(beside(error, [stopped])),
    };
    let mut report = run_folder::report_from_events(&folder, plan)?;
    report.harness.wall_s = began.elapsed().as_secs_f64();
    // Other errors, such as those of the teardown, do not change what was measured.
    if let Err(error) = &ran
        && error.is::<InvalidRun>()
    {
        report.invalid.insert(0, error.to_string());
    }
    run_folder::write_report_of(&folder, &mut report, lost)?;
    // A run whose servers are gone is invalid for that reason, and not because they cannot be cleaned up.
    let has_ended = ran.as_ref().err().is_none_or(anyhow::Error::is::<NotCleanedUp>);
    if !report.invalid.is_empty() && has_ended {
        for error in [ran, stopped].into_iter().filter_map(Result::err) {
            out::note(format_args!("error: {error:#}"));
        }
        return Ok((report, folder));
    }
    if let Err(error) = ran {
        out::note(format_args!("the measurements up to then are in {}", folder.display()));
        return Err(beside(error, [stopped]));
    }
    stopped?;
    Ok((report, folder))
}

/// The first error, with the others that happened beside it printed before it.
fn beside<const N: usize>(error: anyhow::Error, others: [Result<()>; N]) -> anyhow::Error {
    for other in others.into_iter().filter_map(Result::err) {
        out::note(format_args!("error: {other:#}"));
    }
    error
}

/// Makes the run's folder with its inputs, the log of the harness and an empty event log.
fn prepare(loaded: &Loaded, output: &Path, harness: &RunLog) -> Result<(PathBuf, EventLog)> {
    let plan = &loaded.plan;
    let name = format!("{}-{}", plan.scenario().name, plan.scenario().seed);
    let folder = run_folder::create(output, &name)?;
    harness.write_to(&folder)?;
    run_folder::write_inputs(&folder, plan, &loaded.files)?;
    let log = EventLog::create(&folder)?;
    Ok((folder, log))
}

/// Runs the plan: how the run ended, and why its log is incomplete, if it is.
fn drive(loaded: &Loaded, platform: &Platform, mut log: EventLog) -> (Result<()>, Option<String>) {
    let failed = log.failed();
    let plan = &loaded.plan;
    let bar = ui::progress(plan.alerts_expected());
    bar.set_message(plan.scenario().name.clone());
    let ran = run_folder::inputs(plan, &loaded.files).and_then(|files| {
        platform.run(plan, files, &mut log, &mut |finished, now| {
            bar.set_message(format!("{} {}", plan.scenario().name, ui::clock(now)));
            bar.set_position(finished);
            // Without its events a run cannot be judged: it ends, and what it wrote is reported.
            if failed.get() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
    });
    bar.finish_and_clear();
    (ran, log.finish())
}
