//! The programs in `examples/` run, and give the same results as the program.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs a program in the repository's root and returns what it prints.
fn output(program: &Path, args: &[&str]) -> String {
    let done = Command::new(program)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(args)
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{}: {errors}", program.display());
    String::from_utf8(done.stdout).expect("UTF-8")
}

/// `cargo test` without a choice of targets builds the examples next to the program; before
/// `--test examples` alone they need `cargo build --examples`.
fn example(name: &str) -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_alertstorm"));
    program.parent().expect("a folder").join("examples").join(name)
}

/// The word after `digest ` in a text.
fn digest(text: &str) -> &str {
    text.split("digest ").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("a digest")
}

#[test]
fn a_log_that_is_folded_again_gives_the_digest_of_its_run() {
    let folder = tempfile::tempdir().expect("a folder for the run");
    let scenario = "scenarios/two-am-flood-small.yaml";
    let done = Command::new(env!("CARGO_BIN_EXE_alertstorm"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["run", scenario, "--no-advice", "-o"])
        .arg(folder.path())
        .output()
        .expect("the program runs");
    // 1: an objective of the scenario is missed.
    assert!(matches!(done.status.code(), Some(0 | 1)), "{done:?}");
    let mut runs = std::fs::read_dir(folder.path()).expect("the folder of the runs");
    let run = runs.next().expect("a run").expect("an entry").path();
    let folded = output(&example("fold_log"), &[run.to_str().expect("UTF-8")]);
    let again = output(&example("run_scenario"), &[scenario]);
    assert_eq!(digest(&folded), digest(&again));
}

#[test]
fn a_knob_is_swept_over_its_values() {
    let swept = output(&example("sweep_knob"), &["controller.concurrency", "5", "40"]);
    let lines: Vec<&str> = swept.lines().collect();
    assert_eq!(lines.len(), 2, "{swept}");
    assert!(lines[0].starts_with("controller.concurrency=5: agent ready p99 Some("), "{swept}");
}
