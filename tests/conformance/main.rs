//! One suite for three worlds: the same promises are checked in the twin, on local servers and in real
//! pods. The twin's tests always run. The others need a build with the feature `live`:
//!
//! - local servers, built by `alertstorm setup local`, and PostgreSQL:
//!   `cargo test --features live --test conformance -- --ignored --skip kind::`
//! - Docker, kind and the image built by `alertstorm setup kind`:
//!   `cargo test --features live --test conformance -- --ignored kind::`; the cluster, alertstorm-test, is
//!   kept for the next time.

#[path = "../common/mod.rs"]
mod common;

mod arm;
mod promises;

use arm::Arm;

/// Passes every promise to a macro that makes tests of them.
macro_rules! every_promise {
    ($make_tests:ident) => {
        $make_tests! {
            every_investigation_passes_its_stages_in_order,
            every_lease_is_in_the_ledger_and_none_remains,
            what_a_phase_forbids_is_refused_by_the_server_in_charge,
            a_repeated_alert_starts_no_investigation,
            a_full_queue_sheds_and_counts_what_it_shed,
            a_job_ends_at_its_deadline,
            an_agent_over_its_memory_limit_is_killed,
            the_lease_of_a_crashed_agent_is_an_orphan_until_it_expires,
            the_token_of_a_crashed_agent_is_an_orphan_also_without_a_lease,
            the_token_of_a_crashed_agent_expires_in_the_ledger,
            a_restarted_controller_creates_no_second_job,
            an_outage_of_the_api_server_loses_nothing,
            an_outage_of_etcd_loses_nothing,
            an_outage_of_the_controller_manager_loses_nothing,
            an_outage_of_the_scheduler_loses_nothing,
            an_outage_of_postgresql_loses_nothing,
            a_restarted_vault_with_durable_storage_keeps_its_leases,
            agents_wait_for_a_sealed_vault,
            a_node_that_loses_power_ends_its_investigations,
            jwt_auth_works_like_kubernetes_auth,
            a_shared_identity_works_like_one_per_investigation,
            a_token_of_the_api_server_is_a_lease_like_any_other,
        }
    };
}

macro_rules! in_the_twin {
    ($($promise:ident),+ $(,)?) => {
        $(
            #[test]
            fn $promise() {
                super::promises::$promise(super::Arm::TWIN);
            }
        )+
    };
}

mod twin {
    every_promise!(in_the_twin);
}

#[cfg(feature = "live")]
mod servers;
