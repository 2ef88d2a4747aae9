//! The state of a platform on disk: its folder, a record of its processes, and the clean-up after
//! an owner that was killed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use alertstorm_agent::names::RunId;
use procfs::process::Process;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::Program;

/// The name of the file that describes a platform.
const RECORD: &str = "platform.json";

/// A process. Its start time distinguishes it from a later process with the same PID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its PID.
    pub pid: i32,
    /// Its start time in clock ticks since boot.
    pub started: u64,
}

impl ProcessId {
    /// The process with this PID; `None` if there is none, or only a zombie.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = Process::new(pid).ok()?.stat().ok()?;
        // A zombie has ended; its parent has not waited for it yet.
        (stat.state != 'Z').then_some(Self { pid, started: stat.starttime })
    }

    /// This process.
    pub fn own() -> Option<Self> {
        Self::of(i32::try_from(std::process::id()).ok()?)
    }

    /// Whether it is running.
    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Sends a signal. Does nothing if the process has ended.
    pub fn signal(self, signal: Signal) {
        if let (true, Some(pid)) = (self.is_alive(), Pid::from_raw(self.pid)) {
            // Fails if the process ended after the check, which is the wanted state.
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits until it has ended, at most `at_most`; whether it has.
    pub fn wait(self, at_most: Duration) -> bool {
        let until = Instant::now() + at_most;
        while self.is_alive() {
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        true
    }
}

/// A run on a platform that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Using {
    /// Its harness.
    pub by: ProcessId,
    /// Its id, which the names of its objects contain.
    pub id: RunId,
}

/// The file `platform.json` of a platform.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Record {
    /// The harness whose end makes the platform abandoned; `None` if it is kept. A kept kind
    /// cluster has an owner while a run uses it.
    pub owner: Option<ProcessId>,
    /// The last run on a local platform that is kept.
    #[serde(default)]
    pub run: Option<Using>,
    /// The processes of its servers; empty for kind.
    pub servers: Vec<(Program, ProcessId)>,
    /// Settings that another run needs to use the platform. Contains no secret.
    pub platform: serde_json::Value,
}

/// The folder that contains the folders of all platforms.
///
/// `ALERTSTORM_STATE` if it is set. For root `/var/lib/alertstorm`, since PostgreSQL runs as
/// another user, which cannot read root's home. Otherwise `$XDG_STATE_HOME/alertstorm` or
/// `~/.local/state/alertstorm`.
pub fn base() -> PathBuf {
    let named = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(base) = named("ALERTSTORM_STATE") {
        return base;
    }
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/alertstorm");
    }
    let home = || named("HOME").unwrap_or_else(std::env::temp_dir).join(".local/state");
    named("XDG_STATE_HOME").unwrap_or_else(home).join("alertstorm")
}

/// The folder of one platform.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Creates a folder with a random name.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn create(provider: &str) -> io::Result<Self> {
        let folder = Self::named(provider, &super::secret::name())?;
        DirBuilder::new().mode(0o711).create(&folder.path)?;
        Ok(folder)
    }

    /// The folder with a name. It is not created, but its parent is.
    ///
    /// # Errors
    /// If the parent cannot be created.
    pub fn named(provider: &str, name: &str) -> io::Result<Self> {
        let base = base().join(provider);
        DirBuilder::new().recursive(true).mode(0o711).create(&base)?;
        Ok(Self { path: base.join(name) })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A subfolder with mode 0700.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn private(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(path),
        }
    }

    /// Reads the record.
    ///
    /// # Errors
    /// If it is missing or not valid.
    pub fn record(&self) -> io::Result<Record> {
        let text = fs::read(self.path.join(RECORD))?;
        serde_json::from_slice(&text).map_err(io::Error::from)
    }

    /// Writes the record atomically.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_record(&self, record: &Record) -> io::Result<()> {
        let partial = self.path.join("platform.partial");
        write_private(&partial, &serde_json::to_vec_pretty(record)?)?;
        fs::rename(partial, self.path.join(RECORD))
    }

    /// Kills the processes of the record and removes the folder.
    ///
    /// # Errors
    /// If the folder cannot be removed.
    pub fn remove(&self) -> io::Result<()> {
        let servers = self.record().map(|record| record.servers).unwrap_or_default();
        for (_, process) in &servers {
            process.signal(Signal::KILL);
        }
        for (_, process) in &servers {
            process.wait(Duration::from_secs(10));
        }
        fs::remove_dir_all(&self.path)
    }
}

/// The folders of all platforms of a provider on this machine, alive or not.
///
/// # Errors
/// If the base folder cannot be read.
pub fn all(provider: &str) -> io::Result<Vec<Folder>> {
    let entries = match fs::read_dir(base().join(provider)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut folders = Vec::new();
    for entry in entries {
        folders.push(Folder { path: entry?.path() });
    }
    folders.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(folders)
}

/// The local platforms that are kept and of which a server is running.
///
/// # Errors
/// If the base folder cannot be read.
pub fn kept() -> io::Result<Vec<(Folder, Record)>> {
    let with_record = |folder: Folder| folder.record().ok().map(|record| (folder, record));
    let alive = |record: &Record| record.servers.iter().any(|(_, process)| process.is_alive());
    let is_kept = |(_, record): &(Folder, Record)| record.owner.is_none() && alive(record);
    Ok(all("local")?.into_iter().filter_map(with_record).filter(is_kept).collect())
}

/// Removes the local platforms whose owner has ended; their number.
///
/// # Errors
/// If a folder cannot be removed.
pub fn clean() -> io::Result<usize> {
    let mut cleaned = 0;
    for folder in all("local")? {
        let left_behind = match folder.record() {
            Ok(Record { owner: Some(owner), .. }) => !owner.is_alive(),
            Ok(record) => !record.servers.iter().any(|(_, process)| process.is_alive()),
            // The record is written right after the folder. A folder that has none after a minute
            // was left by a killed process.
            Err(_) => age(folder.path()).is_none_or(|age| age > Duration::from_secs(60)),
        };
        if left_behind {
            folder.remove()?;
            cleaned += 1;
        }
    }
    Ok(cleaned)
}

fn age(path: &Path) -> Option<Duration> {
    fs::metadata(path).ok()?.modified().ok()?.elapsed().ok()
}

/// Writes a file with mode 0600.
///
/// # Errors
/// If it cannot be written.
pub fn write_private(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path).and_then(|mut file: File| file.write_all(contents))
}
