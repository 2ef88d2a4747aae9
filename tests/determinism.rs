//! The same seed and plan give the same log, event by event, on any number of threads.

mod common;

use std::process::Command;

use alertstorm_model::digest::Digest;
use alertstorm_model::event::Event;
use common::{events, measure, plan, root, shipped};

/// Compares two logs; the failure names the first event that differs.
#[track_caller]
fn same(one: &[Event], other: &[Event]) {
    let differs = one.iter().zip(other).position(|(a, b)| a != b);
    if let Some(at) = differs {
        panic!("event {at} differs:\n  {:?}\n  {:?}", one[at], other[at]);
    }
    assert_eq!(one.len(), other.len());
}

#[test]
fn the_same_seed_gives_the_same_log_twice() {
    for name in ["two-am-flood.yaml", "vault-outage.yaml", "tuned-1000.yaml"] {
        let plan = shipped(name, &[]);
        let (one, other) = (events(&plan), events(&plan));
        same(&one, &other);
        let digest = |events: &[Event]| {
            let mut digest = Digest::default();
            events.iter().for_each(|event| digest.fold(event));
            digest.hex()
        };
        assert_eq!(digest(&one), digest(&other));
        assert_eq!(digest(&one), measure(&plan).digest());
    }
}

#[test]
fn another_seed_gives_another_log() {
    let one = shipped("two-am-flood.yaml", &[]);
    let other = one.with_seed(one.scenario().seed + 1);
    assert_ne!(measure(&one).digest(), measure(&other).digest());
}

#[test]
fn the_spread_over_seeds_does_not_depend_on_the_threads() {
    let digests = |threads: &str| {
        let folder = tempfile::tempdir().expect("a folder");
        let done = Command::new(env!("CARGO_BIN_EXE_alertstorm"))
            .args([
                "run",
                "--json",
                "--seeds",
                "6",
                "--threads",
                threads,
                "--set",
                "alerts.0.flood=40",
            ])
            .arg(root().join("scenarios/two-am-flood.yaml"))
            .arg("-o")
            .arg(folder.path())
            .output()
            .expect("the program runs");
        let spread: serde_json::Value = serde_json::from_slice(&done.stdout).expect("JSON");
        assert_eq!(spread["seeds"].as_array().map(Vec::len), Some(6));
        spread["digests"].clone()
    };
    assert_eq!(digests("1"), digests("2"));
}

/// The shipped profile with more tool calls for network agents, whose entry is the first.
struct MoreCalls;

impl alertstorm_model::scenario::Files for MoreCalls {
    fn read(&self, name: &str) -> Result<String, String> {
        let text = std::fs::read_to_string(root().join("scenarios").join(name));
        Ok(text.map_err(|error| error.to_string())?.replacen("calls: 2..4", "calls: 5..9", 1))
    }
}

/// A profile whose network agents draw more random numbers does not change the traces of the others.
#[test]
fn one_more_draw_in_one_investigation_changes_no_other_trace() {
    let one = shipped("two-am-flood.yaml", &[]);
    let text = std::fs::read_to_string(root().join("scenarios/two-am-flood.yaml"));
    let other = alertstorm_model::scenario::load(&text.expect("it"), "flood", &[], &MoreCalls);
    let other = other.unwrap_or_else(|problems| panic!("{problems:#?}"));
    let mut networks = 0;
    for (alert, again) in one.alerts().zip(other.alerts()) {
        assert_eq!(alert, again);
        if alert.domain == alertstorm_model::investigation::Domain::Network {
            assert_ne!(one.trace(&alert), other.trace(&again));
            networks += 1;
        } else {
            assert_eq!(one.trace(&alert), other.trace(&again));
        }
    }
    assert!(networks > 50, "{networks}");
}

#[test]
fn a_plans_digest_depends_on_knobs_and_not_on_file_names() {
    let text = "alerts: [{flood: 3}]\n";
    let digest = |set: &[(&str, &str)]| plan(text, set).digest().to_owned();
    assert_eq!(digest(&[]), digest(&[("name", "other"), ("question", "Why?"), ("seed", "9")]));
    assert_eq!(digest(&[]), digest(&[("slos", "[leases.orphaned == 0]")]));
    assert_ne!(digest(&[]), digest(&[("cluster.nodes", "21")]));
    assert_ne!(digest(&[]), digest(&[("agents", "profiles/short.yaml")]));
}

/// Which makes creation idempotent: the same alert of the same run asks for the same Job.
#[test]
fn a_jobs_name_is_a_function_of_plan_seed_and_alert() {
    let name = |plan: &alertstorm_model::scenario::Plan, number: usize| {
        let alert = plan.alerts().nth(number).expect("an alert");
        alertstorm_model::controller::job::template(plan, &alert).name
    };
    let plan = shipped("two-am-flood.yaml", &[]);
    assert_eq!(name(&plan, 7), name(&plan.clone(), 7));
    assert_ne!(name(&plan, 7), name(&plan, 8));
    assert_ne!(name(&plan, 7), name(&plan.with_seed(1), 7));
    assert!(name(&plan, 7).len() <= 63, "a label's length");
}
