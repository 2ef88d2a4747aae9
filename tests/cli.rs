//! The command line, as people and scripts use it.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::root;
use serde_json::Value;

fn alertstorm() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_alertstorm"));
    command.current_dir(root()).env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE");
    command
}

fn run_in(folder: &Path, args: &[&str]) -> Output {
    alertstorm().args(args).arg("-o").arg(folder).output().expect("the program runs")
}

/// The only run in a folder.
fn the_run(folder: &Path) -> PathBuf {
    let mut runs: Vec<_> =
        fs::read_dir(folder).expect("runs").map(|entry| entry.expect("one").path()).collect();
    assert_eq!(runs.len(), 1, "{runs:?}");
    runs.remove(0)
}

fn report_of(run: &Path) -> Value {
    let text = fs::read_to_string(run.join("report.json")).expect("report.json");
    serde_json::from_str(&text).expect("JSON")
}

/// Waits for a condition. How long it takes is never asserted.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(120), "waited for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_readmes_first_run_writes_its_folder_and_a_summary_without_escape_codes() {
    let folder = tempfile::tempdir().expect("a folder");
    let done = run_in(folder.path(), &["run", "scenarios/two-am-flood.yaml"]);
    // The scenario misses an objective on purpose.
    assert_eq!(done.status.code(), Some(1));
    assert!(done.stderr.is_empty(), "{}", String::from_utf8_lossy(&done.stderr));
    let summary = String::from_utf8(done.stdout).expect("UTF-8");
    assert!(!summary.contains('\x1b'), "piped output has no colours");
    let summary = summary.replace(&folder.path().display().to_string(), "runs");
    insta::assert_snapshot!("two-am-flood", summary);
    let run = the_run(folder.path());
    for file in ["scenario.yaml", "events.jsonl", "report.json", "report.html"] {
        assert!(run.join(file).is_file(), "{file}");
    }
    let page = fs::read_to_string(run.join("report.html")).expect("the page");
    for outside in ["src=\"http", "href=\"http", "@import", "url(http"] {
        assert!(!page.contains(outside), "the page loads {outside}");
    }
    assert_eq!(page.matches("<svg").count(), 7, "seven charts");
}

#[test]
fn report_computes_an_earlier_run_again_from_its_log_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    run_in(folder.path(), &["run", "scenarios/replay-night.yaml", "--no-advice"]);
    let run = the_run(folder.path());
    let before = report_of(&run);
    fs::remove_file(run.join("report.json")).expect("removed");
    fs::remove_file(run.join("report.html")).expect("removed");
    let done = alertstorm().arg("report").arg(&run).output().expect("the program runs");
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    let mut after = report_of(&run);
    after["harness"]["wall_s"] = before["harness"]["wall_s"].clone();
    assert_eq!(before, after);
}

/// After SIGKILL the log ends in the middle of a line, and there is no report.
#[test]
fn a_killed_run_is_reported_as_interrupted() {
    let folder = tempfile::tempdir().expect("a folder");
    run_in(folder.path(), &["run", "scenarios/two-am-flood.yaml", "--no-advice"]);
    let run = the_run(folder.path());
    let log = fs::read(run.join("events.jsonl")).expect("the log");
    fs::write(run.join("events.jsonl"), &log[..log.len() / 2 + 7]).expect("written");
    fs::remove_file(run.join("report.json")).expect("removed");
    let done = alertstorm().arg("report").arg(&run).output().expect("the program runs");
    assert_eq!(done.status.code(), Some(5), "{}", String::from_utf8_lossy(&done.stderr));
    let report = report_of(&run);
    assert_eq!(report["interrupted"], true);
    let accounting = &report["accounting"];
    assert!(accounting["unfinished"].as_u64() > Some(0), "{accounting}");
}

#[test]
fn a_file_named_with_a_leading_dot_and_slash_is_copied_into_the_run() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::copy(root().join("scenarios/profiles/brief.yaml"), folder.path().join("brief.yaml"))
        .expect("copied");
    let scenario = folder.path().join("night.yaml");
    fs::write(&scenario, "alerts: [{flood: 1}]\nagents: ./brief.yaml\n").expect("written");
    let runs = folder.path().join("runs");
    let done = run_in(&runs, &["run", &scenario.display().to_string(), "--no-advice"]);
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    let run = the_run(&runs);
    assert!(run.join("inputs/brief.yaml").is_file());
    let again = alertstorm().arg("report").arg(&run).output().expect("the program runs");
    assert_eq!(again.status.code(), Some(0), "{}", String::from_utf8_lossy(&again.stderr));
}

