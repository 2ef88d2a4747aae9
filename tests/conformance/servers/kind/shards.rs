//! A run with shards equals the run without, investigation by investigation, even if a shard dies.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use alertstorm_model::event::Fact;
use alertstorm_model::investigation::InvestigationId;
use alertstorm_model::time::Time;

use super::super::{CLUSTER, reserve_cluster};
use crate::arm::{Arm, Ran};
use crate::{common, promises};

const SCENARIO: &str = "two-am-flood-small.yaml";

/// Runs the small flood with three shards.
fn sharded() -> Ran {
    let _reserved = reserve_cluster();
    let folder = tempfile::tempdir().expect("a folder");
    let done = Command::new(env!("CARGO_BIN_EXE_alertstorm"))
        .arg("run")
        .arg(common::root().join("scenarios").join(SCENARIO))
        .args(["--on", "kind", "--kind-name", CLUSTER, "--keep", "--shards", "3", "-o"])
        .arg(folder.path())
        .output()
        .expect("alertstorm");
    let said = [&done.stderr[..], &done.stdout].concat();
    let said = String::from_utf8_lossy(&said);
    // An invalid run is examined by its event log: a busy machine alone is no failure.
    assert!(matches!(done.status.code(), Some(0 | 1 | 4)), "{:?}\n{said}", done.status);
    let log = folder.path().join("two-am-flood-small-20260501-1/events.jsonl");
    let log = fs::read_to_string(log).expect("an event log");
    let event = |line| serde_json::from_str(line).expect("an event");
    Ran::of(common::shipped(SCENARIO, &[]), log.lines().map(event).collect())
}

/// The intended time of each alert.
fn alerts(ran: &Ran) -> BTreeMap<InvestigationId, Time> {
    let alert = |fact: &Fact| match fact {
        Fact::Alert { intended, .. } => Some(*intended),
        _ => None,
    };
    ran.events.iter().filter_map(|event| Some((event.inv?, alert(&event.fact)?))).collect()
}

fn equals_the_unsharded_run(ran: &Ran) {
    let twin = Arm::TWIN.run_plan(common::shipped(SCENARIO, &[]));
    promises::accounts_for_all(ran);
    assert_eq!(alerts(ran), alerts(&twin));
    assert_eq!(promises::deeds(ran), promises::deeds(&twin));
    let audited = ran.measures.audited.as_ref().expect("an audit");
    assert!(audited.leases.agrees() && audited.leases.alive == 0, "{:?}", audited.leases);
    assert!(audited.denials.agree(), "{:?}", audited.denials);
    assert!(audited.send_lag.count > 0);
}

#[test]
#[ignore = "needs Docker, kind and the image of `alertstorm setup kind`"]
fn three_shards_together_equal_the_unsharded_run() {
    let ran = sharded();
    equals_the_unsharded_run(&ran);
    assert_eq!(ran.measures.audited.as_ref().map(|audited| audited.send_lag.count), Some(60));
    assert!(!ran.measures.remarks.iter().any(|remark| remark.contains("died")));
}

/// Kills a shard in the middle of the run, some seconds after the first agent started.
fn kill_one() -> bool {
    let nodes = ["control-plane", "worker", "worker2", "worker3"];
    let nodes = nodes.map(|name| format!("{}-{name}", CLUSTER));
    let docker = |node: &str, args: &[&str]| {
        let exec = ["exec", node].into_iter().chain(args.iter().copied());
        Command::new("docker").args(exec).output().is_ok_and(|done| done.status.success())
    };
    for _ in 0..900 {
        if nodes.iter().any(|node| docker(node, &["pgrep", "-x", "agent"])) {
            thread::sleep(Duration::from_secs(4));
            let kill = ["pkill", "-KILL", "-o", "-f", "^/alertstorm shard"];
            return nodes.iter().any(|node| docker(node, &kill));
        }
        thread::sleep(Duration::from_millis(200));
    }
    false
}

#[test]
#[ignore = "needs Docker, kind and the image of `alertstorm setup kind`"]
fn a_shard_that_dies_is_replaced_and_its_successor_creates_no_second_job() {
    let killer = thread::spawn(kill_one);
    let ran = sharded();
    assert!(killer.join().expect("the killer ends"), "there was a shard to kill");
    assert!(ran.measures.remarks.iter().any(|remark| remark.contains("died")));
    equals_the_unsharded_run(&ran);
    // Alerts that were due in the meantime are sent late, which their latency includes.
    assert!(ran.measures.audited.is_some_and(|audited| audited.send_lag.count <= 60));
}
