//! The servers as processes, each in a process group of its own: started, supervised, restarted
//! when they die, and recorded on disk so that a later run can stop them.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use procfs::process::Process;
use rustix::process::Signal;

use crate::provider::state::{Folder, ProcessId};
use crate::provider::{Program, Usage};

/// Interval of the supervisor.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Delay before a server that died is restarted.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// The command of a server.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Path of its executable.
    pub path: PathBuf,
    /// Its arguments. Other users of the machine can read them, so they must not contain a secret.
    pub args: Vec<String>,
    /// Its environment, in addition to PATH.
    pub env: Vec<(&'static str, String)>,
    /// Its user and group id; `None` for those of the harness.
    pub user: Option<(u32, u32)>,
    /// The file of its standard output and standard error.
    pub log: PathBuf,
}

/// A server that ended unexpectedly.
#[derive(Clone, Debug)]
pub struct Death {
    /// The server.
    pub program: Program,
    /// When the supervisor noticed it.
    pub at: Instant,
}

struct Life {
    child: Option<Child>,
    id: ProcessId,
}

struct Inner {
    specs: BTreeMap<Program, Spec>,
    lives: BTreeMap<Program, Life>,
    /// Processor time of processes that have ended.
    past: BTreeMap<Program, Duration>,
    /// Servers that are kept down by a fault.
    held: Vec<Program>,
    restarts: Vec<(Instant, Program)>,
    deaths: Vec<Death>,
}

/// The servers of a platform.
#[derive(Clone)]
pub struct Servers {
    folder: Folder,
    inner: Arc<Mutex<Inner>>,
}

impl Servers {
    /// An empty set of servers, recorded in `folder`.
    pub fn new(folder: Folder) -> Self {
        let inner = Inner {
            specs: BTreeMap::new(),
            lives: BTreeMap::new(),
            past: BTreeMap::new(),
            held: Vec::new(),
            restarts: Vec::new(),
            deaths: Vec::new(),
        };
        Self { folder, inner: Arc::new(Mutex::new(inner)) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a server for the first time.
    ///
    /// # Errors
    /// If its process or its log cannot be created.
    pub fn start(&self, program: Program, spec: Spec) -> io::Result<()> {
        self.lock().specs.insert(program, spec);
        self.spawn(program)
    }

    /// Takes over a server that an earlier harness started.
    pub fn adopt(&self, program: Program, spec: Spec, id: ProcessId) {
        let mut inner = self.lock();
        inner.specs.insert(program, spec);
        inner.lives.insert(program, Life { child: None, id });
    }

    fn spawn(&self, program: Program) -> io::Result<()> {
        let mut inner = self.lock();
        let Some(spec) = inner.specs.get(&program) else {
            return Err(io::Error::other(format!("{} was never started", program.file())));
        };
        let log = OpenOptions::new().append(true).create(true).mode(0o600).open(&spec.log)?;
        let mut command = Command::new(&spec.path);
        command.args(&spec.args).env_clear().stdin(Stdio::null());
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command.envs(spec.env.iter().map(|(name, value)| (name, value)));
        command.stdout(log.try_clone()?).stderr(log);
        // A process group of its own: Ctrl-C reaches the harness only, which then stops the server.
        command.process_group(0).current_dir("/");
        if let Some((user, group)) = spec.user {
            command.uid(user).gid(group);
        }
        let child = command.spawn()?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        let id = ProcessId::of(pid).ok_or_else(|| {
            io::Error::other(format!(
                "{} ended at once; see {}",
                program.file(),
                spec.log.display()
            ))
        })?;
        tracing::info!(program = program.file(), pid, "started");
        inner.lives.insert(program, Life { child: Some(child), id });
        inner.held.retain(|held| *held != program);
        self.write_record(&inner)
    }

    /// Records the PIDs on disk, so that `alertstorm clean` can stop them if the harness is killed.
    fn write_record(&self, inner: &Inner) -> io::Result<()> {
        let mut record = self.folder.record()?;
        record.servers = inner.lives.iter().map(|(program, life)| (*program, life.id)).collect();
        self.folder.write_record(&record)
    }

    /// Kills a server (SIGKILL) and keeps it down until [`Self::release`].
    pub fn kill(&self, program: Program) {
        tracing::info!(program = program.file(), "killing, and holding it down");
        let mut inner = self.lock();
        inner.held.push(program);
        inner.end(program, Signal::KILL, Duration::from_secs(10));
    }

    /// Starts a server again after [`Self::kill`].
    ///
    /// # Errors
    /// If its process cannot be created.
    pub fn release(&self, program: Program) -> io::Result<()> {
        self.spawn(program)
    }

    /// Stops all servers, clients before the servers that they use, so that none waits for another.
    pub fn stop(&self) {
        let mut inner = self.lock();
        inner.held = Program::ALL.to_vec();
        // Their data is deleted with the folder, so SIGKILL does no harm. PostgreSQL alone gets
        // SIGINT, on which it frees its shared memory.
        for program in [Program::ControllerManager, Program::Scheduler, Program::Vault] {
            inner.end(program, Signal::KILL, Duration::from_secs(10));
        }
        for program in [Program::ApiServer, Program::Etcd] {
            inner.end(program, Signal::KILL, Duration::from_secs(10));
        }
        inner.end(Program::Postgres, Signal::INT, Duration::from_secs(5));
        inner.end(Program::Postgres, Signal::KILL, Duration::from_secs(5));
    }

    /// Whether a server is running.
    pub fn is_alive(&self, program: Program) -> bool {
        self.lock().lives.get(&program).is_some_and(|life| life.id.is_alive())
    }

    /// Processor time and memory of each server.
    pub fn usage(&self) -> BTreeMap<Program, Usage> {
        let inner = self.lock();
        let of = |program: &Program| {
            let past = inner.past.get(program).copied().unwrap_or_default();
            let now = inner.lives.get(program).and_then(|life| usage(life.id)).unwrap_or_default();
            Usage { cpu: past + now.cpu, resident: now.resident }
        };
        inner.specs.keys().map(|program| (*program, of(program))).collect()
    }

    /// The servers that died since the last call.
    pub fn take_deaths(&self) -> Vec<Death> {
        std::mem::take(&mut self.lock().deaths)
    }

    /// How often a server died since the last [`Self::take_deaths`].
    pub fn deaths_of(&self, program: Program) -> usize {
        self.lock().deaths.iter().filter(|death| death.program == program).count()
    }

    /// Restarts servers that died. Runs until its task is aborted.
    pub async fn supervise(self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            for program in self.due() {
                if let Err(error) = self.spawn(program) {
                    tracing::warn!(program = program.file(), %error, "could not be started again");
                    self.lock().restarts.push((Instant::now() + RESTART_AFTER, program));
                }
            }
        }
    }

    /// Records deaths; the servers whose restart is due.
    fn due(&self) -> Vec<Program> {
        let now = Instant::now();
        let mut inner = self.lock();
        let dead: Vec<Program> = inner
            .lives
            .iter_mut()
            .filter_map(|(program, life)| life.has_ended().then_some(*program))
            .collect();
        for program in dead {
            inner.bury(program);
            if !inner.held.contains(&program) {
                tracing::warn!(program = program.file(), "died, and is started again");
                inner.deaths.push(Death { program, at: now });
                inner.restarts.push((now + RESTART_AFTER, program));
            }
        }
        let (due, later) =
            std::mem::take(&mut inner.restarts).into_iter().partition(|r| r.0 <= now);
        inner.restarts = later;
        let due: Vec<(Instant, Program)> = due;
        due.into_iter().map(|(_, program)| program).collect()
    }
}

impl std::fmt::Debug for Servers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Servers").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Life {
    fn has_ended(&mut self) -> bool {
        match &mut self.child {
            Some(child) => !matches!(child.try_wait(), Ok(None)),
            None => !self.id.is_alive(),
        }
    }
}

