//! The promises in real pods, and what only real pods can show.

mod cluster;
mod shards;

use std::process::Command;
use std::thread;
use std::time::Duration;

use alertstorm_model::event::Fact;
use alertstorm_model::investigation::Outcome;
use alertstorm_platform::provider::state::{Folder, ProcessId, Record};

use super::{CLUSTER, KIND, reserve_cluster};
use crate::arm::Arm;
use crate::{common, promises};

macro_rules! in_pods {
    ($($promise:ident),+ $(,)?) => {
        $(
            #[test]
            #[ignore = "needs Docker, kind and the image of `alertstorm setup kind`"]
            fn $promise() {
                promises::$promise(KIND);
            }
        )+
    };
}

// The others involve only the controller, or need a Vault with durable storage.
in_pods! {
    every_investigation_passes_its_stages_in_order,
    every_lease_is_in_the_ledger_and_none_remains,
    what_a_phase_forbids_is_refused_by_the_server_in_charge,
    a_job_ends_at_its_deadline,
    an_agent_over_its_memory_limit_is_killed,
    the_lease_of_a_crashed_agent_is_an_orphan_until_it_expires,
    a_restarted_controller_creates_no_second_job,
    an_outage_of_the_api_server_loses_nothing,
    an_outage_of_the_controller_manager_loses_nothing,
    an_outage_of_postgresql_loses_nothing,
    jwt_auth_works_like_kubernetes_auth,
    a_shared_identity_works_like_one_per_investigation,
}

