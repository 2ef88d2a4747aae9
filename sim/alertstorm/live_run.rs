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
    let reported = run_folder::report_from_events(&folder, plan).and_then(|mut report| {
        report.harness.wall_s = began.elapsed().as_secs_f64();
        // Other errors, such as those of the teardown, do not change what was measured.
        if let Some(why) = ran.as_ref().err().and_then(why_invalid) {
            report.invalid.insert(0, why);
        }
        run_folder::write_report_of(&folder, &mut report, lost).map(|()| report)
    });
    let report = match reported {
        Ok(report) => report,
        Err(error) => return Err(beside(error, [ran, stopped])),
    };
    let Ending { error, others } = Ending::of(ran, stopped);
    let Some(error) = error else { return Ok((report, folder)) };
    for why in &report.invalid {
        out::note(format_args!("the run is invalid: {why}"));
    }
    out::note(format_args!("the measurements up to then are in {}", folder.display()));
    Err(beside(error, others.into_iter().map(Err)))
}

/// Why the error makes the run invalid, if it does.
fn why_invalid(error: &anyhow::Error) -> Option<String> {
    let of_run = error.downcast_ref::<InvalidRun>().map(ToString::to_string);
    of_run.or_else(|| error.downcast_ref::<NotCleanedUp>()?.invalid.clone())
}

/// How a run and its platform ended.
#[derive(Debug)]
struct Ending {
    /// The error that decides the exit code; none if everything succeeded.
    error: Option<anyhow::Error>,
    /// Those that happened beside it.
    others: Vec<anyhow::Error>,
}

impl Ending {
    /// Where a run is invalid and something of it is left, the exit code is that of what is left: the
    /// caller has to remove it, while the report already says that the run is invalid.
    fn of(ran: Result<()>, stopped: Result<()>) -> Self {
        let (ran, stopped) = (ran.err(), stopped.err());
        let stays_first = ran.as_ref().is_some_and(|error| !error.is::<InvalidRun>());
        let mut all: Vec<anyhow::Error> = match stays_first {
            true => [ran, stopped].into_iter().flatten().collect(),
            false => [stopped, ran].into_iter().flatten().collect(),
        };
        let others = all.split_off(all.len().min(1));
        Self { error: all.pop(), others }
    }
}

/// The first error, with the others that happened beside it printed before it.
fn beside(error: anyhow::Error, others: impl IntoIterator<Item = Result<()>>) -> anyhow::Error {
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

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;
    use crate::exit::Exit;

    fn code(ran: Result<()>, stopped: Result<()>) -> (Option<Exit>, Vec<String>) {
        let Ending { error, others } = Ending::of(ran, stopped);
        let others = others.iter().map(ToString::to_string).collect();
        (error.as_ref().map(Exit::of), others)
    }

    #[test]
    fn an_invalid_run_whose_platform_cannot_be_removed_ends_with_the_code_of_what_is_left() {
        let invalid = || Err(InvalidRun("it panicked".to_owned()).into());
        let left = || Err(anyhow!("the cluster is left"));
        assert_eq!(code(invalid(), left()), (Some(Exit::Missing), vec!["it panicked".to_owned()]));
        assert_eq!(code(invalid(), Ok(())), (Some(Exit::Invalid), Vec::new()));
        assert_eq!(code(Ok(()), left()), (Some(Exit::Missing), Vec::new()));
        assert_eq!(code(Ok(()), Ok(())), (None, Vec::new()));
    }

    #[test]
    fn what_a_run_left_is_the_first_error_also_if_its_harness_failed() {
        let (message, why) = ("the nodes are left".to_owned(), Some("it panicked".to_owned()));
        let error = anyhow::Error::from(NotCleanedUp { message, invalid: why.clone() });
        assert_eq!(why_invalid(&error), why);
        let (exit, others) = code(Err(error), Err(anyhow!("the cluster is left")));
        assert_eq!((exit, others.len()), (Some(Exit::Missing), 1));
    }

    #[test]
    fn an_error_that_ended_a_run_stays_the_first() {
        let (exit, others) = code(Err(crate::exit::WrongInput::of("a", "b")), Err(anyhow!("c")));
        assert_eq!((exit, others), (Some(Exit::WrongInput), vec!["c".to_owned()]));
    }
}
