//! What a case allows: how its run may end, and what a reader of the report has to find.

use std::fs;
use std::path::Path;

use alertstorm_platform::provider::Program;
use serde_json::Value;

use crate::case::{Case, Moment, World};
use crate::cluster::Outage;
use crate::fault::Fault;
use crate::outcome::{self, texts};
use crate::place::Ended;

/// How a run may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Exit code 0, or 4 if the only reason is a slow harness, which is due to the shared machine.
    Complete,
    /// Exit code 4, with this in a reason.
    Invalid(&'static str),
    /// Exit code 3, with an error that names the fault.
    Failed,
    /// Exit code 5.
    Interrupted,
    /// By a signal.
    Killed,
}

/// Where a reader finds a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trace {
    /// In a remark or a reason of the report.
    Report(String),
    /// In the log of the harness: the report is complete when the clean-up begins, and a run that
    /// begins with a retry reports nothing of it.
    Log(String),
    /// In the report's list of faults.
    Mark(&'static str),
    /// In the outcomes of investigations.
    Outcome(&'static str),
    /// In the report's `interrupted`.
    Interrupted,
}

impl Case {
    /// How the run may end.
    pub fn allowed(self) -> Vec<End> {
        let mut ends = match (self.fault, self.moment) {
            (Fault::Killed, _) => return vec![End::Killed],
            // All is measured when the clean-up begins.
            (Fault::Interrupted, Moment::CleanUp) => return vec![End::Interrupted, End::Complete],
            (Fault::Interrupted, _) => return vec![End::Interrupted],
            // Their journals are lost, and with them whose leases these are.
            (Fault::Pod | Fault::Worker(Outage::Stopped), _) if self.world == World::Kind => {
                vec![End::Complete, End::Invalid("were claimed by no agent")]
            }
            // Nobody unseals a Vault in dev mode.
            (Fault::Sealed, Moment::Run) if self.world == World::Kind => {
                vec![End::Invalid("sealed")]
            }
            // In dev mode its audit log is lost with its memory.
            (Fault::Kill(Program::Vault), Moment::Verdict) if self.world == World::Kind => {
                vec![End::Invalid("records could not be read")]
            }
            // It lasts longer than the watchdog waits.
            (Fault::Silent(200), _) => return vec![End::Invalid("hang")],
            _ => vec![End::Complete],
        };
        if self.moment == Moment::Launch {
            ends.push(End::Failed);
        }
        ends
    }

    /// What the error of a run that failed has to name.
    fn cause(self) -> String {
        match self.fault {
            Fault::Kill(program) | Fault::Refuses(program) => program.file().to_owned(),
            Fault::Answers(status) => status.to_string(),
            Fault::Sealed => "sealed".to_owned(),
            Fault::Silent(_) => "did not answer".to_owned(),
            Fault::Cut | Fault::Gone => "connection".to_owned(),
            Fault::Node(..) | Fault::Worker(_) => "node".to_owned(),
            Fault::Pod => "pod".to_owned(),
            Fault::Shard | Fault::ShardPod => "shard".to_owned(),
            Fault::Killed | Fault::Interrupted => "interrupted".to_owned(),
        }
    }

    /// What a reader has to find, each of it.
    pub fn traces(self) -> Vec<Trace> {
        let report = |text: &str| Trace::Report(text.to_owned());
        let log = |text: &str| Trace::Log(text.to_owned());
        let early_or_late = matches!(self.moment, Moment::Launch | Moment::CleanUp);
        let seen = |text: &str| if early_or_late { log(text) } else { report(text) };
        match self.fault {
            Fault::Kill(program) if self.world == World::Kind => self.death_in_pods(program),
            Fault::Worker(_) => vec![seen("is not ready")],
            Fault::Shard | Fault::ShardPod => vec![report("died (alertstorm-shards-")],
            Fault::Sealed => vec![seen("sealed")],
            Fault::Answers(status) => vec![seen(&status.to_string())],
            Fault::Silent(200) => vec![report("hang")],
            Fault::Silent(_) => vec![seen("nothing arrived")],
            Fault::Cut => match self.moment {
                Moment::Run => vec![report("the watch of Jobs failed")],
                _ => vec![log("a request failed")],
            },
            Fault::Gone => vec![
                report("the watch of Jobs failed"),
                report(&format!("{} died", Program::ApiServer.file())),
            ],
            Fault::Node(..) => vec![Trace::Mark("node-down")],
            Fault::Pod => vec![Trace::Outcome("evicted")],
            Fault::Kill(program) | Fault::Refuses(program) => vec![self.death(program)],
            // At its clean-up a run may be complete.
            Fault::Killed | Fault::Interrupted if self.moment == Moment::CleanUp => Vec::new(),
            Fault::Killed | Fault::Interrupted => vec![Trace::Interrupted],
        }
    }

    /// In dev mode Vault loses its memory, and agents their leases.
    fn death_in_pods(self, program: Program) -> Vec<Trace> {
        let mut traces = vec![self.death(program)];
        if program == Program::Vault && self.moment == Moment::Run {
            traces.push(Trace::Report("vault lost its storage".to_owned()));
        }
        traces
    }

    fn death(self, program: Program) -> Trace {
        let name = program.file();
        match (self.moment, self.world) {
            // A kubelet reports the restart of a component after the run was judged.
            (Moment::CleanUp, _) | (Moment::Verdict, World::Kind) => {
                Trace::Log(format!("died, and is started again program=\"{name}\""))
            }
            _ => Trace::Report(format!("{name} died and was restarted")),
        }
    }
}

/// What is wrong with how a run ended: none of the allowed ends.
pub fn wrong_end(case: Case, ended: &Ended, report: Option<&Value>) -> Option<String> {
    let allowed = case.allowed();
    let is = |end: &End| is_so(*end, ended, report, &case.cause());
    if allowed.iter().any(is) {
        return None;
    }
    let reasons = report.map(outcome::invalid).unwrap_or_default();
    let interrupted = report.map(|report| &report["interrupted"]);
    let error = outcome::error(ended);
    Some(format!(
        "exit code {:?}, interrupted {interrupted:?}, {reasons:?}, error {error:?}: none of {allowed:?}",
        ended.code
    ))
}

fn is_so(end: End, ended: &Ended, report: Option<&Value>, cause: &str) -> bool {
    let reasons = report.map(outcome::invalid).unwrap_or_default();
    match end {
        End::Complete => {
            let busy = report.is_some_and(|report| !texts(report, "invalid").is_empty());
            let code = ended.code == Some(0) || (ended.code == Some(4) && busy);
            code && reasons.is_empty()
                && report.is_some_and(|report| report["interrupted"] == false)
        }
        End::Invalid(why) => {
            ended.code == Some(4) && reasons.iter().any(|reason| reason.contains(why))
        }
        End::Failed => {
            let error = outcome::error(ended).to_lowercase();
            ended.code == Some(3) && error.contains(cause)
        }
        End::Interrupted => {
            ended.code == Some(5) && report.is_none_or(|report| report["interrupted"] == true)
        }
        End::Killed => ended.code.is_none() && !ended.hangs,
    }
}

/// The expected traces that a reader does not find.
pub fn missing(case: Case, ended: &Ended, report: Option<&Value>, folder: &Path) -> Vec<String> {
    let log = fs::read_to_string(folder.join("harness.log")).unwrap_or_default();
    let mut said = report.map(|report| texts(report, "remarks")).unwrap_or_default();
    said.extend(report.map(|report| texts(report, "invalid")).unwrap_or_default());
    // The error of a run that failed is what it reports.
    if is_so(End::Failed, ended, report, &case.cause()) {
        return Vec::new();
    }
    let found = |trace: &Trace| match (trace, report) {
        (Trace::Report(text), _) => said.iter().any(|line| line.contains(text)),
        (Trace::Log(text), _) => log.contains(text) || said.iter().any(|line| line.contains(text)),
        (Trace::Mark(kind), Some(report)) => {
            let marks = report["series"]["marks"].as_array().into_iter().flatten();
            marks.filter(|mark| mark["fault"] == *kind).count() >= 1
        }
        (Trace::Outcome(name), Some(report)) => {
            let outcomes = report["outcomes"].as_array().into_iter().flatten();
            outcomes.filter(|of| of["outcome"] == *name).count() >= 1
        }
        (Trace::Interrupted, Some(report)) => report["interrupted"] == true,
        // A run that was interrupted before it began has no report, and exit code 5.
        (Trace::Interrupted, None) => case.moment == Moment::Launch && case.world == World::Own,
        (_, None) => false,
    };
    let traces = case.traces();
    let missing = traces.iter().filter(|trace| !found(trace));
    missing.map(|trace| format!("no reader finds {trace:?}; the report: {said:?}")).collect()
}