/// A file-size limit stands for a full disk: it needs no rights.
#[test]
fn a_run_whose_event_log_cannot_be_written_is_invalid_and_reports_what_exists() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = "trap '' XFSZ; ulimit -f 2000; exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_alertstorm"), "run"]);
    command.args(["scenarios/two-am-flood.yaml", "-o"]).arg(folder.path());
    let done = command.current_dir(root()).output().expect("the program runs");
    let errors = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(4), "{errors}");
    let summary = String::from_utf8(done.stdout).expect("UTF-8");
    assert!(summary.contains("the event log could not be written"), "{summary}");
    let report = report_of(&the_run(folder.path()));
    assert!(report["invalid"][0].as_str().is_some_and(|why| why.contains("event log")));
}

/// Otherwise minutes of set-up are lost.
#[cfg(feature = "live")]
#[test]
fn an_output_folder_that_cannot_be_written_is_an_error_before_a_platform_is_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    fs::write(&file, "").expect("written");
    let args = ["run", "scenarios/least.yaml", "--on", "local"];
    let done = run_in(&file.join("runs"), &args);
    assert_eq!(done.status.code(), Some(3));
    let errors = String::from_utf8_lossy(&done.stderr);
    assert_eq!(errors.lines().count(), 1, "no step of the platform: {errors}");
    assert!(errors.contains("could not create"), "{errors}");
}

#[test]
fn an_edited_log_and_a_report_of_another_version_are_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    run_in(folder.path(), &["run", "scenarios/least.yaml", "--no-advice"]);
    let run = the_run(folder.path());
    let log = fs::read_to_string(run.join("events.jsonl")).expect("the log");
    let broken = log.replacen("\"fact\":\"stage\"", "\"fact\":\"stag\"", 1);
    fs::write(run.join("events.jsonl"), broken).expect("written");
    let done = alertstorm().arg("report").arg(&run).output().expect("the program runs");
    assert_eq!(done.status.code(), Some(2));
    let errors = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(errors.contains("events.jsonl:") && errors.contains("not an event"), "{errors}");

    fs::remove_file(run.join("events.jsonl")).expect("removed");
    let report = fs::read_to_string(run.join("report.json")).expect("report.json");
    fs::write(run.join("report.json"), report.replace("report/v2", "report/v9")).expect("written");
    let done = alertstorm().arg("report").arg(&run).output().expect("the program runs");
    assert_eq!(done.status.code(), Some(2));
    let errors = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(errors.contains("alertstorm/report/v9"), "{errors}");
}

#[test]
fn ctrl_c_during_a_million_leaves_a_report_of_what_had_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = alertstorm()
        .args(["run", "scenarios/million.yaml", "-o"])
        .arg(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    until("the run's folder", || {
        fs::read_dir(folder.path()).is_ok_and(|mut entries| {
            entries
                .any(|entry| entry.is_ok_and(|entry| entry.path().join("scenario.yaml").is_file()))
        })
    });
    // Until some alerts have been handled.
    std::thread::sleep(Duration::from_millis(1_500));
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.is_ok_and(|status| status.success()));
    let mut status = None;
    until("the program to end", || {
        status = child.try_wait().expect("a status");
        status.is_some()
    });
    assert_eq!(status.and_then(|status| status.code()), Some(5));
    let report = report_of(&the_run(folder.path()));
    assert_eq!(report["interrupted"], true);
    assert_eq!(report["invalid"], serde_json::json!([]));
    let accounting = &report["accounting"];
    assert!(accounting["alerts"].as_u64() > Some(0), "{accounting}");
    assert!(accounting["unfinished"].as_u64() > Some(0), "{accounting}");
}

