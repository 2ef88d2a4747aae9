//! A place for runs: a folder with a scenario, the state of its platforms, and the program.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::proxy::{Mode, Proxy};

/// A program that has not ended by then hangs.
pub const PATIENCE: Duration = Duration::from_secs(300);
/// Interval of all polling.
pub const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Six agents that hold credentials of two engines for some seconds.
const SCENARIO: &str = "name: chaos
alerts: [{flood: 6, over: 3s, mix: {database: 1, network: 1}}]
agents: working.yaml
controller: {job: {active_deadline: 40s, ttl_after_finished: 2s}}
cluster:
  nodes: 2
  node: {sandbox_start: 50ms, container_start: 50ms}
  control_plane: {controller_manager: {node_monitor_grace_period: 16s}}
vault: {secrets: {network: {engine: pki, ttl: 15s}, database: {engine: postgresql, ttl: 15s}}}
";
/// The number of alerts.
pub const ALERTS: u64 = 6;
const PROFILE: &str = "network: &all {hypotheses: 2, think: 1500ms, \
    tools: {llm: {calls: 1, takes: 10ms, tokens: 1000}}, actions: {reads: 1}}\n";
const DOMAINS: [&str; 4] = ["network", "database", "application", "security"];

/// A place for runs. Its platforms are ended with it.
pub struct Place {
    folder: tempfile::TempDir,
    proxy: Proxy,
    runs: u32,
}

impl Place {
    /// An empty place.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        // If we are root, PostgreSQL runs as another user, who needs access to the folder.
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.path(), open).expect("permissions");
        fs::write(folder.path().join("chaos.yaml"), SCENARIO).expect("the scenario");
        let agent = PROFILE.split_once("&all ").expect("the agent").1;
        let profile: String = DOMAINS.map(|domain| format!("{domain}: {agent}")).concat();
        fs::write(folder.path().join("working.yaml"), profile).expect("the profile");
        let proxy = Proxy::start(&folder.path().join("assets"));
        Self { folder, proxy, runs: 0 }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The folder of the local platforms.
    pub fn state(&self) -> PathBuf {
        self.path().join("state/local")
    }

    /// The proxy in front of the API server.
    pub const fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// The program with some arguments; its standard error goes to a file.
    pub fn start(&mut self, args: &[&str]) -> Program {
        self.runs += 1;
        let stderr = self.path().join(format!("stderr-{}", self.runs));
        let child = Command::new(env!("CARGO_BIN_EXE_alertstorm"))
            .args(args)
            .current_dir(self.path())
            .env("ALERTSTORM_STATE", self.path().join("state"))
            .env("ALERTSTORM_ASSETS", self.path().join("assets"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&stderr).expect("a file"))
            .spawn()
            .expect("alertstorm");
        Program { child, stderr, began: Instant::now() }
    }

    /// Runs the program to its end.
    pub fn alertstorm(&mut self, args: &[&str]) -> Ended {
        self.start(args).end()
    }

    /// Starts a run with some settings; also its folder.
    pub fn run(&mut self, set: &[String]) -> (Program, PathBuf) {
        let output = format!("runs-{}", self.runs);
        let mut args = vec!["run", "chaos.yaml", "--on", "local", "-o", &output];
        args.extend(set.iter().flat_map(|set| ["--set", set.as_str()]));
        let program = self.start(&args);
        (program, self.path().join(&output).join("chaos-1-1"))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.proxy.set(Mode::Pass);
        let ended = self.alertstorm(&["down"]);
        if !std::thread::panicking() {
            assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        }
    }
}

/// The program as a child process. It is killed if it is dropped before its end.
pub struct Program {
    child: Child,
    stderr: PathBuf,
    began: Instant,
}

impl Program {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed on standard error.
    pub fn printed(&self) -> String {
        fs::read_to_string(&self.stderr).expect("standard error")
    }

    /// Waits until something is the case, or the program has ended; whether it is the case.
    pub fn wait_until(&mut self, mut is_so: impl FnMut(&Self) -> bool) -> bool {
        let until = Instant::now() + PATIENCE;
        loop {
            if is_so(self) {
                return true;
            }
            let has_ended = self.child.try_wait().expect("its state").is_some();
            if has_ended || Instant::now() > until {
                return false;
            }
            sleep(LOOK_EVERY);
        }
    }

    /// Waits for its end. One that hangs is killed.
    pub fn end(mut self) -> Ended {
        let ended = self.wait_until(|_| false);
        assert!(!ended);
        let hangs = self.child.try_wait().expect("its state").is_none();
        if hangs {
            self.child.kill().expect("killed");
        }
        let status = self.child.wait().expect("an end");
        Ended { code: status.code(), hangs, stderr: self.printed(), took: self.began.elapsed() }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Fails if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How the program ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Whether it had to be killed, as it did not end.
    pub hangs: bool,
    /// What it printed on standard error.
    pub stderr: String,
    /// From its start to its end.
    pub took: Duration,
}
