//! The journal: what an agent in a pod tells. The pod's termination message holds it as long as it
//! fits there, written anew with each entry, so that it outlives a SIGKILL; the pod's log holds it
//! always.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alertstorm_model::investigation::Outcome;
use alertstorm_model::time::Time;
use serde::{Deserialize, Serialize};

use crate::driver::Told;

/// The most that a kubelet reads of a termination message
/// (pkg/kubelet/container/runtime.go MaxPodTerminationMessageLogLength is 12 KiB a pod, 4096 bytes
/// a container: kuberuntime maxTerminationMessageLogLength).
pub const MESSAGE_MAX: usize = 4096;
/// The version of the journal.
const VERSION: u32 = 1;

/// An entry: nanoseconds since the agent's start, by its own clock, and what it told.
pub type Entry = (Time, Told);

/// What a termination message holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// Its version.
    v: u32,
    /// The agent's start by its node's clock, in nanoseconds since 1970.
    pub start: u64,
    /// How it ended, as far as the agent itself knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Whether the entries are too many for the message, and in the pod's log alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// What it told.
    pub log: Vec<Entry>,
}

impl Journal {
    /// The journal of an agent that starts now.
    pub fn begin() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let start = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        Self { v: VERSION, start, outcome: None, more: false, log: Vec::new() }
    }

    /// Reads a termination message; nothing where it is no journal of this version.
    pub fn read(message: &str) -> Option<Self> {
        serde_json::from_str(message).ok().filter(|journal: &Self| journal.v == VERSION)
    }

    /// Reads the entries in a pod's log; a line that was cut off is left out.
    pub fn read_log(text: &str) -> Vec<Entry> {
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The termination message.
    fn message(&self) -> serde_json::Result<String> {
        let whole = serde_json::to_string(self)?;
        if whole.len() <= MESSAGE_MAX {
            return Ok(whole);
        }
        serde_json::to_string(&Self { more: true, log: Vec::new(), ..self.clone() })
    }
}

/// Writes a journal as it grows.
#[derive(Debug)]
pub struct Writer {
    journal: Journal,
    message: File,
}

impl Writer {
    /// Begins a journal in the file of the termination message.
    ///
    /// # Errors
    /// Where the file cannot be opened.
    pub fn begin(path: &Path) -> io::Result<Self> {
        let message = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        Ok(Self { journal: Journal::begin(), message })
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn add(&mut self, entry: Entry) -> io::Result<()> {
        let mut line = serde_json::to_string(&entry)?;
        line.push('\n');
        io::stdout().lock().write_all(line.as_bytes())?;
        self.journal.log.push(entry);
        self.write()
    }

    /// Notes the outcome.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn end(&mut self, outcome: Outcome) -> io::Result<()> {
        self.journal.outcome = Some(outcome);
        self.write()
    }

    fn write(&self) -> io::Result<()> {
        let text = self.journal.message()?;
        // The same file, as a kubelet has mounted this one.
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
    fn a_journal_is_in_the_message_while_it_fits_and_in_the_log_always() {
        let mut journal = Journal::begin();
        journal.log.push((Time(5), Told::Stage(Stage::VaultLogin)));
        journal.outcome = Some(Outcome::Resolved);
        let message = journal.message().unwrap();
        assert_eq!(Journal::read(&message), Some(journal.clone()));
        let entry = (Time(123_456_789_012), Told::Acted(Verb::Read, Domain::Database));
        journal.log.resize(200, entry.clone());
        let message = journal.message().unwrap();
        assert!(message.len() <= MESSAGE_MAX);
        let read = Journal::read(&message).unwrap();
        assert!(read.more && read.log.is_empty() && read.outcome == journal.outcome);
        let lines: String = (0..3).map(|_| serde_json::to_string(&entry).unwrap() + "\n").collect();
        assert_eq!(Journal::read_log(&format!("{lines}[5,{{\"s\"")), vec![entry; 3]);
    }

    #[test]
    fn what_is_no_journal_is_none() {
        assert_eq!(Journal::read("Error: no such file"), None);
        assert_eq!(Journal::read(r#"{"v":2,"start":0,"log":[]}"#), None);
    }
}
