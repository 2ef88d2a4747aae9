//! The servers as processes: started in groups of their own, watched, restarted when they die, and
//! stopped by the numbers that were written down.

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

/// How often it is looked whether a server has died.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A server that died is started again after this.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// How a server is started.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Its file.
    pub path: PathBuf,
    /// Its arguments; they hold no secret, as any user of the machine may read them.
    pub args: Vec<String>,
    /// Its environment, besides PATH.
    pub env: Vec<(&'static str, String)>,
    /// The user and group it runs as, where not ours.
    pub user: Option<(u32, u32)>,
    /// Where its output goes.
    pub log: PathBuf,
}

/// A server that ended without being asked to.
#[derive(Clone, Debug)]
pub struct Death {
    /// Which.
    pub program: Program,
    /// When it was seen.
    pub at: Instant,
}

struct Life {
    child: Option<Child>,
    id: ProcessId,
}

struct Inner {
    specs: BTreeMap<Program, Spec>,
    lives: BTreeMap<Program, Life>,
    /// Processor time of lives that are over.
    past: BTreeMap<Program, Duration>,
    /// Servers that are down on purpose.
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
    /// No servers yet.
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
    /// Where its process or its log cannot be made.
    pub fn start(&self, program: Program, spec: Spec) -> io::Result<()> {
        self.lock().specs.insert(program, spec);
        self.spawn(program)
    }

    /// Takes over a server that another process started.
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
        // A group of its own: Ctrl-C on the terminal is for the harness, which then stops it.
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
        inner.lives.insert(program, Life { child: Some(child), id });
        inner.held.retain(|held| *held != program);
        self.write_down(&inner)
    }

    /// The numbers must be on disk as soon as there are processes.
    fn write_down(&self, inner: &Inner) -> io::Result<()> {
        let mut record = self.folder.record()?;
        record.servers = inner.lives.iter().map(|(program, life)| (*program, life.id)).collect();
        self.folder.write_record(&record)
    }

    /// Ends a server at once (SIGKILL) and holds it down until [`Self::release`].
    pub fn kill(&self, program: Program) {
        let mut inner = self.lock();
        inner.held.push(program);
        inner.end(program, Signal::KILL, Duration::from_secs(10));
    }

    /// Starts a server again that was held down.
    ///
    /// # Errors
    /// Where its process cannot be made.
    pub fn release(&self, program: Program) -> io::Result<()> {
        self.spawn(program)
    }

    /// Stops all servers: those that write first, so that none waits for another.
    pub fn stop(&self) {
        let mut inner = self.lock();
        inner.held = Program::ALL.to_vec();
        // Nothing of what they store outlives the folder, so nobody waits for a tidy end but for
        // PostgreSQL, whose shared memory its own end gives back.
        for program in [Program::ControllerManager, Program::Scheduler, Program::Vault] {
            inner.end(program, Signal::KILL, Duration::from_secs(10));
        }
        for program in [Program::ApiServer, Program::Etcd] {
            inner.end(program, Signal::KILL, Duration::from_secs(10));
        }
        inner.end(Program::Postgres, Signal::INT, Duration::from_secs(5));
        inner.end(Program::Postgres, Signal::KILL, Duration::from_secs(5));
    }

    /// Whether a server runs.
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

    /// The servers that died since the last look.
    pub fn take_deaths(&self) -> Vec<Death> {
        std::mem::take(&mut self.lock().deaths)
    }

    /// How often a server died that nobody has asked about yet.
    pub fn deaths_of(&self, program: Program) -> usize {
        self.lock().deaths.iter().filter(|death| death.program == program).count()
    }

    /// Looks for servers that died, and starts them again; goes on until it is aborted.
    pub async fn supervise(self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            for program in self.due() {
                if self.spawn(program).is_err() {
                    self.lock().restarts.push((Instant::now() + RESTART_AFTER, program));
                }
            }
        }
    }

    /// Notes who died, and says who is to be started again now.
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
        // What it used since the last look is lost; a death is rare.
        self.lives.remove(&program);
    }
}

/// What a process and its children use: PostgreSQL is a process for each connection.
fn usage(id: ProcessId) -> Option<Usage> {
    let stat = Process::new(id.pid).ok()?.stat().ok()?;
    let tick = procfs::ticks_per_second();
    let mut ticks = stat.utime + stat.stime;
    // Children that ended and were waited for.
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
