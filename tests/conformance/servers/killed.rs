//! What remains of a run when its harness is interrupted or killed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use alertstorm_platform::connection::Lanes;
use alertstorm_platform::objects;
use serde_json::Value;

use crate::common::root;

/// Long enough for every wait here, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// Alerts over half a minute, for agents that work for some seconds.
const SCENARIO: &str = "name: killed\nalerts:\n  - {flood: 30, over: 30s, mix: {database: 1}}\n\
    agents: patient.yaml\ncluster: {nodes: 2}\n\
    vault: {secrets: {database: {engine: postgresql, ttl: 30s}}}\n";

pub(super) struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        // If we are root, PostgreSQL runs as another user, who needs access to the folder.
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.path(), open).expect("permissions");
        let profile = root().join("tests/conformance/profiles/patient.yaml");
        fs::copy(profile, folder.path().join("patient.yaml")).expect("the profile");
        fs::write(folder.path().join("killed.yaml"), SCENARIO).expect("the scenario");
        Self { folder }
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn alertstorm(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_alertstorm"));
        command
            .args(args)
            .current_dir(self.path())
            .env("ALERTSTORM_STATE", self.path().join("state"));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn begin(&self) -> Child {
        let args = ["run", "killed.yaml", "--on", "local", "-o", "runs"];
        self.alertstorm(&args).spawn().expect("alertstorm")
    }

    pub(super) fn run_folder(&self) -> PathBuf {
        self.path().join("runs/killed-1-1")
    }

    /// Waits until an agent has its credentials.
    pub(super) fn wait_until_busy(&self) {
        let until = Instant::now() + PATIENCE;
        let events = self.run_folder().join("events.jsonl");
        while !fs::read_to_string(&events).unwrap_or_default().contains("credentials_ready") {
            assert!(Instant::now() < until, "nothing happened");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Process ids of the servers recorded in the state folder.
    pub(super) fn servers(&self) -> Vec<String> {
        let folders = fs::read_dir(self.path().join("state/local")).into_iter().flatten();
        let mut pids = Vec::new();
        for folder in folders.flatten() {
            let text = fs::read_to_string(folder.path().join("platform.json")).unwrap_or_default();
            let record: Value = serde_json::from_str(&text).unwrap_or_default();
            let servers = record["servers"].as_array().cloned().unwrap_or_default();
            pids.extend(servers.iter().map(|server| server[1]["pid"].to_string()));
        }
        pids
    }
}

pub(super) fn alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

fn send(child: &Child, signal: &str) {
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status();
    assert!(sent.expect("kill").success());
}

fn report(place: &Place) -> Value {
    let text = fs::read_to_string(place.run_folder().join("report.json")).expect("a report");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
#[ignore = "needs the servers of `alertstorm setup local`"]
fn ctrl_c_ends_a_live_run_with_a_report_and_leaves_nothing_behind() {
    let place = Place::new();
    let mut child = place.begin();
    place.wait_until_busy();
    let servers = place.servers();
    assert_eq!(servers.len(), 6, "{servers:?}");
    send(&child, "-INT");
    assert_eq!(child.wait().expect("an end").code(), Some(5));
    let report = report(&place);
    assert_eq!(report["interrupted"], true);
    assert_eq!(report["world"], "live");
    let left: Vec<&String> = servers.iter().filter(|pid| alive(pid)).collect();
    assert!(left.is_empty(), "{left:?}");
    let folders = fs::read_dir(place.path().join("state/local")).expect("the state");
    assert_eq!(folders.count(), 0);
}

#[test]
#[ignore = "needs the servers of `alertstorm setup local`"]
fn a_killed_run_can_be_reported_and_the_next_run_cleans_up_after_it() {
    let place = Place::new();
    let mut child = place.begin();
    place.wait_until_busy();
    send(&child, "-KILL");
    child.wait().expect("an end");
    let servers = place.servers();
    assert!(servers.iter().all(|pid| alive(pid)), "they outlive their harness: {servers:?}");
    let folder = place.run_folder();
    let folder = folder.to_str().expect("UTF-8");
    let reported = place.alertstorm(&["report", folder]).status().expect("alertstorm");
    assert_eq!(reported.code(), Some(5));
    let report = report(&place);
    let accounting = &report["accounting"];
    let sum = ["deduplicated", "shed", "finished", "unfinished"]
        .iter()
        .map(|part| accounting[part].as_u64().expect("a count"))
        .sum::<u64>();
    assert_eq!(accounting["alerts"].as_u64(), Some(sum));
    assert_eq!((&report["interrupted"], &report["world"]), (&true.into(), &"live".into()));
    let args = ["run", "killed.yaml", "--on", "local", "--set", "alerts.0.flood=1"];
    let next = place.alertstorm(&args).status().expect("alertstorm");
    assert_eq!(next.code(), Some(0));
    let left: Vec<&String> = servers.iter().filter(|pid| alive(pid)).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
#[ignore = "needs the servers of `alertstorm setup local`"]
fn an_unknown_server_flag_is_an_error_before_anything_starts() {
    let place = Place::new();
    let set = "cluster.control_plane.apiserver.flags={profilng: false}";
    let args = ["run", "killed.yaml", "--on", "local", "--set", set];
    let done = place.alertstorm(&args).stderr(Stdio::piped()).output().expect("alertstorm");
    assert_eq!(done.status.code(), Some(2));
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(errors.contains("kube-apiserver has no flag --profilng"), "{errors}");
    assert!(errors.contains("did you mean `profiling`?"), "{errors}");
    assert!(!place.path().join("runs").exists() && !place.path().join("state").exists());
}

/// Ends the platform that is kept, also where the test fails.
pub struct Kept<'a>(pub &'a Place);

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        let ended = self.0.alertstorm(&["down"]).status();
        if !std::thread::panicking() {
            assert!(ended.expect("alertstorm").success());
        }
    }
}

impl Kept<'_> {
    /// The folder and the record of the platform.
    fn record(&self) -> (PathBuf, Value) {
        let mut folders = fs::read_dir(self.0.path().join("state/local")).expect("the state");
        let folder = folders.next().expect("a platform").expect("a folder").path();
        let text = fs::read_to_string(folder.join("platform.json")).expect("the record");
        (folder, serde_json::from_str(&text).expect("JSON"))
    }

    /// The names of the namespaces of runs.
    fn namespaces(&self) -> Vec<String> {
        let (folder, _) = self.record();
        let text = fs::read_to_string(folder.join("private/admin.kubeconfig")).expect("a file");
        let config: Value = serde_json::from_str(&text).expect("JSON");
        let field = |value: &Value| value.as_str().expect("a text").to_owned();
        let cluster = &config["clusters"][0]["cluster"];
        let ca = fs::read_to_string(field(&cluster["certificate-authority"])).expect("the CA");
        let token = field(&config["users"][0]["user"]["token"]);
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let list = runtime.block_on(async {
            let tls = alertstorm_agent::trust::only(&ca).expect("a CA");
            let lanes = Lanes::new("test", &field(&cluster["server"]), &tls, 1);
            let lanes = lanes.expect("an address");
            let client = lanes.client("test", &token, "default").expect("a client");
            objects::get(&client, "/api/v1/namespaces?labelSelector=alertstorm.dev/run").await
        });
        let list = list.expect("an answer").expect("a list");
        let items = list["items"].as_array().expect("items").iter();
        items.map(|item| field(&item["metadata"]["name"])).collect()
    }
}

