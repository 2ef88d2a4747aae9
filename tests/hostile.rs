//! Scenarios and run folders that somebody else wrote: they reach no file outside their folder, write
//! through no link, and print nothing that a terminal or a workflow interprets.

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use common::root;

const SECRET: &str = "s3cret-t0ken";

fn alertstorm(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_alertstorm"));
    command.current_dir(root()).env("ALERTSTORM_TEST_SECRET", SECRET).args(args);
    command
}

fn done(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("the program runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (status.code(), text(stdout), text(stderr))
}

/// A folder with a run of `scenarios/least.yaml`, and the run's own folder.
fn a_run() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().display().to_string();
    let ran = done(&mut alertstorm(&["run", "scenarios/least.yaml", "--no-advice", "-o", &path]));
    assert_eq!(ran.0, Some(0), "{}", ran.2);
    let mut runs = fs::read_dir(folder.path()).expect("runs");
    let run = runs.next().expect("a run").expect("an entry").path();
    (folder, run)
}

fn assert_refused(what: &str, (code, out, errors): (Option<i32>, String, String)) {
    assert_eq!(code, Some(2), "{what}: {out}{errors}");
    assert!(!(out + &errors).contains(SECRET), "{what} prints a secret");
    assert!(errors.len() < 4_000, "{what}: {errors}");
}

#[test]
fn a_scenario_names_no_file_outside_its_folder_and_prints_none() {
    let outer = tempfile::tempdir().expect("a folder");
    let inside = outer.path().join("inside");
    fs::create_dir(&inside).expect("created");
    let secret = outer.path().join("secret");
    fs::write(&secret, SECRET).expect("written");
    fs::write(inside.join(".env"), SECRET).expect("written");
    symlink(&secret, inside.join("linked.yaml")).expect("linked");
    symlink("/proc/self", inside.join("self")).expect("linked");
    let pipe = inside.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().is_ok_and(|made| made.success()));
    let absolute = secret.display().to_string();
    for name in [
        "/proc/self/environ",
        "self/environ",
        "../secret",
        &absolute,
        "linked.yaml",
        ".env",
        "/dev/zero",
        "pipe",
    ] {
        for scenario in [
            format!("alerts: [{{flood: 1}}]\nagents: {name}\n"),
            format!("alerts: [{{flood: 1}}]\nagents: {{traces: {name}}}\n"),
            format!("alerts: [{{replay: {name}}}]\n"),
        ] {
            let path = inside.join("scenario.yaml");
            fs::write(&path, &scenario).expect("written");
            let path = path.display().to_string();
            assert_refused(&scenario, done(&mut alertstorm(&["check", &path])));
        }
    }
}

#[test]
fn a_run_folder_of_others_reads_no_file_outside_and_writes_through_no_link() {
    let victim = tempfile::tempdir().expect("a folder");
    let bashrc = victim.path().join("bashrc");
    fs::write(&bashrc, "before").expect("written");
    for name in ["scenario.yaml", "events.jsonl", "report.json"] {
        let (_folder, run) = a_run();
        fs::remove_file(run.join(name)).expect("removed");
        symlink("/proc/self/environ", run.join(name)).expect("linked");
        let path = run.display().to_string();
        assert_refused(name, done(&mut alertstorm(&["report", &path])));
        // Without a scenario it names no knobs that differ, and still compares.
        if name != "scenario.yaml" {
            assert_refused(name, done(&mut alertstorm(&["compare", &path, &path])));
        }
    }
    for name in ["report.html", "report.json.partial", "report.html.partial"] {
        let (_folder, run) = a_run();
        let _ = fs::remove_file(run.join(name));
        symlink(&bashrc, run.join(name)).expect("linked");
        let (code, ..) = done(&mut alertstorm(&["report", &run.display().to_string()]));
        let expected = if name == "report.html" { 3 } else { 0 };
        assert_eq!(code, Some(expected), "{name}");
        assert_eq!(fs::read_to_string(&bashrc).expect("read"), "before", "{name}");
    }
    let (_folder, run) = a_run();
    symlink("/proc/self/environ", run.join("reviews.jsonl")).expect("linked");
    let policy = fs::read_to_string(root().join("scenarios/promotion/read-only-assist.yaml"));
    let policy = policy.expect("a policy").replace("twin_counts: false", "twin_counts: true");
    let path = victim.path().join("policy.yaml");
    fs::write(&path, policy).expect("written");
    let (policy, path) = (path.display().to_string(), run.display().to_string());
    let judged = done(&mut alertstorm(&["promote", "--policy", &policy, "--evidence", &path]));
    assert!(judged.2.contains("the reviews could not be read"), "{}", judged.2);
    assert_refused("reviews", judged);
}

