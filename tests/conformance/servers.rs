//! The arms with real servers, and what only they can show.

mod altered;
mod causes;
mod disk;
mod killed;
mod kind;
mod kwok;
mod lost;
mod pods;
mod rendered;
mod rights;
mod secrets;
mod visitors;

use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alertstorm_model::event::Event;
use alertstorm_model::scenario::Plan;
use alertstorm_platform::provider::Provider;
use alertstorm_platform::provider::kind::{Kind, Options, image};
use alertstorm_platform::provider::local::Local;

use crate::arm::{Arm, Ran};
use crate::{common, promises};

/// Real servers on this machine.
pub const LOCAL: Arm = Arm { settings: &[], events_of: on_local };
/// Real pods in the kind cluster [`CLUSTER`]. Small requests let a dozen pods fit on two cores.
pub const KIND: Arm = Arm {
    settings: &[
        ("controller.job.cpu_request_millis", "10"),
        ("controller.job.memory_request", "32Mi"),
        ("controller.job.memory_limit", "1Gi"),
    ],
    events_of: on_kind,
};

/// The kind cluster that all tests share, one after another.
pub const CLUSTER: &str = "alertstorm-test";
static CLUSTER_IN_USE: Mutex<()> = Mutex::new(());

/// Reserves the cluster for one test.
pub fn reserve_cluster() -> MutexGuard<'static, ()> {
    CLUSTER_IN_USE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Creates the cluster if it does not exist, with the agent's image on its nodes.
pub fn create_cluster() {
    let plan = common::plan(promises::BUSY, KIND.settings);
    runtime().block_on(async {
        start_kind(&plan).await.end().await.expect("the platform ends");
    });
}

/// Builds the shards' image from the program under test and loads it into the cluster; its name.
pub fn shard_image() -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_alertstorm"));
    let image = runtime().block_on(image::of_shards(program));
    let image = image.unwrap_or_else(|error| panic!("{error}"));
    let load = ["load", "docker-image", &image, "--name", CLUSTER];
    let loaded = Command::new("kind").args(load).output().expect("kind");
    assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stderr));
    image
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().expect("a runtime")
}

fn on_local(plan: &Plan) -> Vec<Event> {
    runtime().block_on(async {
        let local = Local::start(plan.scenario(), false, &|_: &str| {}).await;
        run(plan, Arc::new(local.unwrap_or_else(|error| panic!("{error}")))).await
    })
}

fn on_kind(plan: &Plan) -> Vec<Event> {
    let _reserved = reserve_cluster();
    runtime().block_on(async { run(plan, Arc::new(start_kind(plan).await)).await })
}

pub async fn run(plan: &Plan, provider: Arc<dyn Provider>) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    let silent = |_: &str| {};
    let mut watch = |_| ControlFlow::Continue(());
    let of = Arc::clone(&provider);
    let ran = alertstorm_live::run(plan, of, None, &mut events, &silent, &mut watch).await;
    provider.end().await.expect("the platform ends");
    ran.unwrap_or_else(|error| panic!("{error:?}"));
    events
}

async fn start_kind(plan: &Plan) -> Kind {
    let variable = |name| std::env::var(name).ok();
    let options = Options {
        name: Some(CLUSTER.to_owned()),
        image: variable("ALERTSTORM_KIND_IMAGE"),
        config: variable("ALERTSTORM_KIND_CONFIG").map(Into::into),
        agent_image: None,
        shard_image: None,
        keep: true,
    };
    let kind = Kind::start(plan, &options, &|_: &str| {}).await;
    kind.unwrap_or_else(|error| panic!("{error}"))
}

macro_rules! on_local_servers {
    ($($promise:ident),+ $(,)?) => {
        $(
            #[test]
            #[ignore = "needs the servers of `alertstorm setup local`"]
            fn $promise() {
                crate::promises::$promise(super::LOCAL);
            }
        )+
    };
}

mod local {
    every_promise!(on_local_servers);
}

/// What agents do depends only on plan and seed, not on the servers that answer them.
#[test]
#[ignore = "needs the servers of `alertstorm setup local`"]
fn agents_do_the_same_in_the_twin_and_on_local_servers() {
    let deeds = |arm: Arm| promises::deeds(&arm.run(promises::BUSY, &[]));
    let (twin, local) = (deeds(Arm::TWIN), deeds(LOCAL));
    assert!(twin.len() > 40, "{twin:#?}");
    assert_eq!(twin, local);
}

/// With storage in memory, a restarted Vault has lost its leases; the report contains a remark.
fn a_vault_in_memory_is_configured_again(arm: Arm) -> Ran {
    let faults = "[{fault: vault-restart, at: 6s, for: 2s}]";
    let set = [("faults", faults), ("vault.storage", "inmem")];
    let ran = arm.run(promises::PATIENT, &set);
    promises::accounts_for_all(&ran);
    assert!(ran.measures.remarks.iter().any(|remark| remark.contains("lost its storage")));
    ran
}

#[test]
#[ignore = "needs the servers of `alertstorm setup local`"]
fn a_restarted_vault_in_memory_is_configured_again_and_its_leases_are_reported() {
    let measures = a_vault_in_memory_is_configured_again(LOCAL).measures;
    assert!(measures.leases().irrevocable > 0, "{:?}", measures.leases());
    assert_eq!(measures.audited.as_ref().map(|audited| audited.leases.lost > 0), Some(true));
}
