//! Checks the scenario's flags of the servers against the output of `--help`, before anything is
//! started.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::provider::Program;

/// A flag that a server does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{program} has no flag --{flag}")]
pub struct UnknownFlag {
    /// The server.
    pub program: &'static str,
    /// The flag.
    pub flag: String,
    /// The most similar flag that it has.
    pub nearest: Option<String>,
}

/// Those of `flags` that the program does not have.
///
/// # Errors
/// If the program cannot be started.
pub fn unknown<'a>(
    program: Program,
    path: &Path,
    flags: impl Iterator<Item = &'a str>,
) -> std::io::Result<Vec<UnknownFlag>> {
    let flags: Vec<&str> = flags.collect();
    if flags.is_empty() {
        return Ok(Vec::new());
    }
    let asked = Command::new(path).arg("--help").output()?;
    let text =
        [String::from_utf8_lossy(&asked.stdout), String::from_utf8_lossy(&asked.stderr)].concat();
    let known = named_in(&text);
    let missing = flags.into_iter().filter(|flag| !known.contains(*flag));
    Ok(missing
        .map(|flag| UnknownFlag {
            program: program.file(),
            flag: flag.to_owned(),
            nearest: alertstorm_model::scenario::nearest(flag, known.iter().map(String::as_str))
                .map(str::to_owned),
        })
        .collect())
}

/// The flags in a help text: `--name` at the beginning of a line or after its short form.
fn named_in(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter_map(|line| {
            let line = line.trim_start();
            let line = if line.starts_with("--") { line } else { line.split_once(", ")?.1 };
            let name = line.strip_prefix("--")?;
            let end = name.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
            Some(name[..end.unwrap_or(name.len())].to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_found_in_the_help_text_of_cobra_and_of_etcd() {
        let text =
            "      --kube-api-burst int32   Burst\n  -h, --help\n  --quota-backend-bytes '0'\n";
        let known: Vec<String> = named_in(text).into_iter().collect();
        assert_eq!(known, ["help", "kube-api-burst", "quota-backend-bytes"]);
    }
}
