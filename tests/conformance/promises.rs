//! The promises. Each scenario lasts only some seconds, because it also runs on real servers.

use std::collections::{BTreeMap, BTreeSet};

use alertstorm_model::event::{Event, Fact};
use alertstorm_model::investigation::{Domain, InvestigationId, Outcome, Stage};
use alertstorm_model::phase::{Action, Phase, Refuser, Verb};
use alertstorm_model::time::Span;

use crate::arm::{Arm, Ran};

/// Twelve investigations of all domains, which read, write and attempt what their phase forbids.
pub const BUSY: &str = r"
name: busy
seed: 11
alerts:
  - flood: 12
    over: 3s
    mix: {network: 1, database: 1, application: 1, security: 1}
agents: profiles/busy.yaml
controller: {job: {ttl_after_finished: 5s}}
cluster: {nodes: 3, node: {sandbox_start: 50ms, container_start: 50ms}}
vault:
  secrets:
    network: {engine: pki, ttl: 15s}
    database: {engine: postgresql, ttl: 15s}
";

/// Agents that work for several seconds, long enough for a fault to hit them.
pub const PATIENT: &str = r"
name: patient
seed: 5
alerts:
  - flood: 8
    over: 8s
    mix: {database: 1}
agents: profiles/patient.yaml
cluster: {nodes: 3, node: {sandbox_start: 50ms, container_start: 50ms}}
vault: {secrets: {database: {engine: postgresql, ttl: 20s}}}
";

/// What agents did, by investigation, without timestamps.
pub fn deeds(ran: &Ran) -> Vec<String> {
    let deed = |event: &Event| {
        let id = event.inv?;
        match &event.fact {
            fact @ (Fact::Hypothesis { .. }
            | Fact::Acted { .. }
            | Fact::Denied { .. }
            | Fact::Ended { .. }) => Some(format!("{id} {fact:?}")),
            Fact::LeaseIssued { domain, .. } => Some(format!("{id} lease for {domain}")),
            _ => None,
        }
    };
    let mut all: Vec<String> = ran.events.iter().filter_map(deed).collect();
    all.sort();
    all
}

/// Checks that every alert and every lease has ended.
pub fn accounts_for_all(ran: &Ran) {
    let (accounting, leases) = (ran.measures.accounting, ran.measures.leases());
    let tokens = ran.measures.tokens();
    assert!(tokens.balances(), "{tokens:?}");
    assert!(accounting.balances(), "{accounting:?}");
    assert_eq!(accounting.alerts, ran.plan.alerts_expected());
    assert_eq!(accounting.unfinished, 0, "{accounting:?}");
    assert!(leases.balances() && leases.active == 0, "{leases:?}");
}

fn outcomes(ran: &Ran) -> BTreeMap<Outcome, u64> {
    let count = |outcome: &Outcome| (*outcome, ran.measures.outcome(*outcome));
    Outcome::ALL.iter().map(count).filter(|(_, count)| *count > 0).collect()
}

pub fn every_investigation_passes_its_stages_in_order(arm: Arm) {
    let ran = arm.run(BUSY, &[]);
    accounts_for_all(&ran);
    let mut at: BTreeMap<InvestigationId, BTreeMap<Stage, u64>> = BTreeMap::new();
    for event in &ran.events {
        if let (Some(id), Fact::Stage { stage }) = (event.inv, &event.fact) {
            let known = at.entry(id).or_default().insert(*stage, event.at.0);
            assert_eq!(known, None, "{id} reached {stage} twice");
        }
    }
    assert_eq!(at.len(), 12);
    for (id, stages) in &at {
        // Two chains, because the pod's status can lag behind its agent by a relist period.
        let chains: [&[Stage]; 2] = [
            &[Stage::Admitted, Stage::JobCreated, Stage::JobFinished, Stage::JobCollected],
            &[
                Stage::PodCreated,
                Stage::PodScheduled,
                Stage::VaultLogin,
                Stage::CredentialsReady,
                Stage::AgentDone,
                Stage::LeasesReleased,
                Stage::JobFinished,
            ],
        ];
        for chain in chains {
            let instants: Vec<Option<&u64>> = chain.iter().map(|s| stages.get(s)).collect();
            assert!(instants.iter().all(Option::is_some), "{id}: {stages:?}");
            assert!(instants.is_sorted(), "{id}: {stages:?}");
        }
        assert!(stages[&Stage::PodScheduled] <= stages[&Stage::PodRunning], "{id}: {stages:?}");
        assert!(stages[&Stage::PodRunning] <= stages[&Stage::JobFinished], "{id}: {stages:?}");
    }
}

