//! The promises in real pods, and what only real pods can show.

#[path = "cluster.rs"]
mod cluster;
#[path = "shards.rs"]
mod shards;

use std::process::Command;
use std::thread;
use std::time::Duration;

use alertstorm_live::provider::state::{Folder, ProcessId, Record};
use alertstorm_model::event::Fact;
use alertstorm_model::investigation::Outcome;

use crate::arm::{Arm, live};
use crate::{common, promises};

macro_rules! in_pods {
    ($($promise:ident),+ $(,)?) => {
        $(
            #[test]
            #[ignore = "needs Docker, kind and the image of `alertstorm setup kind`"]
            fn $promise() { promises::$promise(Arm::Kind); }
        )+
    };
}

// The others are the controller's alone, or need a Vault that keeps its data.
in_pods! {
    every_investigation_goes_through_its_stages_in_their_order,
    every_lease_is_in_the_ledger_and_none_is_left,
    what_a_phase_forbids_is_refused_by_who_holds_it,
    a_job_ends_at_its_deadline,
    an_agent_that_takes_too_much_memory_is_killed,
    a_lease_of_a_crashed_agent_is_an_orphan_until_its_time_is_over,
    a_controller_that_restarts_makes_no_second_job,
    an_outage_of_the_api_server_loses_nothing,
    an_outage_of_the_controller_manager_loses_nothing,
    an_outage_of_postgresql_loses_nothing,
    an_identity_by_signed_token_works_like_one_by_review,
    a_shared_identity_works_like_one_of_its_own,
}

/// The flood in small: what agents did, and what it did to them, is the twin's to the last deed.
#[test]
#[ignore = "needs Docker, kind and the image of `alertstorm setup kind`"]
fn the_small_flood_is_the_twins_deed_for_deed() {
    let plan = || common::shipped("two-am-flood-small.yaml", &[]);
    let (kind, twin) = (Arm::Kind.run_plan(plan()), Arm::Twin.run_plan(plan()));
    promises::accounts_for_all(&kind);
    assert_eq!(kind.measures.accounting.finished, 60);
    assert_eq!(promises::deeds(&kind), promises::deeds(&twin));
    let audited = kind.measures.audited.as_ref().expect("an audit");
    assert!(audited.leases.agrees() && audited.leases.alive == 0, "{:?}", audited.leases);
    let denials = &audited.denials;
    assert!(denials.agree() && denials.rbac.1.is_some() && denials.rbac.0 > 0, "{denials:?}");
}

fn docker(args: &[&str]) -> bool {
    Command::new("docker").args(args).output().is_ok_and(|done| done.status.success())
}

/// Waits until an agent works somewhere, and has had the time to take its credential; its node.
fn a_node_at_work() -> String {
    let nodes = ["worker", "worker2", "worker3"].map(|name| format!("{}-{name}", live::CLUSTER));
    for _ in 0..900 {
        if let Some(node) =
            nodes.iter().find(|node| docker(&["exec", node, "pgrep", "-x", "agent"]))
        {
            // It works for seven seconds.
            thread::sleep(Duration::from_secs(3));
            return node.clone();
        }
        thread::sleep(Duration::from_millis(200));
    }
    panic!("no agent came to work");
}

/// An agent that is killed before it gives its lease back leaves an orphan until the lease's time
/// is over; its journal outlives it.
#[test]
#[ignore = "needs Docker, kind and the image of `alertstorm setup kind`"]
fn an_agent_killed_in_its_pod_leaves_an_orphan_until_its_time_is_over() {
    let killer = thread::spawn(|| {
        docker(&["exec", &a_node_at_work(), "pkill", "-KILL", "-o", "-x", "agent"])
    });
    let ran = Arm::Kind.run(promises::PATIENT, &[("vault.secrets.database.ttl", "12s")]);
    assert!(killer.join().expect("the killer ends"), "there was an agent to kill");
    promises::accounts_for_all(&ran);
    assert_eq!(ran.measures.outcome(Outcome::Crashed), 1);
    let leases = ran.measures.leases();
    assert_eq!((leases.issued, leases.orphaned, leases.expired), (8, 1, 1), "{leases:?}");
    let (_, longest) = ran.measures.exposure();
    assert!((1.0..14.0).contains(&longest.as_secs_f64()), "{longest}");
}

/// A worker whose power goes ends the agents on it; the others finish, and so do those that come
/// after.
#[test]
#[ignore = "needs Docker, kind and the image of `alertstorm setup kind`"]
fn a_stopped_worker_ends_its_investigations() {
    let killer = thread::spawn(|| {
        let node = a_node_at_work();
        let stopped = docker(&["stop", "--time", "0", &node]);
        thread::sleep(Duration::from_secs(4));
        stopped && docker(&["start", &node])
    });
    let ran = Arm::Kind.run(promises::PATIENT, &[]);
    assert!(killer.join().expect("the killer ends"), "there was a worker to stop");
    promises::accounts_for_all(&ran);
    let (evicted, resolved) =
        (ran.measures.outcome(Outcome::Evicted), ran.measures.outcome(Outcome::Resolved));
    assert!((1..=8).contains(&evicted), "{evicted} evicted, {resolved} resolved");
    assert_eq!(evicted + resolved, 8);
}

/// A run was killed, and its kept cluster deleted: nothing is left that would be in the next one's
/// way.
#[test]
#[ignore = "needs Docker and kind"]
fn a_cluster_deleted_after_its_run_was_killed_leaves_nothing() {
    let _alone = live::alone();
    let folder = Folder::named("kind", "alertstorm-test-deleted").expect("a place for its folder");
    std::fs::create_dir_all(folder.path().join("trail")).expect("its folder");
    let dead = ProcessId { pid: i32::MAX, started: 0 };
    let platform = serde_json::json!({"ours": false, "platform": "deleted"});
    let record = Record { owner: Some(dead), servers: Vec::new(), platform };
    folder.write_record(&record).expect("its record");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let cleaned = runtime.block_on(alertstorm_live::provider::kind::clean());
    assert!(cleaned.unwrap_or_else(|error| panic!("{error}")) > 0);
    assert!(!folder.path().exists());
}

/// Vault in dev mode forgets all when it dies; the report says what that means.
#[test]
#[ignore = "needs Docker, kind and the image of `alertstorm setup kind`"]
fn a_vault_that_forgets_is_configured_again_and_its_leases_are_told() {
    let set = [("faults", "[{fault: vault-restart, at: 6s, for: 2s}]")];
    let ran = Arm::Kind.run(promises::PATIENT, &set);
    promises::accounts_for_all(&ran);
    let forgot =
        |fact: &Fact| matches!(fact, Fact::Remark { text } if text.contains("lost its memory"));
    assert!(ran.events.iter().any(|event| forgot(&event.fact)));
}