#[test]
fn check_resolved_prints_a_scenario_with_the_same_plan() {
    let resolved = alertstorm()
        .args(["check", "--resolved", "scenarios/two-am-flood.yaml"])
        .output()
        .expect("the program runs");
    assert_eq!(resolved.status.code(), Some(0));
    let text = String::from_utf8(resolved.stdout).expect("UTF-8");
    let again = common::plan(&text, &[]);
    assert_eq!(again.digest(), common::shipped("two-am-flood.yaml", &[]).digest());
    assert!(text.contains("kube_api_burst: 100"), "defaults are written out\n{text}");
}

#[test]
fn options_reach_the_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let args = [
        "run",
        "scenarios/two-am-flood.yaml",
        "--seed",
        "7",
        "--set",
        "controller.concurrency=300",
        "--json",
    ];
    let done = run_in(folder.path(), &args);
    let report: Value =
        serde_json::from_slice(&done.stdout).expect("JSON alone on standard output");
    assert_eq!(report["seed"], 7);
    assert_eq!(report["schema"], "alertstorm/report/v2");
    let run = the_run(folder.path());
    assert!(run.ends_with("two-am-flood-7-1"), "{run:?}");
    let scenario = fs::read_to_string(run.join("scenario.yaml")).expect("scenario.yaml");
    assert!(scenario.contains("concurrency: 300"), "{scenario}");
}

#[test]
fn a_missing_world_is_exit_code_3_and_an_unknown_one_is_2() {
    let folder = tempfile::tempdir().expect("a folder");
    let done = alertstorm()
        .args(["run", "scenarios/least.yaml", "--on", "cluster", "-o"])
        .arg(folder.path())
        .env_remove("VAULT_ADDR")
        .output()
        .expect("the program runs");
    assert_eq!(done.status.code(), Some(3));
    let errors = String::from_utf8_lossy(&done.stderr);
    let expected = match cfg!(feature = "live") {
        true => "VAULT_ADDR is not set",
        false => "cargo run --release --features live -- run scenarios/least.yaml --on cluster -o ",
    };
    assert!(errors.contains(expected), "{errors}");
    let done = run_in(folder.path(), &["run", "scenarios/least.yaml", "--on", "twins"]);
    assert_eq!(done.status.code(), Some(2));
    let done = run_in(folder.path(), &["run", "scenarios/leest.yaml"]);
    assert_eq!(done.status.code(), Some(2));
}

#[test]
fn kwok_is_refused_with_its_place_where_the_kubelets_are_real() {
    let folder = tempfile::tempdir().expect("a folder");
    let scenario = folder.path().join("night.yaml");
    let text = "alerts: [{flood: 1}]\ncluster:\n  node: {runtime: kwok}\n";
    fs::write(&scenario, text).expect("a scenario");
    let refused = |args: &[&str]| {
        let done = alertstorm().args(args).output().expect("the program runs");
        let errors = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(2), "{args:?}: {errors}");
        assert!(errors.contains("expected `kubelet`"), "{args:?}: {errors}");
        errors
    };
    let night = scenario.to_str().expect("a path");
    for world in ["kind", "cluster"] {
        for args in
            [&["run", night][..], &["capacity", night], &["gate", night, "--against", "HEAD"]]
        {
            let errors = refused(&[args, &["--on", world]].concat());
            assert!(errors.contains("night.yaml:3:19"), "{errors}");
            assert!(errors.contains(&format!("--on {world}")), "{errors}");
        }
    }
    let kwok = "cluster.node.runtime=kwok";
    let errors = refused(&["run", "scenarios/least.yaml", "--set", kwok, "--on", "kind"]);
    assert!(errors.contains(&format!("--set {kwok}")), "{errors}");
}

/// Also those that would search in the twin first, or ask before they delete something.
#[cfg(not(feature = "live"))]
#[test]
fn in_a_build_with_only_the_twin_every_verb_of_real_servers_names_the_command_that_adds_them() {
    for args in [
        &["capacity", "scenarios/two-am-flood.yaml", "--on", "local"][..],
        &["gate", "scenarios/least.yaml", "--against", "HEAD", "--on", "local"],
        &["setup", "local"],
        &["doctor"],
        &["up", "scenarios/least.yaml"],
        &["down"],
        &["clean", "--on", "cluster"],
        &["render", "-o", "manifests"],
        &["shard", "plan"],
    ] {
        let done = alertstorm().args(args).output().expect("the program runs");
        assert_eq!(done.status.code(), Some(3), "{args:?}");
        let errors = String::from_utf8_lossy(&done.stderr);
        let command = format!("cargo run --release --features live -- {}", args.join(" "));
        assert!(errors.contains(&command), "{args:?}: {errors}");
        assert!(errors.contains("cargo build --release --features live"), "{args:?}: {errors}");
    }
}