pub fn every_lease_is_in_the_ledger_and_none_remains(arm: Arm) {
    let ran = arm.run(PATIENT, &[]);
    accounts_for_all(&ran);
    let leases = ran.measures.leases();
    assert_eq!((leases.issued, leases.revoked, leases.orphaned), (8, 8, 0), "{leases:?}");
    let tokens = ran.measures.tokens();
    assert_eq!((tokens.issued, tokens.revoked, tokens.orphaned), (8, 8, 0), "{tokens:?}");
    // Renewed at two thirds of its TTL, before the agent is done.
    let renewing = arm.run(PATIENT, &[("vault.secrets.database.ttl", "9s")]).measures.leases();
    assert_eq!((renewing.renewed, renewing.expired), (8, 0), "{renewing:?}");
}

pub fn what_a_phase_forbids_is_refused_by_the_server_in_charge(arm: Arm) {
    for phase in [Phase::Shadow, Phase::LimitedWrite] {
        let ran = arm.run(BUSY, &[("phase", phase.word())]);
        accounts_for_all(&ran);
        let homes: BTreeMap<InvestigationId, Domain> = ran
            .events
            .iter()
            .filter_map(|event| match event.fact {
                Fact::Alert { domain, .. } => Some((event.inv?, domain)),
                _ => None,
            })
            .collect();
        let mut refusers: BTreeSet<Refuser> = BTreeSet::new();
        for event in &ran.events {
            let Some(home) = event.inv.map(|id| homes[&id]) else { continue };
            match event.fact {
                Fact::Acted { action } => assert!(phase.allows(home, action), "{action:?}"),
                Fact::Denied { action, by } => {
                    assert!(!phase.allows(home, action), "{action:?} by {by}");
                    let credential = action.verb == Verb::Read && by == Refuser::VaultPolicy;
                    assert!(credential || by == Phase::refuser(action), "{action:?} by {by}");
                    refusers.insert(by);
                }
                _ => {}
            }
        }
        let all: BTreeSet<Refuser> = Refuser::ALL.iter().copied().collect();
        assert_eq!(refusers, all, "every server refuses something in {phase}");
        let writes = ran.measures.actions.writes;
        assert_eq!(writes > 0, phase == Phase::LimitedWrite, "{writes} writes in {phase}");
    }
    let own = Action { verb: Verb::SafeWrite, target: Domain::Network };
    assert!(Phase::LimitedWrite.allows(Domain::Network, own));
}

pub fn a_repeated_alert_starts_no_investigation(arm: Arm) {
    let alerts = "[{flood: 12, over: 2s, mix: {network: 1}, fingerprints: 3}]";
    let ran = arm.run(PATIENT, &[("alerts", alerts)]);
    accounts_for_all(&ran);
    let accounting = ran.measures.accounting;
    assert_eq!((accounting.finished, accounting.deduplicated), (3, 9), "{accounting:?}");
}

pub fn a_full_queue_sheds_and_counts_what_it_shed(arm: Arm) {
    let alerts = "[{flood: 10, over: 1s, mix: {network: 1}}]";
    let controller = "{concurrency: 2, queue: {limit: 3}}";
    let ran = arm.run(PATIENT, &[("alerts", alerts), ("controller", controller)]);
    accounts_for_all(&ran);
    let accounting = ran.measures.accounting;
    assert_eq!((accounting.finished, accounting.shed), (5, 5), "{accounting:?}");
}

