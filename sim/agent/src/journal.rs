//! The journal: the events of an agent in a pod. Every event goes to the pod's log. As long as they
//! fit, all of them are also in the pod's termination message, which is rewritten with each event, so
//! that it survives a SIGKILL.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alertstorm_model::investigation::Outcome;
use alertstorm_model::time::Time;
use serde::{Deserialize, Serialize};

use crate::world::AgentReport;

/// The kubelet truncates a container's termination message after this many bytes
/// (maxTerminationMessageLogLength in pkg/kubelet/kuberuntime; a pod's messages together may have
/// 12 KiB: MaxPodTerminationMessageLogLength in pkg/kubelet/container/runtime.go).
pub const MESSAGE_MAX: usize = 4096;
/// The version of the format.
const VERSION: u32 = 2;

/// An event, and its time: nanoseconds since the agent's start, on a monotonic clock.
pub type Entry = (Time, AgentReport);

/// The content of a termination message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    v: u32,
    /// The agent's start by its node's clock, in nanoseconds since the Unix epoch.
    pub start: u64,
    /// Written by the agent when it ends; none after a crash or a SIGKILL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// The entries do not fit into the message: `log` is empty, and they are in the pod's log only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// The entries, the earliest first.
    pub log: Vec<Entry>,
}

/// The last line of the log of an agent that did not crash.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ended {
    outcome: Outcome,
}

impl Journal {
    /// The journal of an agent that starts now.
    pub fn begin() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let start = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        Self { v: VERSION, start, outcome: None, more: false, log: Vec::new() }
    }

    /// Parses a termination message; none if it is not a journal of this version.
    pub fn read(message: &str) -> Option<Self> {
        serde_json::from_str(message).ok().filter(|journal: &Self| journal.v == VERSION)
    }

    /// Parses a pod's log; lines that are not entries, such as a truncated one, are skipped.
    pub fn read_log(text: &str) -> Vec<Entry> {
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The journal of a pod whose termination message cannot be parsed, from the pod's log alone.
    /// `start` is the container's start, in nanoseconds since the Unix epoch.
    pub fn from_log(text: &str, start: u64) -> Self {
        let ended = |line| serde_json::from_str::<Ended>(line).ok();
        let outcome = text.lines().rev().find_map(ended).map(|ended| ended.outcome);
        Self { v: VERSION, start, outcome, more: false, log: Self::read_log(text) }
    }

    /// The termination message: without the entries if they do not fit.
    fn message(&self) -> serde_json::Result<String> {
        let whole = serde_json::to_string(self)?;
        if whole.len() <= MESSAGE_MAX {
            return Ok(whole);
        }
        serde_json::to_string(&Self { more: true, log: Vec::new(), ..self.clone() })
    }
}

/// Writes a journal to the termination message and to standard output.
#[derive(Debug)]
pub struct Writer {
    journal: Journal,
    message: File,
}

impl Writer {
    /// Opens the file of the termination message.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn begin(path: &Path) -> io::Result<Self> {
        let message = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        Ok(Self { journal: Journal::begin(), message })
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// If standard output or the file cannot be written.
    pub fn add(&mut self, entry: Entry) -> io::Result<()> {
        let mut line = serde_json::to_string(&entry)?;
        line.push('\n');
        io::stdout().lock().write_all(line.as_bytes())?;
        self.journal.log.push(entry);
        self.write()
    }

    /// Records the outcome.
    ///
    /// # Errors
    /// If standard output or the file cannot be written.
    pub fn end(&mut self, outcome: Outcome) -> io::Result<()> {
        let line = serde_json::to_string(&Ended { outcome })? + "\n";
        io::stdout().lock().write_all(line.as_bytes())?;
        self.journal.outcome = Some(outcome);
        self.write()
    }

    fn write(&self) -> io::Result<()> {
        let text = self.journal.message()?;
        // Overwritten in place: the kubelet bind-mounts this file, so it cannot be replaced.
        self.message.write_all_at(text.as_bytes(), 0)?;
        self.message.set_len(text.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alertstorm_model::investigation::{Domain, Stage};
    use alertstorm_model::phase::Verb;

    #[test]
    fn entries_that_do_not_fit_into_the_message_are_read_from_the_log() {
        let mut journal = Journal::begin();
        journal.log.push((Time(5), AgentReport::Stage(Stage::VaultLogin)));
        journal.outcome = Some(Outcome::Resolved);
        let message = journal.message().unwrap();
        assert_eq!(Journal::read(&message), Some(journal.clone()));
        let entry = (Time(123_456_789_012), AgentReport::Acted(Verb::Read, Domain::Database));
        journal.log.resize(200, entry.clone());
        let message = journal.message().unwrap();
        assert!(message.len() <= MESSAGE_MAX);
        let read = Journal::read(&message).unwrap();
        assert!(read.more && read.log.is_empty() && read.outcome == journal.outcome);
        let lines: String = (0..3).map(|_| serde_json::to_string(&entry).unwrap() + "\n").collect();
        assert_eq!(Journal::read_log(&format!("{lines}[5,{{\"s\"")), vec![entry; 3]);
    }

    #[test]
    fn the_log_alone_gives_the_entries_and_the_outcome_if_the_message_cannot_be_parsed() {
        let entry = (
            Time(5),
            AgentReport::Issued(
                "database/creds/a/1".to_owned(),
                Domain::Database,
                Time(3),
                alertstorm_model::time::Span::secs(60),
            ),
        );
        let line = serde_json::to_string(&entry).unwrap();
        let ended = serde_json::to_string(&Ended { outcome: Outcome::Resolved }).unwrap();
        let journal = Journal::from_log(&format!("{line}\nnoise\n{ended}\n"), 7);
        assert_eq!((journal.start, journal.outcome), (7, Some(Outcome::Resolved)));
        assert_eq!(journal.log, vec![entry.clone()]);
        let cut = Journal::from_log(&format!("{line}\n{{\"outc"), 7);
        assert_eq!((cut.outcome, cut.log), (None, vec![entry]));
    }

    #[test]
    fn a_message_that_is_no_journal_of_this_version_is_ignored() {
        assert_eq!(Journal::read("Error: no such file"), None);
        assert_eq!(Journal::read(r#"{"v":1,"start":0,"log":[]}"#), None);
    }
}
