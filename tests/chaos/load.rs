//! A load that is larger than the other tests' on real servers: 1,000 Jobs.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::outcome;

const JOBS: u64 = 1_000;

#[test]
#[ignore = "needs the servers of `alertstorm setup local`"]
fn load_of_1000_jobs_on_local_servers_is_accounted_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let scenario = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/tuned-1000.yaml");
    let state = folder.path().join("state");
    let done = Command::new(env!("CARGO_BIN_EXE_alertstorm"))
        .args(["run", &scenario.display().to_string(), "--on", "local", "-o", "runs"])
        .current_dir(folder.path())
        .env("ALERTSTORM_STATE", &state)
        .stdin(Stdio::null())
        .output()
        .expect("alertstorm");
    let printed = String::from_utf8_lossy(&done.stderr);
    let report = outcome::report(&folder.path().join("runs/tuned-1000-1000-1"));
    let report = report.unwrap_or_else(|| panic!("{printed}"));
    // A slow harness is due to the shared machine.
    assert_eq!(outcome::invalid(&report), Vec::<String>::new(), "{printed}");
    assert!(matches!(done.status.code(), Some(0 | 4)), "{:?}: {printed}", done.status);
    assert_eq!(outcome::unbalanced(&report), Vec::<String>::new());
    let accounting = &report["accounting"];
    assert_eq!((&accounting["alerts"], &accounting["finished"]), (&JOBS.into(), &JOBS.into()));
    let left = fs::read_dir(state.join("local")).expect("the state").count();
    assert_eq!(left, 0);
}
