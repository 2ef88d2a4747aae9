//! Programs that a provider calls: `kind` and `docker`.

use std::ffi::OsStr;
use std::io;
use std::process::Stdio;

use tokio::process::Command;

/// Why a program did not do it.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be started.
    #[error("{program} could not be started; `alertstorm doctor` says what gets it")]
    Start {
        /// Which.
        program: String,
        /// Why not.
        source: io::Error,
    },
    /// It failed.
    #[error("`{what}` failed:\n{said}")]
    Failed {
        /// The program and its first arguments.
        what: String,
        /// What it said.
        said: String,
    },
}

/// Runs a program to its end; what it printed. Its arguments hold no secret.
///
/// # Errors
/// [`CommandError`].
pub async fn run<S: AsRef<OsStr>>(program: &str, args: &[S]) -> Result<String, CommandError> {
    let mut command = Command::new(program);
    // A group of its own: Ctrl-C ends the run, and the run ends what it began.
    command.args(args).stdin(Stdio::null()).process_group(0).kill_on_drop(true);
    tracing::debug!(program, "running");
    let output = command.output().await;
    let output =
        output.map_err(|source| CommandError::Start { program: program.into(), source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let words: Vec<String> =
        args.iter().take(3).map(|arg| arg.as_ref().to_string_lossy().into_owned()).collect();
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(CommandError::Failed { what: format!("{program} {}", words.join(" ")), said })
}