/// In two-am-flood-small, every agent does exactly what it does in the twin.
#[test]
#[ignore = "needs Docker, kind and the image of `alertstorm setup kind`"]
fn in_the_small_flood_agents_do_the_same_as_in_the_twin() {
    let plan = || common::shipped("two-am-flood-small.yaml", &[]);
    let (kind, twin) = (KIND.run_plan(plan()), Arm::TWIN.run_plan(plan()));
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

/// Waits until an agent works somewhere and has had time to get its credential; its node.
fn node_with_an_agent() -> String {
    let nodes = ["worker", "worker2", "worker3"].map(|name| format!("{}-{name}", CLUSTER));
    for _ in 0..900 {
        if let Some(node) =
            nodes.iter().find(|node| docker(&["exec", node, "pgrep", "-x", "agent"]))
        {
            // The agent works for seven seconds.
            thread::sleep(Duration::from_secs(3));
            return node.clone();
        }
        thread::sleep(Duration::from_millis(200));
    }
    panic!("no agent started");
}

/// An agent that is killed before it revokes its lease leaves an orphan until the lease expires. Its
/// journal remains readable.
#[test]
#[ignore = "needs Docker, kind and the image of `alertstorm setup kind`"]
fn the_lease_of_an_agent_killed_in_its_pod_is_an_orphan_until_it_expires() {
    let killer = thread::spawn(|| {
        docker(&["exec", &node_with_an_agent(), "pkill", "-KILL", "-o", "-x", "agent"])
    });
    let ran = KIND.run(promises::PATIENT, &[("vault.secrets.database.ttl", "12s")]);
    assert!(killer.join().expect("the killer ends"), "there was an agent to kill");
    promises::accounts_for_all(&ran);
    assert_eq!(ran.measures.outcome(Outcome::Crashed), 1);
    let leases = ran.measures.leases();
    assert_eq!((leases.issued, leases.orphaned, leases.expired), (8, 1, 1), "{leases:?}");
    let (_, longest) = ran.measures.exposure();
    assert!((1.0..14.0).contains(&longest.as_secs_f64()), "{longest}");
}

/// Whether the network plugin of the cluster enforces NetworkPolicies: kind's own does, since v0.24.
fn enforces_policies() -> bool {
    let node = format!("{CLUSTER}-control-plane");
    let kubectl = ["exec", &node, "kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf"];
    let find = ["--namespace", "kube-system", "get", "daemonset", "kindnet"];
    docker(&kubectl.into_iter().chain(find).collect::<Vec<_>>())
}

/// Whether a TCP connection to `address` opens, from the network of an agent's pod on `node` or from
/// the node's own.
fn opens(node: &str, from_agent: bool, address: &str) -> bool {
    let (host, port) = address.split_once(':').expect("host and port");
    let inside = if from_agent { "nsenter -t $(pgrep -x -o agent) -n" } else { "" };
    let script = format!("{inside} timeout 3 bash -c 'exec 3<>/dev/tcp/{host}/{port}'");
    docker(&["exec", node, "bash", "-c", &script])
}

/// Only a network plugin that enforces NetworkPolicies shows this; with another one nothing is
/// checked, and the test prints that.
#[test]
#[ignore = "needs Docker, kind and the image of `alertstorm setup kind`"]
fn an_agent_s_pod_reaches_its_servers_and_nothing_else() {
    {
        let _reserved = reserve_cluster();
        super::create_cluster();
    }
    if !enforces_policies() {
        eprintln!("not checked: the cluster's network plugin does not enforce NetworkPolicies");
        return;
    }
    // Another server on port 443, the API server's own port.
    let vault = ["--entrypoint", "vault", "hashicorp/vault:1.21", "server", "-dev"];
    let vault = vault.into_iter().chain(["-dev-listen-address=0.0.0.0:443"]);
    let other = cluster::Container::start(&vault.collect::<Vec<_>>());
    let elsewhere = format!("{}:443", other.ip());
    let prober = thread::spawn(move || {
        let node = node_with_an_agent();
        let agent = |address: &str| opens(&node, true, address);
        // The node reaches the other server, and the agent its API server.
        let controls = (opens(&node, false, &elsewhere), agent("10.96.0.1:443"));
        let reached = ["169.254.169.254:80", "169.254.169.254:443", "1.1.1.1:53"];
        let reached: Vec<bool> =
            reached.into_iter().chain([elsewhere.as_str()]).map(agent).collect();
        (controls, reached)
    });
    promises::accounts_for_all(&KIND.run(promises::PATIENT, &[]));
    let (controls, reached) = prober.join().expect("the prober ends");
    assert_eq!(controls, (true, true));
    assert_eq!(reached, [false; 4]);
}

/// A stopped worker evicts its agents; all other agents finish, including later ones.
#[test]
#[ignore = "needs Docker, kind and the image of `alertstorm setup kind`"]
fn a_stopped_worker_evicts_its_investigations() {
    let killer = thread::spawn(|| {
        let node = node_with_an_agent();
        let stopped = docker(&["stop", "--time", "0", &node]);
        thread::sleep(Duration::from_secs(4));
        stopped && docker(&["start", &node])
    });
    let ran = KIND.run(promises::PATIENT, &[]);
    assert!(killer.join().expect("the killer ends"), "there was a worker to stop");
    promises::accounts_for_all(&ran);
    let (evicted, resolved) =
        (ran.measures.outcome(Outcome::Evicted), ran.measures.outcome(Outcome::Resolved));
    assert!((1..=8).contains(&evicted), "{evicted} evicted, {resolved} resolved");
    assert_eq!(evicted + resolved, 8);
}

/// A run was killed and its kept cluster deleted by hand: `clean` removes what would block the next
/// run.
#[test]
#[ignore = "needs Docker and kind"]
fn clean_removes_the_state_of_a_cluster_deleted_after_its_run_was_killed() {
    let _reserved = reserve_cluster();
    let folder = Folder::named("kind", "alertstorm-test-deleted").expect("a state folder");
    std::fs::create_dir_all(folder.path().join("trail")).expect("its folder");
    let dead = ProcessId { pid: i32::MAX, started: 0 };
    let platform = serde_json::json!({"ours": false, "run": "deleted"});
    let record = Record { owner: Some(dead), run: None, servers: Vec::new(), platform };
    folder.write_record(&record).expect("its record");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let cleaned = runtime.block_on(alertstorm_platform::provider::kind::clean());
    assert!(cleaned.unwrap_or_else(|error| panic!("{error}")) > 0);
    assert!(!folder.path().exists());
}

/// In dev mode, a restarted Vault has lost its leases; the report contains a remark.
#[test]
#[ignore = "needs Docker, kind and the image of `alertstorm setup kind`"]
fn a_restarted_vault_in_dev_mode_is_configured_again() {
    let set = [("faults", "[{fault: vault-restart, at: 6s, for: 2s}]")];
    let ran = KIND.run(promises::PATIENT, &set);
    promises::accounts_for_all(&ran);
    let forgot =
        |fact: &Fact| matches!(fact, Fact::Remark { text } if text.contains("lost its storage"));
    assert!(ran.events.iter().any(|event| forgot(&event.fact)));
}
