//! A place for runs: a folder with a scenario, the state of its platforms, and the program.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::case::World;
use crate::cluster;
use crate::proxy::{Mode, Proxy};
use crate::servers::signal;

/// A program that has not ended by then hangs.
pub const PATIENCE: Duration = Duration::from_secs(300);
/// Interval of all polling.
pub const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Six agents that hold credentials of two engines for some seconds.
const SCENARIO: &str = "name: chaos
alerts: [{flood: 6, over: 3s, mix: {database: 1, network: 1}}]
agents: working.yaml
controller: {job: {active_deadline: 40s, ttl_after_finished: 2s}}
slos: [accounting.shed == 0]
cluster:
  nodes: 2
  node: {sandbox_start: 50ms, container_start: 50ms}
  control_plane: {controller_manager: {node_monitor_grace_period: 16s}}
vault: {secrets: {network: {engine: pki, ttl: 15s}, database: {engine: postgresql, ttl: 15s}}}
";
/// In pods: agents fit on two cores, and work until a fault has arrived.
const IN_PODS: [&str; 6] = [
    "controller.job.cpu_request_millis=10",
    "controller.job.memory_request=32Mi",
    "controller.job.memory_limit=1Gi",
    "controller.job.active_deadline=90s",
    // The successor of a shard reads the journals of pods that ended meanwhile.
    "controller.job.ttl_after_finished=20s",
    "vault.secrets.database.ttl=30s",
];
/// The number of alerts.
pub const ALERTS: u64 = 6;
const PROFILE: &str = "network: &all {hypotheses: 2, think: THINK, \
    tools: {llm: {calls: 1, takes: 10ms, tokens: 1000}}, actions: {reads: 1}}\n";
const DOMAINS: [&str; 4] = ["network", "database", "application", "security"];

/// A place for runs. Its platforms are ended with it.
pub struct Place {
    world: World,
    folder: tempfile::TempDir,
    /// None in front of a cluster's API server.
    proxy: Option<Proxy>,
    runs: u32,
    /// Whether the cluster is deleted at the end.
    owns_cluster: bool,
}

impl Place {
    /// An empty place for runs in a world.
    pub fn new(world: World) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        // If we are root, PostgreSQL runs as another user, who needs access to the folder.
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.path(), open).expect("permissions");
        fs::write(folder.path().join("chaos.yaml"), SCENARIO).expect("the scenario");
        let think = if world == World::Kind { "5s" } else { "1500ms" };
        let profile = PROFILE.replace("THINK", think);
        let agent = profile.split_once("&all ").expect("the agent").1;
        let profile: String = DOMAINS.map(|domain| format!("{domain}: {agent}")).concat();
        fs::write(folder.path().join("working.yaml"), profile).expect("the profile");
        let assets = folder.path().join("assets");
        let proxy = (world != World::Kind).then(|| Proxy::start(&assets));
        let owns_cluster = world == World::Kind && !cluster::exists();
        Self { world, folder, proxy, runs: 0, owns_cluster }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The folder of the local platforms.
    pub fn state(&self) -> PathBuf {
        self.path().join("state/local")
    }

    /// The proxy in front of the API server.
    pub fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("a local API server")
    }

    /// The program with some arguments; its standard error goes to a file.
    pub fn start(&mut self, args: &[&str]) -> Program {
        self.runs += 1;
        let stderr = self.path().join(format!("stderr-{}", self.runs));
        let mut command = Command::new(env!("CARGO_BIN_EXE_alertstorm"));
        if self.proxy.is_some() {
            command.env("ALERTSTORM_ASSETS", self.path().join("assets"));
        }
        let child = command
            .args(args)
            .current_dir(self.path())
            .env("ALERTSTORM_STATE", self.path().join("state"))
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

    /// Starts a run with some settings, and in a cluster with so many shards if any; also its folder.
    pub fn run(&mut self, set: &[String], shards: Option<&str>) -> (Program, PathBuf) {
        let output = format!("runs-{}", self.runs);
        let mut args = vec!["run", "chaos.yaml", "-o", &output];
        match self.world {
            World::Own | World::Kept => args.extend(["--on", "local"]),
            World::Kind => {
                args.extend(["--on", "kind", "--kind-name", cluster::NAME, "--keep"]);
                args.extend(IN_PODS.iter().flat_map(|set| ["--set", set]));
                args.extend(shards.iter().flat_map(|count| ["--shards", count]));
            }
        }
        args.extend(set.iter().flat_map(|set| ["--set", set.as_str()]));
        let program = self.start(&args);
        (program, self.path().join(&output).join("chaos-1-1"))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(proxy) = &self.proxy {
            proxy.set(Mode::Pass);
        }
        if self.world == World::Kind {
            if self.owns_cluster {
                cluster::delete();
            }
            return;
        }
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
    /// Sends it a signal; whether it still ran.
    pub fn signal(&mut self, name: &str) -> bool {
        let runs = self.child.try_wait().expect("its state").is_none();
        runs && signal(name, self.child.id())
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