pub fn a_job_ends_at_its_deadline(arm: Arm) {
    let set = [
        ("agents", "profiles/endless.yaml"),
        ("alerts", "[{flood: 3, mix: {network: 1}}]"),
        ("controller", "{job: {active_deadline: 6s}}"),
    ];
    let ran = arm.run(PATIENT, &set);
    accounts_for_all(&ran);
    assert_eq!(outcomes(&ran), BTreeMap::from([(Outcome::DeadlineExceeded, 3)]));
    let leases = ran.measures.leases();
    assert_eq!(leases.orphaned, 0, "an agent that is asked to stop revokes its leases: {leases:?}");
    let tokens = ran.measures.tokens();
    assert_eq!((tokens.revoked, tokens.orphaned), (3, 0), "and its token: {tokens:?}");
}

pub fn an_agent_over_its_memory_limit_is_killed(arm: Arm) {
    let set = [
        ("agents", "profiles/leaks.yaml"),
        ("alerts", "[{flood: 3, mix: {network: 1}}]"),
        ("vault.secrets.network.ttl", "8s"),
    ];
    let ran = arm.run(PATIENT, &set);
    accounts_for_all(&ran);
    assert_eq!(outcomes(&ran), BTreeMap::from([(Outcome::OomKilled, 3)]));
}

pub fn the_lease_of_a_crashed_agent_is_an_orphan_until_it_expires(arm: Arm) {
    let set = [
        ("agents", "profiles/crashes.yaml"),
        ("alerts", "[{flood: 4, mix: {database: 1}}]"),
        ("vault.secrets.database.ttl", "8s"),
    ];
    let ran = arm.run(PATIENT, &set);
    accounts_for_all(&ran);
    assert_eq!(outcomes(&ran), BTreeMap::from([(Outcome::Crashed, 4)]));
    let leases = ran.measures.leases();
    assert_eq!((leases.issued, leases.orphaned, leases.expired), (4, 4, 4), "{leases:?}");
    let (_, longest) = ran.measures.exposure();
    assert!((3.0..12.0).contains(&longest.as_secs_f64()), "{longest}");
}

pub fn the_token_of_a_crashed_agent_is_an_orphan_also_without_a_lease(arm: Arm) {
    let set = [
        ("agents", "profiles/crashes.yaml"),
        ("alerts", "[{flood: 4, mix: {database: 1}}]"),
        // Secrets of this engine have no lease.
        ("vault.secrets.database.engine", "kv"),
    ];
    let ran = arm.run(PATIENT, &set);
    accounts_for_all(&ran);
    let (leases, tokens) = (ran.measures.leases(), ran.measures.tokens());
    assert_eq!((leases.issued, leases.orphaned), (0, 0), "{leases:?}");
    assert_eq!((tokens.issued, tokens.orphaned), (4, 4), "{tokens:?}");
    assert_eq!(ran.measures.orphaned(), 4, "what an objective limits");
    assert!(ran.measures.token_exposure().1 > Span::ZERO);
    // Live, the harness revokes what is alive at the end.
    let is_live = ran.measures.provider.is_some();
    assert_eq!(tokens.revoked, if is_live { 4 } else { 0 }, "{tokens:?}");
}

pub fn the_token_of_a_crashed_agent_expires_in_the_ledger(arm: Arm) {
    let set = [
        ("agents", "profiles/crashes.yaml"),
        ("alerts", "[{flood: 2, mix: {database: 1}}]"),
        ("vault.token_ttl", "8s"),
        ("vault.secrets.database.ttl", "1m"),
    ];
    let ran = arm.run(PATIENT, &set);
    accounts_for_all(&ran);
    let (leases, tokens) = (ran.measures.leases(), ran.measures.tokens());
    assert_eq!(tokens.expired, 2, "{tokens:?}");
    // A lease ends with its token: Vault issues it for a minute all the same, so that it counts as
    // revoked there.
    assert_eq!(leases.expired + leases.revoked, 2, "{leases:?}");
    assert_eq!(tokens.orphaned, 2, "{tokens:?}");
}

