//! No file of a run's folder contains a secret of the run.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use alertstorm_platform::provider::local;

use super::killed::{Kept, Place};

/// How secrets begin that are made during a run and are stored nowhere: tokens of ServiceAccounts,
/// tokens of Vault, private keys.
const BEGINNINGS: [&str; 3] = ["eyJhbGciOi", "hvs.", "PRIVATE KEY-----"];

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { all.extend(files(&path)) } else { all.push(path) }
    }
    all
}

#[test]
#[ignore = "needs the servers of `alertstorm setup local`"]
fn no_file_of_a_run_contains_a_secret_of_the_run() {
    let place = Place::new();
    let up = place.alertstorm(&["up", "killed.yaml"]).status().expect("alertstorm");
    assert_eq!(up.code(), Some(0));
    // The secrets of a platform that is kept outlive the run.
    let kept = Kept(&place);
    let faults = "faults=[{fault: vault-restart, at: 6s, for: 2s}]";
    let args = ["-vv", "run", "killed.yaml", "--on", "local", "--set", faults, "-o", "runs"];
    let ran = place
        .alertstorm(&args)
        .env("RUST_LOG", "trace")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .expect("alertstorm");
    let platforms = fs::read_dir(place.path().join("state/local")).expect("the state");
    let platforms = platforms.map(|entry| entry.expect("an entry").path());
    let secrets: Vec<String> = platforms
        .flat_map(|folder| local::secrets_of_kept(&folder).expect("the platform's secrets"))
        .collect();
    assert!(secrets.len() > 10, "{} secrets", secrets.len());
    drop(kept);

    let log = place.run_folder().join("harness.log");
    let mode = log.metadata().expect("harness.log").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut texts = vec![("the output".to_owned(), [ran.stdout, ran.stderr].concat())];
    for path in files(&place.run_folder()) {
        texts.push((path.display().to_string(), fs::read(&path).expect("a file")));
    }
    for name in ["harness.log", "events.jsonl", "report.json", "report.html"] {
        assert!(
            texts.iter().any(|(path, text)| path.ends_with(name) && !text.is_empty()),
            "{name}"
        );
    }
    let wanted = secrets.iter().map(String::as_str).chain(BEGINNINGS);
    for secret in wanted {
        for (name, text) in &texts {
            let text = String::from_utf8_lossy(text);
            // The message does not print the secret itself.
            assert!(!text.contains(secret), "{name} contains a secret");
        }
    }
}
