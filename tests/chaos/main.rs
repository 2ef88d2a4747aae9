//! The fault matrix: each kind of fault, while a run starts, while it runs, and while it is torn
//! down. The program runs as a child process; its exit code, its report and what it leaves behind
//! are checked. On local servers the tests need `alertstorm setup local`:
//!
//! `cargo test --workspace --features live --test chaos -- --ignored --nocapture matrix_on_local::whole`
//!
//! and in pods Docker, kind and `alertstorm setup kind`: `matrix_in_pods::whole`.
//! Each prints its table, and appends it to the file that `ALERTSTORM_CHAOS_TABLE` names.

#![cfg(feature = "live")]

mod case;
mod cluster;
mod expected;
mod fault;
mod leftovers;
mod load;
mod outcome;
mod place;
mod proxy;
mod servers;
mod table;

mod matrix_on_local {
    use crate::table;

    /// The cases of `.ci/run`: one for each way in which a fault arrives.
    #[test]
    #[ignore = "needs the servers of `alertstorm setup local`"]
    fn bounded_every_kind_of_fault_is_accounted_for_and_leaves_nothing_behind() {
        table::run(&table::bounded());
    }

    /// All cases; `ALERTSTORM_CHAOS` names the ones to run by parts of their names, separated by `|`.
    #[test]
    #[ignore = "needs the servers of `alertstorm setup local`, and a quarter of an hour"]
    fn whole_every_fault_at_every_moment_is_accounted_for_and_leaves_nothing_behind() {
        table::run(&table::whole());
    }
}

mod matrix_in_pods {
    use crate::table;

    /// All cases in one cluster, one after another; `ALERTSTORM_CHAOS` names the ones to run.
    #[test]
    #[ignore = "needs Docker, kind and `alertstorm setup kind`, and three quarters of an hour"]
    fn whole_every_fault_in_pods_is_accounted_for_and_leaves_nothing_behind() {
        table::run(&table::in_pods());
    }
}