/// Runs a scenario with one fault.
fn through(arm: Arm, fault: &str, set: &[(&str, &str)]) -> Ran {
    let faults = format!("[{{fault: {fault}, at: 3s, for: 3s}}]");
    let mut all = vec![("faults", faults.as_str())];
    all.extend_from_slice(set);
    let ran = arm.run(PATIENT, &all);
    accounts_for_all(&ran);
    ran
}

fn all_resolved(ran: &Ran) {
    assert_eq!(
        outcomes(ran),
        BTreeMap::from([(Outcome::Resolved, 8)]),
        "{:#?}",
        ran.measures.remarks
    );
}

pub fn a_restarted_controller_creates_no_second_job(arm: Arm) {
    all_resolved(&through(arm, "controller-crash", &[]));
}

pub fn an_outage_of_the_api_server_loses_nothing(arm: Arm) {
    all_resolved(&through(arm, "api-server-down", &[]));
}

pub fn an_outage_of_etcd_loses_nothing(arm: Arm) {
    all_resolved(&through(arm, "etcd-leader-loss", &[]));
}

pub fn an_outage_of_the_controller_manager_loses_nothing(arm: Arm) {
    all_resolved(&through(arm, "controller-manager-down", &[]));
}

pub fn an_outage_of_the_scheduler_loses_nothing(arm: Arm) {
    all_resolved(&through(arm, "scheduler-down", &[]));
}

pub fn an_outage_of_postgresql_loses_nothing(arm: Arm) {
    all_resolved(&through(arm, "postgres-down", &[]));
}

pub fn a_restarted_vault_with_durable_storage_keeps_its_leases(arm: Arm) {
    let ran = through(arm, "vault-restart", &[("vault.storage", "raft")]);
    all_resolved(&ran);
    let leases = ran.measures.leases();
    assert_eq!(leases.irrevocable, 0, "{leases:?}");
}

pub fn agents_wait_for_a_sealed_vault(arm: Arm) {
    all_resolved(&through(arm, "vault-sealed", &[]));
}

pub fn a_node_that_loses_power_ends_its_investigations(arm: Arm) {
    let ran = through(arm, "node-down", &[]);
    let outcomes = outcomes(&ran);
    let evicted = outcomes.get(&Outcome::Evicted).copied().unwrap_or(0);
    assert!((1..8).contains(&evicted), "{outcomes:?}");
    assert_eq!(evicted + outcomes[&Outcome::Resolved], 8, "{outcomes:?}");
}

pub fn jwt_auth_works_like_kubernetes_auth(arm: Arm) {
    let ran = arm.run(BUSY, &[("vault.auth", "jwt")]);
    accounts_for_all(&ran);
    assert_eq!(deeds(&ran), deeds(&Arm::TWIN.run(BUSY, &[])));
}

pub fn a_token_of_the_api_server_is_a_lease_like_any_other(arm: Arm) {
    // The shortest lifetime that the API server allows.
    let set = [("vault.secrets.application", "{engine: kubernetes, ttl: 10m}")];
    let ran = arm.run(BUSY, &set);
    accounts_for_all(&ran);
    assert_eq!(deeds(&ran), deeds(&Arm::TWIN.run(BUSY, &set)));
    let of_application = |event: &&Event| {
        matches!(event.fact, Fact::LeaseIssued { domain: Domain::Application, .. })
    };
    assert!(ran.events.iter().filter(of_application).count() > 0);
}

pub fn a_shared_identity_works_like_one_per_investigation(arm: Arm) {
    let ran = arm.run(BUSY, &[("identity", "shared-agent")]);
    accounts_for_all(&ran);
    assert_eq!(deeds(&ran), deeds(&Arm::TWIN.run(BUSY, &[])));
}