#[test]
fn impossible_shards_are_refused_before_anything_starts() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = ["run", "scenarios/least.yaml", "--shards", "3"];
    let done = run_in(folder.path(), &run);
    assert_eq!(done.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&done.stderr).contains("--on kind or --on cluster"));
    let few = ["--on", "kind", "--set", "controller.concurrency=2"];
    let done = run_in(folder.path(), &[&run[..], &few].concat());
    assert_eq!(done.status.code(), Some(2));
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(
        said.contains("`controller.concurrency` is 2: too little to divide among 3 shards"),
        "{said}"
    );
}

/// `render` writes what a person commits: every phase, every environment, readable YAML.
#[cfg(feature = "live")]
#[test]
fn render_writes_every_phase_and_environment_for_gitops() {
    let folder = tempfile::tempdir().expect("a folder");
    let written = |args: &[&str]| {
        let done = alertstorm().arg("render").args(args).arg("-o").arg(folder.path()).output();
        done.expect("the program runs").status.code()
    };
    assert_eq!(written(&["--phase", "limited-write", "--env", "nowhere"]), Some(2));
    assert_eq!(written(&["--phase", "limited-wright"]), Some(2));
    assert_eq!(written(&["--phase", "limited-write", "--env", "staging"]), Some(0));
    let place = folder.path().join("limited-write/staging");
    let namespace = fs::read_to_string(place.join("namespace.yaml")).expect("namespace.yaml");
    assert!(namespace.contains("pod-security.kubernetes.io/enforce: restricted"), "{namespace}");
    let policy =
        place.join("vault/policy-alertstorm-staging-limited-write-agent-limited-write-network.hcl");
    let policy = fs::read_to_string(policy).expect("a policy");
    assert!(
        policy.contains("path \"alertstorm-staging-limited-write/systems/network/reversible\""),
        "{policy}"
    );
    assert!(!policy.contains("irreversible"), "{policy}");
    let egress = ["--vault-at", "10.1.0.0/16:8200", "--postgres-at", "10.2.0.9:5432"];
    let staging = ["--phase", "limited-write", "--env", "staging"];
    assert_eq!(written(&[&staging[..], &egress].concat()), Some(0));
    let policy = fs::read_to_string(place.join("networkpolicy.yaml")).expect("a NetworkPolicy");
    assert!(policy.contains("10.1.0.0/16") && policy.contains("10.2.0.9/32"), "{policy}");
    assert!(policy.contains("kube-dns"), "{policy}");
    assert_eq!(
        policy.matches("- ports:").count() + policy.matches("  ports:").count(),
        3,
        "{policy}"
    );
    assert_eq!(written(&["--vault-at", "10.1.0.0/33:8200"]), Some(2));
    let roles = fs::read_to_string(place.join("postgres/1-roles.sql")).expect("the roles");
    assert!(roles.contains("CREATE DATABASE alertstorm_staging_limited_write;"), "{roles}");
    let script = fs::read_to_string(place.join("vault/apply.sh")).expect("the script");
    for applied in
        ["sys/mounts/alertstorm-staging-limited-write/database", "roles/limited-write-own-0"]
    {
        assert!(script.contains(applied), "{applied}: {script}");
    }
    let role = |place: &Path| {
        fs::read_to_string(place.join("roles.yaml")).expect("the roles").contains("rolebindings")
    };
    // With an identity per investigation, the controller creates ServiceAccounts and RoleBindings.
    let per_investigation = written(&[
        "--phase",
        "limited-write",
        "--env",
        "staging",
        "--identity",
        "per-investigation",
    ]);
    assert_eq!((per_investigation, role(&place)), (Some(0), true));
    let shared =
        written(&["--phase", "limited-write", "--env", "staging", "--identity", "shared-agent"]);
    assert_eq!((shared, role(&place)), (Some(0), false));
    assert_eq!(written(&[]), Some(0));
    for phase in ["shadow", "read-only-assist", "limited-write", "autonomous"] {
        for environment in ["dev", "staging", "production"] {
            let quota = folder.path().join(phase).join(environment).join("limits.yaml");
            assert!(quota.is_file(), "{}", quota.display());
        }
    }
}