impl Inner {
    fn end(&mut self, program: Program, signal: Signal, at_most: Duration) {
        let Some(life) = self.lives.get_mut(&program) else {
            return;
        };
        let last = usage(life.id).unwrap_or_default();
        life.id.signal(signal);
        let until = Instant::now() + at_most;
        while !life.has_ended() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        if life.has_ended() {
            *self.past.entry(program).or_default() += last.cpu;
            self.lives.remove(&program);
        }
    }

    fn bury(&mut self, program: Program) {
        // Its processor time is lost: it can no longer be read, and deaths are rare.
        self.lives.remove(&program);
    }
}

/// Usage of a process and its children. PostgreSQL has a process for each connection.
fn usage(id: ProcessId) -> Option<Usage> {
    let stat = Process::new(id.pid).ok()?.stat().ok()?;
    let tick = procfs::ticks_per_second();
    let mut ticks = stat.utime + stat.stime;
    // Of children that have ended.
    ticks += u64::try_from(stat.cutime + stat.cstime).unwrap_or(0);
    let mut pages = stat.rss;
    let tasks = Process::new(id.pid).ok()?.task_main_thread().ok()?;
    let children = tasks.children().unwrap_or_default();
    for child in children {
        let process = i32::try_from(child).ok().and_then(|pid| Process::new(pid).ok());
        if let Some(stat) = process.and_then(|process| process.stat().ok()) {
            ticks += stat.utime + stat.stime;
            pages += stat.rss;
        }
    }
    let cpu = Duration::from_micros(ticks * 1_000_000 / tick);
    Some(Usage { cpu, resident: pages * procfs::page_size() })
}
