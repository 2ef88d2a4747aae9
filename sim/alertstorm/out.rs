//! All that the program prints passes through here: control characters are escaped, and an output that
//! cannot be written is an error and no panic.

use std::fmt::Display;
use std::io::Write;

use alertstorm_reports::printable;
use anyhow::{Context, Result};
use serde::Serialize;

/// Prints a text with this program's styles on standard output.
///
/// # Errors
/// Where standard output is closed or full.
pub fn text(text: &str) -> Result<()> {
    raw(&printable::lines(text, true))
}

/// Prints a line on standard output.
///
/// # Errors
/// As [`text`].
pub fn line(line: impl Display) -> Result<()> {
    raw(&(printable::lines(&line.to_string(), false) + "\n"))
}

/// Prints a value as JSON on standard output.
///
/// # Errors
/// As [`text`].
pub fn json<T: Serialize>(value: &T) -> Result<()> {
    raw(&(printable::json(&serde_json::to_string_pretty(value)?) + "\n"))
}

/// Prints text that is JSON on each line.
///
/// # Errors
/// As [`text`].
pub fn json_lines(text: &str) -> Result<()> {
    raw(&printable::json(text))
}

/// Prints commands of GitHub's runner, which must not be broken.
///
/// # Errors
/// As [`text`].
pub fn annotations(lines: &[String]) -> Result<()> {
    lines.iter().try_for_each(|line| raw(&format!("{line}\n")))
}

fn raw(text: &str) -> Result<()> {
    let mut to = anstream::stdout().lock();
    let written = to.write_all(text.as_bytes()).and_then(|()| to.flush());
    written.context("could not write to standard output")
}

/// Prints a line on standard error.
pub fn note(line: impl Display) {
    styled_note(&(printable::lines(&line.to_string(), false) + "\n"));
}

/// Prints a text with this program's styles on standard error.
pub fn styled_note(text: &str) {
    to_stderr(&printable::lines(text, true));
}

fn to_stderr(text: &str) {
    let mut to = anstream::stderr().lock();
    // Where standard error is closed there is nowhere left to report it; the exit code stays.
    let _ = to.write_all(text.as_bytes()).and_then(|()| to.flush());
}
