//! A run whose event log can no longer be written.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::killed::{Place, alive};

/// The bytes that may still be written to each file: less than the events of one investigation.
const REST: u64 = 1_024;

/// Whoever may not mount a small disk can limit the size of files instead: the write fails in the same
/// way. Only the harness is limited, after it has started its servers.
#[test]
#[ignore = "needs the servers of `alertstorm setup local`"]
fn a_run_whose_disk_is_full_ends_by_itself_is_invalid_can_be_reported_and_leaves_nothing() {
    let place = Place::new();
    let program = env!("CARGO_BIN_EXE_alertstorm");
    // The signal of the limit would kill the harness, where a full disk sends none.
    let child = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", program])
        .args(["run", "killed.yaml", "--on", "local", "-o", "runs"])
        .current_dir(place.path())
        .env("ALERTSTORM_STATE", place.path().join("state"))
        // Pipes have no size.
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("alertstorm");
    place.wait_until_busy();
    let servers = place.servers();
    assert_eq!(servers.len(), 6, "{servers:?}");
    let folder = place.run_folder();
    let written = fs::metadata(folder.join("events.jsonl")).expect("the log").len();
    let limited = Command::new("prlimit")
        .args(["--pid", &child.id().to_string(), &format!("--fsize={}", written + REST)])
        .status();
    assert!(limited.expect("prlimit").success());

    let done = child.wait_with_output().expect("an end");
    let printed = [done.stdout, done.stderr].concat();
    let printed = String::from_utf8_lossy(&printed);
    assert_eq!(done.status.code(), Some(4), "{printed}");
    let why = "the event log could not be written, and later events are missing";
    assert!(printed.contains(why), "{printed}");
    let left: Vec<&String> = servers.iter().filter(|pid| alive(pid)).collect();
    assert!(left.is_empty(), "{left:?}");
    let folders = fs::read_dir(place.path().join("state/local")).expect("the state");
    assert_eq!(folders.count(), 0);

    // There is space again. What was written is reported: as invalid, or as cut off.
    let args = ["report", folder.to_str().expect("UTF-8")];
    let again = place.alertstorm(&args).status().expect("alertstorm");
    assert!(matches!(again.code(), Some(4 | 5)), "{again:?}");
    let text = fs::read_to_string(folder.join("report.json")).expect("a report");
    let report: Value = serde_json::from_str(&text).expect("JSON");
    let accounting = &report["accounting"];
    let count = |name: &str| accounting[name].as_u64().expect("a count");
    let ends = ["deduplicated", "shed", "finished", "unfinished"];
    assert_eq!(count("alerts"), ends.into_iter().map(count).sum::<u64>(), "{accounting}");
    assert!(count("alerts") > 0, "{accounting}");
}