#[test]
#[ignore = "needs the servers of `alertstorm setup local`"]
fn one_run_at_a_time_uses_a_kept_platform_and_the_next_removes_what_a_killed_one_left() {
    let place = Place::new();
    let up = place.alertstorm(&["up", "killed.yaml"]).status().expect("alertstorm");
    assert_eq!(up.code(), Some(0));
    let kept = Kept(&place);
    assert_eq!(kept.namespaces(), Vec::<String>::new());
    let mut first = place.begin();
    place.wait_until_busy();
    let (_, record) = kept.record();
    let id = record["run"]["id"].as_str().expect("the run's id").to_owned();
    assert_eq!(kept.namespaces(), [format!("alertstorm-{id}")]);
    let args = ["run", "killed.yaml", "--on", "local", "--set", "alerts.0.flood=1", "-o", "next"];
    let second = place.alertstorm(&args).stderr(Stdio::piped()).output().expect("alertstorm");
    assert_eq!(second.status.code(), Some(3));
    let errors = String::from_utf8_lossy(&second.stderr);
    assert!(errors.contains("the kept platform is in use"), "{errors}");
    send(&first, "-KILL");
    first.wait().expect("an end");
    assert_eq!(kept.namespaces(), [format!("alertstorm-{id}")], "it outlives its harness");
    let next = place.alertstorm(&args).stderr(Stdio::piped()).output().expect("alertstorm");
    assert_eq!(next.status.code(), Some(0), "{}", String::from_utf8_lossy(&next.stderr));
    assert_eq!(kept.namespaces(), Vec::<String>::new());
    assert_eq!(kept.record().1["run"], Value::Null);
}