#[test]
fn neither_a_question_nor_a_remark_prints_a_command_or_an_escape_sequence() {
    let folder = tempfile::tempdir().expect("a folder");
    let scenario = folder.path().join("night.yaml");
    let question = r#""\n::error::from the question\n\e[2J\e]0;title\a##[add-mask]x \u202e\x9b2J""#;
    fs::write(&scenario, format!("question: {question}\nalerts: [{{flood: 1}}]\n"))
        .expect("written");
    let runs = folder.path().join("runs").display().to_string();
    let scenario = scenario.display().to_string();
    let clean = |what: &str, (code, out, errors): (Option<i32>, String, String)| {
        assert!(matches!(code, Some(0 | 1)), "{what}: {errors}");
        for line in out.lines().chain(errors.lines()) {
            assert!(!line.trim_start().starts_with("::"), "{what}: {line}");
            assert!(!line.contains("##["), "{what}: {line}");
            assert!(!line.contains(|c: char| c.is_control() && c != '\t'), "{what}: {line:?}");
            assert!(!line.contains('\u{202e}'), "{what}: {line:?}");
        }
        out
    };
    clean("run", done(&mut alertstorm(&["run", &scenario, "-o", &runs])));
    let json = clean("--json", done(&mut alertstorm(&["run", &scenario, "--json", "-o", &runs])));
    serde_json::from_str::<serde_json::Value>(&json).expect("JSON");
    clean("check", done(&mut alertstorm(&["check", &scenario])));

    let run = fs::read_dir(&runs).expect("runs").next().expect("one").expect("an entry").path();
    let log = fs::read_to_string(run.join("events.jsonl")).expect("the log");
    let remark = r#"{"t_ns":0,"fact":"remark","text":"x\n::error::from a remark\u001b[2J"}"#;
    fs::write(run.join("events.jsonl"), format!("{remark}\n{log}")).expect("written");
    fs::remove_file(run.join("report.json")).expect("removed");
    let out = clean("report", done(&mut alertstorm(&["report", &run.display().to_string()])));
    assert!(out.contains("from a remark"), "{out}");
}

#[test]
fn three_thousand_wrong_lines_print_the_first_ones_and_the_number_of_the_others() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("traces.jsonl"), "{wrong}\n".repeat(3_000)).expect("written");
    let scenario = folder.path().join("night.yaml");
    fs::write(&scenario, "alerts: [{flood: 1}]\nagents: {traces: traces.jsonl}\n")
        .expect("written");
    let (code, _, errors) = done(&mut alertstorm(&["check", &scenario.display().to_string()]));
    assert_eq!(code, Some(2));
    assert!(errors.lines().count() < 200, "{} lines", errors.lines().count());
    assert!(errors.contains("more\n"), "{errors}");
}

#[test]
fn a_full_output_is_an_error_and_no_panic() {
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let mut command = alertstorm(&["check", "scenarios/least.yaml"]);
    let (code, _, errors) = done(command.stdout(full()).stderr(Stdio::piped()));
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("could not write to standard output"), "{errors}");
    assert!(!errors.contains("panicked"), "{errors}");
    let mut command = alertstorm(&["check", "scenarios/none.yaml"]);
    assert_eq!(command.stderr(full()).status().expect("runs").code(), Some(2));
}

#[test]
fn a_cut_log_does_not_replace_the_report_of_the_complete_one() {
    let (_folder, run) = a_run();
    let before = fs::read(run.join("report.json")).expect("report.json");
    let log = fs::read(run.join("events.jsonl")).expect("the log");
    fs::write(run.join("events.jsonl"), &log[..log.len() / 2]).expect("written");
    let (code, _, errors) = done(&mut alertstorm(&["report", &run.display().to_string()]));
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.contains("report.json was made from a complete one"), "{errors}");
    assert_eq!(fs::read(run.join("report.json")).expect("report.json"), before);
}
