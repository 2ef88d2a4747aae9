//! Exit codes: part of the program's contract with scripts.

use std::process::ExitCode;

use alertstorm_model::scenario::Problem;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything held.
    Held = 0,
    /// An objective was missed.
    Missed = 1,
    /// The input is wrong.
    WrongInput = 2,
    /// The environment lacks something.
    Missing = 3,
    /// The run is invalid: its figures cannot be trusted.
    Invalid = 4,
    /// The run does not settle the question.
    Inconclusive = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl Exit {
    /// The code of an error that ended a verb.
    pub fn of(error: &anyhow::Error) -> Self {
        if error.is::<WrongInput>() { Self::WrongInput } else { Self::Missing }
    }
}

/// The input is wrong: everything that is, each with its place.
#[derive(Debug, thiserror::Error)]
#[error("the input is wrong")]
pub struct WrongInput {
    /// The files as they were read, for excerpts: name and text.
    pub files: Vec<(String, String)>,
    /// What is wrong with them.
    pub problems: Vec<Problem>,
}

impl WrongInput {
    /// One problem that has no place in a file.
    pub fn of(source: &str, message: impl Into<String>) -> anyhow::Error {
        let message = message.into();
        let source = source.to_owned();
        let problem = Problem { source, place: None, message, help: None };
        Self { files: Vec::new(), problems: vec![problem] }.into()
    }
}
