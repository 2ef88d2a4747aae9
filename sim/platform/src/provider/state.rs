//! The state of a local platform on disk: a private folder, the processes that belong to it, and
//! the cleaning up after an owner that was killed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use procfs::process::Process;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::Program;

/// The name of the file that describes a platform.
const RECORD: &str = "platform.json";

/// A process, told apart from a later one of the same number by the instant of its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its number.
    pub pid: i32,
    /// Clock ticks from the machine's start to the process's.
    pub started: u64,
}

impl ProcessId {
    /// The process of this number, where there is one.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = Process::new(pid).ok()?.stat().ok()?;
        // A zombie has ended; only its parent has not looked yet.
        (stat.state != 'Z').then_some(Self { pid, started: stat.starttime })
    }

    /// This process.
    pub fn own() -> Option<Self> {
        Self::of(i32::try_from(std::process::id()).ok()?)
    }

    /// Whether it still runs.
    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Sends a signal; a process that is gone already is no error.
    pub fn signal(self, signal: Signal) {
        if let (true, Some(pid)) = (self.is_alive(), Pid::from_raw(self.pid)) {
            // Between the look and the signal it may end: then there is nothing left to do.
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits until it has ended, at most so long; whether it has.
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

/// What is known of a platform.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Record {
    /// The process whose end ends the platform; none where it is kept.
    pub owner: Option<ProcessId>,
    /// Its servers.
    pub servers: Vec<(Program, ProcessId)>,
    /// What another run needs to use it: ports and settings, no secret.
    pub platform: serde_json::Value,
}

/// The folder below which every platform has its own.
///
/// `ALERTSTORM_STATE`; else for root `/var/lib/alertstorm`, as PostgreSQL runs as another user, who
/// may not look into root's home; else `$XDG_STATE_HOME/alertstorm` or `~/.local/state/alertstorm`.
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

/// A platform's folder.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes a folder with a random name for a platform of a provider.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn create(provider: &str) -> io::Result<Self> {
        let folder = Self::named(provider, &super::secret::name())?;
        DirBuilder::new().mode(0o711).create(&folder.path)?;
        Ok(folder)
    }

    /// The folder of a name, which may be there or not; the one that holds it is made.
    ///
    /// # Errors
    /// Where that cannot be made.
    pub fn named(provider: &str, name: &str) -> io::Result<Self> {
        let base = base().join(provider);
        DirBuilder::new().recursive(true).mode(0o711).create(&base)?;
        Ok(Self { path: base.join(name) })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A folder in it that its owner alone may enter.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn private(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(path),
        }
    }

    /// What is known of the platform.
    ///
    /// # Errors
    /// Where the record cannot be read.
    pub fn record(&self) -> io::Result<Record> {
        let text = fs::read(self.path.join(RECORD))?;
        serde_json::from_slice(&text).map_err(io::Error::from)
    }

    /// Writes the record, whole or not at all.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write_record(&self, record: &Record) -> io::Result<()> {
        let beside = self.path.join("platform.partial");
        write_private(&beside, &serde_json::to_vec_pretty(record)?)?;
        fs::rename(beside, self.path.join(RECORD))
    }

    /// Ends what still runs of the platform, and removes the folder.
    ///
    /// # Errors
    /// Where the folder cannot be removed.
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

/// Every platform of a provider on this machine that is there or was.
///
/// # Errors
/// Where the base folder cannot be read.
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

/// The local platforms that are kept, and alive.
///
/// # Errors
/// Where the base folder cannot be read.
pub fn kept() -> io::Result<Vec<(Folder, Record)>> {
    let with_record = |folder: Folder| folder.record().ok().map(|record| (folder, record));
    let alive = |record: &Record| record.servers.iter().any(|(_, process)| process.is_alive());
    let is_kept = |(_, record): &(Folder, Record)| record.owner.is_none() && alive(record);
    Ok(all("local")?.into_iter().filter_map(with_record).filter(is_kept).collect())
}

/// Cleans up after owners of local platforms that are gone; how many were left behind.
///
/// # Errors
/// Where a folder cannot be removed.
pub fn clean() -> io::Result<usize> {
    let mut cleaned = 0;
    for folder in all("local")? {
        let left_behind = match folder.record() {
            Ok(Record { owner: Some(owner), .. }) => !owner.is_alive(),
            Ok(record) => !record.servers.iter().any(|(_, process)| process.is_alive()),
            // Its maker writes the record at once; without one for a minute there is no maker.
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

/// Writes a file that its owner alone may read.
///
/// # Errors
/// Where it cannot be written.
pub fn write_private(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path).and_then(|mut file: File| file.write_all(contents))
}
