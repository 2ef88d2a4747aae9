//! One suite, three arms: the same bodies hold the twin, the local servers and real pods to the same
//! promises. The local arm needs the servers of `alertstorm setup local`, and PostgreSQL:
//! `cargo test --workspace --test conformance -- --ignored --skip kind::`. The kind arm needs Docker, kind and the
//! image of `alertstorm setup kind`: `cargo test --workspace --test conformance -- --ignored kind::`; its cluster,
//! alertstorm-test, stays for the next time.

#[path = "../common/mod.rs"]
mod common;

mod arm;
#[cfg(feature = "live")]
mod killed;
#[cfg(feature = "live")]
mod kind;
mod promises;

use arm::Arm;

macro_rules! in_both_arms {
    ($($promise:ident),+ $(,)?) => {
        mod twin {
            $(#[test] fn $promise() { super::promises::$promise(super::Arm::Twin); })+
        }

        #[cfg(feature = "live")]
        mod local {
            $(
                #[test]
                #[ignore = "needs the servers of `alertstorm setup local`"]
                fn $promise() { super::promises::$promise(super::Arm::Local); }
            )+
        }
    };
}

in_both_arms! {
    every_investigation_goes_through_its_stages_in_their_order,
    every_lease_is_in_the_ledger_and_none_is_left,
    what_a_phase_forbids_is_refused_by_who_holds_it,
    an_alert_that_repeats_another_begins_nothing,
    a_full_queue_sheds_and_accounts_for_it,
    a_job_ends_at_its_deadline,
    an_agent_that_takes_too_much_memory_is_killed,
    a_lease_of_a_crashed_agent_is_an_orphan_until_its_time_is_over,
    a_controller_that_restarts_makes_no_second_job,
    an_outage_of_the_api_server_loses_nothing,
    an_outage_of_etcd_loses_nothing,
    an_outage_of_the_controller_manager_loses_nothing,
    an_outage_of_the_scheduler_loses_nothing,
    an_outage_of_postgresql_loses_nothing,
    a_vault_that_keeps_its_data_comes_back_with_its_leases,
    a_sealed_vault_is_waited_for,
    a_node_without_power_ends_its_investigations,
    an_identity_by_signed_token_works_like_one_by_review,
    a_shared_identity_works_like_one_of_its_own,
    a_token_of_the_api_server_is_a_lease_like_any_other,
}

/// What agents do depends on plan and seed alone, whoever answers them.
#[cfg(feature = "live")]
#[test]
#[ignore = "needs the servers of `alertstorm setup local`"]
fn the_two_worlds_agree_on_what_agents_did() {
    let told = |arm: Arm| promises::deeds(&arm.run(promises::BUSY, &[]));
    let (twin, local) = (told(Arm::Twin), told(Arm::Local));
    assert!(twin.len() > 40, "{twin:#?}");
    assert_eq!(twin, local);
}

/// Vault in memory forgets all when it dies; the report says what that means.
#[cfg(feature = "live")]
#[test]
#[ignore = "needs the servers of `alertstorm setup local`"]
fn a_vault_that_forgets_is_configured_again_and_its_leases_are_told() {
    let faults = "[{fault: vault-restart, at: 6s, for: 2s}]";
    let set = [("faults", faults), ("vault.storage", "inmem")];
    let ran = Arm::Local.run(promises::PATIENT, &set);
    promises::accounts_for_all(&ran);
    let measures = &ran.measures;
    assert!(measures.remarks.iter().any(|remark| remark.contains("lost its memory")));
    assert!(measures.leases().irrevocable > 0, "{:?}", measures.leases());
    assert_eq!(measures.audited.as_ref().map(|audited| audited.leases.lost > 0), Some(true));
}
