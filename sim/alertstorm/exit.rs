//! Exit codes, which scripts rely on.

use std::process::ExitCode;

use alertstorm_model::scenario::Problem;
use alertstorm_reports::Report;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Every objective held.
    Held = 0,
    /// An objective was missed.
    Missed = 1,
    /// The input is wrong.
    WrongInput = 2,
    /// The environment lacks something; the message says what, and how to get it.
    Missing = 3,
    /// The run is invalid: its figures cannot be trusted.
    Invalid = 4,
    /// The runs do not answer the question: interrupted, or too few.
    Inconclusive = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl Exit {
    /// The code for an error that ended a verb.
    pub fn of(error: &anyhow::Error) -> Self {
        if error.is::<WrongInput>() {
            Self::WrongInput
        } else if error.is::<InvalidRun>() {
            Self::Invalid
        } else {
            Self::Missing
        }
    }

    /// The code for a run's report.
    pub fn of_run(report: &Report) -> Self {
        if !report.invalid.is_empty() {
            Self::Invalid
        } else if report.interrupted {
            Self::Inconclusive
        } else if report.held() {
            Self::Held
        } else {
            Self::Missed
        }
    }
}

/// The harness failed during a run, whose figures cannot be trusted.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct InvalidRun(pub String);

/// The run ended, and something that it made is left. Its exit code is that of a lack in the environment,
/// also if the run is invalid: what is left is what somebody has to remove.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct NotCleanedUp {
    /// What is left, and how to remove it.
    pub message: String,
    /// Why the run is invalid, if the harness failed in it.
    pub invalid: Option<String>,
}

/// The input is wrong. Holds every problem, not only the first.
#[derive(Debug, thiserror::Error)]
#[error("the input is wrong")]
pub struct WrongInput {
    /// Name and text of the files that were read, for excerpts in messages.
    pub files: Vec<(String, String)>,
    /// Every problem.
    pub problems: Vec<Problem>,
}

impl WrongInput {
    /// A single problem without a place in a file.
    pub fn of(source: &str, message: impl Into<String>) -> anyhow::Error {
        let message = message.into();
        let source = source.to_owned();
        let problem = Problem { source, place: None, message, help: None };
        Self { files: Vec::new(), problems: vec![problem] }.into()
    }
}