/// Every address is checked before the first connection, and no image has a default.
#[cfg(feature = "live")]
#[test]
fn unsafe_addresses_and_missing_images_of_a_cluster_are_refused_before_anything_is_asked() {
    let image = ["--agent-image", "registry.example/agent@sha256:0"];
    let safe = [("VAULT_ADDR", "http://127.0.0.1:1"), ("ALERTSTORM_POSTGRES", "a@127.0.0.1:1")];
    let refused = |args: &[&str], set: &[(&str, &str)]| {
        let mut run = alertstorm();
        run.args(["run", "scenarios/least.yaml", "--on", "cluster", "--yes"]).args(args);
        for name in ["VAULT_CACERT", "VAULT_NAMESPACE", "PGSSLMODE", "PGSSLROOTCERT"] {
            run.env_remove(name);
        }
        run.env_remove("ALERTSTORM_AGENT_IMAGE").env_remove("ALERTSTORM_SHARD_IMAGE");
        run.env("VAULT_TOKEN", "a-secret").env("PGPASSWORD", "a-secret");
        // No kubeconfig: none of these runs comes so far.
        run.env("KUBECONFIG", "/nowhere").envs(safe).envs(set.iter().copied());
        let done = run.output().expect("the program runs");
        (done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    for (args, set, why) in [
        (&[][..], &[][..], "--agent-image"),
        (&image, &[("VAULT_ADDR", "http://vault.example:8200")], "clear text"),
        (&image, &[("VAULT_ADDR", "https://vault.example:8200")], "VAULT_CACERT"),
        (&image, &[("ALERTSTORM_POSTGRES", "a@10.0.0.5:5432")], "PGSSLROOTCERT"),
        (&image, &[("PGSSLMODE", "require")], "sslmode=require is not supported"),
        (&image, &[("VAULT_NAMESPACE", "teams/prod")], "--production teams/prod"),
        (&image, &[], "kubeconfig"),
        (
            &[&image[..], &["--production", "teams/prod"]].concat(),
            &[("VAULT_NAMESPACE", "teams/prod")],
            "kubeconfig",
        ),
        (
            &[&image[..], &["--vault-for-pods", "http://vault.vault.svc:8200"]].concat(),
            &[],
            "--vault-for-pods is http://vault.vault.svc:8200",
        ),
    ] {
        let (code, printed) = refused(args, set);
        assert_eq!(code, Some(3), "{args:?} {set:?}: {printed}");
        assert!(printed.contains(why), "{args:?} {set:?}: {printed}");
        assert!(!printed.contains("a-secret"), "{printed}");
    }
    for (args, why) in [
        (&["--shards", "2"][..], "--shard-image"),
        (&["--vault-at", "vault.example:8200"], "--vault-at"),
    ] {
        let (code, printed) = refused(&[&image[..], args].concat(), &[]);
        assert_eq!(code, Some(2), "{args:?}: {printed}");
        assert!(printed.contains(why), "{args:?}: {printed}");
    }
}

#[test]
fn a_trace_that_was_printed_can_be_replayed() {
    let drawn = alertstorm()
        .args(["trace", "scenarios/two-am-flood.yaml", "-n", "3"])
        .output()
        .expect("the program runs");
    let text = String::from_utf8(drawn.stdout).expect("UTF-8");
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("traces.jsonl"), &text).expect("written");
    let scenario = folder.path().join("replay.yaml");
    fs::write(&scenario, "alerts: [{flood: 5}]\nagents: {traces: traces.jsonl}\n")
        .expect("written");
    let runs = folder.path().join("runs");
    let done =
        alertstorm().arg("run").arg(&scenario).arg("-o").arg(&runs).output().expect("it runs");
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(report_of(&the_run(&runs))["accounting"]["finished"], 5);
}
