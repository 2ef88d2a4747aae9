//! Every wait of an investigation is booked on the component that caused it.

use std::ops::ControlFlow;

use alertstorm_model::event::{Component, Event, Fact};
use alertstorm_model::investigation::{Outcome, Stage};
use alertstorm_model::scenario::{NoFiles, Override, Plan, load};
use alertstorm_model::time::Span;

fn plan(text: &str, set: &[(&str, &str)]) -> Plan {
    let set: Vec<Override> = set
        .iter()
        .map(|(path, value)| Override { path: (*path).to_owned(), value: (*value).to_owned() })
        .collect();
    match load(text, "test.yaml", &set, &NoFiles) {
        Ok(plan) => plan,
        Err(problems) => panic!("{problems:#?}\n{text}"),
    }
}

fn events(plan: &Plan) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    alertstorm_twin::run(plan, &mut events, &mut |_| ControlFlow::Continue(()));
    events
}

/// What all investigations waited for a component until their Jobs' end. Until then no wait is scaled
/// down: they overlap on the way to the credentials, while the kubelet reports the pod's status.
fn waited(events: &[Event], component: Component) -> Span {
    let waits = events.iter().filter_map(|event| match &event.fact {
        Fact::Waited { until: Stage::JobFinished, waits } => Some(waits),
        _ => None,
    });
    let of = waits.flatten().filter(|wait| wait.component == component);
    of.map(|wait| wait.span).fold(Span::ZERO, |sum, span| sum + span)
}

/// One investigation, so that nothing queues.
const ONE: &str = "\
identity: shared-agent
alerts: [{flood: 1}]
vault:
  storage: inmem
  secrets:
    network: {engine: kv}
    database: {engine: kv}
    application: {engine: kv}
    security: {engine: kv}
";

#[test]
fn a_slow_disk_of_vault_is_booked_as_its_storage_and_not_as_its_cores() {
    let run = |storage: &str| {
        let set = [
            ("vault.storage", storage),
            ("vault.secrets.network.engine", "pki"),
            ("vault.secrets.application.engine", "pki"),
            ("vault.secrets.security.engine", "pki"),
            ("vault.secrets.database.engine", "postgresql"),
            ("cluster.control_plane.etcd.fsync", "100ms"),
        ];
        events(&plan(ONE, &set))
    };
    let (memory, disk) = (run("inmem"), run("raft"));
    assert_eq!(waited(&memory, Component::VaultStorage), Span::ZERO);
    // The login and the credential, a sync each.
    assert!(waited(&disk, Component::VaultStorage) >= Span::millis(200));
    for other in [Component::VaultCpu, Component::Postgres] {
        assert_eq!(waited(&disk, other), waited(&memory, other), "{other}");
    }
}

#[test]
fn the_processor_time_of_a_jwt_login_is_charged_once() {
    let cores = |auth| waited(&events(&plan(ONE, &[("vault.auth", auth)])), Component::VaultCpu);
    // A login takes 1.9 ms with jwt and 1.6 ms with kubernetes, and all else is alike.
    assert_eq!(cores("jwt"), cores("kubernetes") + Span::micros(300));
}

#[test]
fn the_processor_time_of_a_database_credential_is_charged_once() {
    let cores = |engine| {
        let set = [
            ("vault.secrets.network.engine", engine),
            ("vault.secrets.database.engine", engine),
            ("vault.secrets.application.engine", engine),
            ("vault.secrets.security.engine", engine),
            ("vault.cores", "1"),
        ];
        waited(&events(&plan(ONE, &set)), Component::VaultCpu)
    };
    // A role takes 3 ms of Vault beyond the 0.7 ms that every request takes.
    assert_eq!(cores("postgresql"), cores("kv") + Span::millis(3));
}

/// Many investigations without a database credential, so that nothing can wait for PostgreSQL.
const NO_DATABASE: &str = "\
alerts: [{flood: 200, over: 20s}]
vault:
  secrets:
    network: {engine: pki}
    database: {engine: kv}
    application: {engine: pki}
    security: {engine: pki}
";

/// The agent gets the answer some milliseconds after Vault refused; Vault may be unsealed by then.
#[test]
fn a_refusal_by_a_sealed_vault_is_never_booked_on_postgresql() {
    for end in (24_000..24_080).step_by(2) {
        let fault =
            format!("{NO_DATABASE}faults: [{{fault: vault-sealed, at: 0s, for: {end}ms}}]\n");
        let events = events(&plan(&fault, &[]));
        assert!(waited(&events, Component::VaultDown) > Span::ZERO);
        assert_eq!(waited(&events, Component::Postgres), Span::ZERO, "unsealed at {end} ms");
    }
}

#[test]
fn a_token_that_expired_is_booked_on_no_server() {
    let manager = "cluster.control_plane.controller_manager";
    let set = [
        ("vault.token_ttl", "1s"),
        ("vault.cores", "1"),
        (&format!("{manager}.kube_api_qps"), "400"),
        (&format!("{manager}.kube_api_burst"), "400"),
    ];
    let events = events(&plan(NO_DATABASE, &set));
    let away = Fact::Ended { outcome: Outcome::VaultUnavailable };
    assert!(events.iter().any(|event| event.fact == away), "no token expired too early");
    for server in [Component::Postgres, Component::VaultDown] {
        assert_eq!(waited(&events, server), Span::ZERO, "{server}");
    }
}
