//! Both worlds name the same bottleneck: the twin by what each call waited for, real servers by their
//! counters.

use alertstorm_model::event::{Component, Fact, Resource};

use super::LOCAL;
use crate::arm::Arm;
use crate::promises;

/// 60 Jobs at once, with upstream's client limits.
const DEFAULTS: &str = r"
name: defaults
seed: 300
alerts: [{flood: 60}]
agents: profiles/ends-at-once.yaml
identity: shared-agent
cluster: {nodes: 5}
";

/// More requests for database users than one connection config serves, as each commit takes 50 ms.
const SLOW_POSTGRESQL: &str = r"
name: slow-postgresql
seed: 36
alerts:
  - flood: 60
    mix: {database: 1}
agents: profiles/short.yaml
identity: shared-agent
cluster:
  nodes: 5
  control_plane:
    controller_manager: {kube_api_qps: 1000, kube_api_burst: 2000, concurrent_job_syncs: 20}
    scheduler: {kube_api_qps: 1000, kube_api_burst: 2000}
vault:
  auth: kubernetes
  storage: inmem
  secrets:
    database: {engine: postgresql, ttl: 1m}
postgres:
  fsync: 50ms
  flags: {commit_delay: 50000, commit_siblings: 0}
";

/// A renamed metric would be missing without an error, and its cause would never be named.
#[test]
#[ignore = "needs the servers of `alertstorm setup local`"]
fn all_resources_of_local_servers_are_measured() {
    let ran = LOCAL.run(promises::BUSY, &[]);
    let last = ran.events.iter().rev().find_map(|event| match &event.fact {
        Fact::Occupied { of } => Some(of),
        _ => None,
    });
    let last = last.expect("a live run records occupations");
    let measured: Vec<Resource> = last.iter().map(|occupation| occupation.of).collect();
    assert_eq!(measured, Resource::ALL);
    let may_be_idle =
        [Resource::ControllerManagerBucket, Resource::SchedulerBucket, Resource::FlowControlQueues];
    for occupation in last.iter().filter(|occupation| !may_be_idle.contains(&occupation.of)) {
        assert!(occupation.busy_ns > 0, "{occupation:?}");
    }
}

/// The bottleneck in both worlds; live with the counters that show it.
fn bottlenecks(text: &str) -> [Component; 2] {
    [Arm::TWIN, LOCAL].map(|arm| {
        let ran = arm.run(text, &[]);
        let found = ran.measures.bottleneck().expect("a bottleneck");
        let is_live = ran.measures.provider.is_some();
        assert_eq!(found.evidence.is_some(), is_live, "{:#?}", ran.measures.critical_path());
        found.component
    })
}

#[test]
#[ignore = "needs the servers of `alertstorm setup local`"]
fn both_worlds_name_the_job_controllers_bucket_at_upstreams_defaults() {
    assert_eq!(bottlenecks(DEFAULTS), [Component::JobControllerBucket; 2]);
}

#[test]
#[ignore = "needs the servers of `alertstorm setup local`"]
fn both_worlds_name_the_lock_of_the_connection_config_in_front_of_a_slow_postgresql() {
    assert_eq!(bottlenecks(SLOW_POSTGRESQL), [Component::VaultDatabaseLock; 2]);
}
