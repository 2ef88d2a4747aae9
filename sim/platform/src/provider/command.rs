//! Programs that a provider calls: `kind` and `docker`.

use std::ffi::OsStr;
use std::io;
use std::process::Stdio;

use tokio::process::Command;

/// Why a program failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The process could not be started.
    #[error("could not start {program}; `alertstorm doctor` prints how to install it")]
    Start {
        /// Its name.
        program: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// Its exit code was not 0.
    #[error("`{what}` failed:\n{stderr}")]
    Failed {
        /// The program and its first arguments.
        what: String,
        /// Its standard error.
        stderr: String,
    },
}

/// Runs a program to its end; its standard output. Other users can read the arguments, so they must
/// not contain a secret.
///
/// # Errors
/// If it cannot be started, or its exit code is not 0.
pub async fn run<S: AsRef<OsStr>>(program: &str, args: &[S]) -> Result<String, CommandError> {
    let mut command = Command::new(program);
    // A process group of its own: Ctrl-C reaches the harness only, which ends its children.
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
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(CommandError::Failed { what: format!("{program} {}", words.join(" ")), stderr })
}
