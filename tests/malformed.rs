//! Malformed scenarios: every error is reported with its line, its column and a remedy. The exit code is
//! 2, and nothing is written.

use std::path::PathBuf;
use std::process::Command;

#[test]
fn every_malformed_scenario_is_explained_and_writes_nothing() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/malformed");
    let mut scenarios: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("the folder of malformed scenarios")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .collect();
    scenarios.sort();
    assert!(scenarios.len() >= 30, "{} scenarios", scenarios.len());
    for path in scenarios {
        let file = path.file_name().and_then(|name| name.to_str()).expect("a name");
        let output = tempfile::tempdir().expect("a folder for the run");
        let runs = output.path().join("runs");
        let done = Command::new(env!("CARGO_BIN_EXE_alertstorm"))
            .current_dir(&folder)
            .args(["run", file, "-o"])
            .arg(&runs)
            .output()
            .expect("the program runs");
        let errors = String::from_utf8(done.stderr).expect("UTF-8");
        assert_eq!(done.status.code(), Some(2), "{file}\n{errors}");
        assert!(done.stdout.is_empty(), "{file}");
        assert!(!runs.exists(), "{file} wrote something");
        insta::assert_snapshot!(file.trim_end_matches(".yaml"), errors);
    }
}

#[test]
fn a_wrong_option_names_itself_instead_of_a_line() {
    let output = tempfile::tempdir().expect("a folder for the run");
    let scenario = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/least.yaml");
    let done = Command::new(env!("CARGO_BIN_EXE_alertstorm"))
        .args(["run", scenario, "--set", "controller.concurency=5"])
        .args(["--set", "cluster.nodes=none", "--set", "alerts.3.flood=1", "-o"])
        .arg(output.path())
        .output()
        .expect("the program runs");
    assert_eq!(done.status.code(), Some(2));
    insta::assert_snapshot!("wrong-options", String::from_utf8_lossy(&done.stderr));
}
