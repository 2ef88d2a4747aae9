//! What holds for every scenario: random plans, with faults, run whole.

mod common;

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use alertstorm_analysis::ledger::Ledger;
use alertstorm_analysis::measure::Measures;
use alertstorm_model::alert::Alert;
use alertstorm_model::controller::{Command, Controller, Input};
use alertstorm_model::event::{Event, Fact, Sink};
use alertstorm_model::investigation::{Domain, InvestigationId, Severity, Stage};
use alertstorm_model::phase::Phase;
use alertstorm_model::scenario::knobs::Queue;
use alertstorm_model::scenario::raw;
use alertstorm_model::time::{Span, Time};
use proptest::prelude::*;

/// Looks at every event as it comes.
#[derive(Default)]
struct Watch {
    now: Time,
    ledger: Ledger,
    jobs: BTreeMap<InvestigationId, u32>,
    pods: BTreeMap<InvestigationId, u32>,
    writes: u64,
    measures: Measures,
}

impl Sink for Watch {
    fn take(&mut self, event: &Event) {
        assert!(event.at >= self.now, "time went back");
        self.now = event.at;
        self.ledger.fold(event).expect("the ledger books every lease");
        assert!(self.ledger.counts().balances(), "{:?}", self.ledger.counts());
        match (&event.fact, event.inv) {
            (Fact::Stage { stage: Stage::JobCreated }, Some(inv)) => {
                *self.jobs.entry(inv).or_default() += 1;
            }
            (Fact::Stage { stage: Stage::PodCreated }, Some(inv)) => {
                *self.pods.entry(inv).or_default() += 1;
            }
            (Fact::Acted { action }, _) => self.writes += u64::from(action.verb.writes()),
            _ => {}
        }
        self.measures.take(event);
    }
}

/// `PROPTEST_CASES` where it is set: a longer hunt than the usual one.
fn cases(usual: u32) -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(usual)
}

fn fault() -> impl Strategy<Value = String> {
    let kinds = prop::sample::select(alertstorm_model::scenario::FaultKind::WORDS);
    (kinds, 0_u32..120, 1_u32..200).prop_map(|(kind, at, lasts)| {
        format!("  - {{fault: {kind}, at: {at}s, for: {lasts}s, extra: 20ms}}\n")
    })
}

prop_compose! {
    fn scenario()(
        (flood, over, rate, lasts) in (1_u32..60, 0_u32..60, 1_u32..90, 1_u32..4),
        (seed, phase) in (any::<u32>(), prop::sample::select(Phase::WORDS)),
        identity in prop::sample::select(&["shared-agent", "per-investigation"][..]),
        admission in prop::sample::select(&["queue", "direct"][..]),
        (concurrency, limit, dedup, retries) in (1_u32..60, 1_u32..60, 0_u32..200, 0_u32..3),
        (nodes, cores, qps, workers) in (1_u32..8, 1_u32..4, 5_u32..200, 1_u32..10),
        (auth, storage) in (
            prop::sample::select(&["kubernetes", "jwt"][..]),
            prop::sample::select(&["inmem", "raft"][..]),
        ),
        (application, ttl, token) in (
            prop::sample::select(&["kv", "kubernetes", "pki", "postgresql"][..]),
            5_u32..400,
            20_u32..900,
        ),
        (shared, present, fingerprints) in (any::<bool>(), any::<bool>(), 1_u32..50),
        (deadline, collect) in (60_u32..900, 0_u32..900),
        faults in prop::collection::vec(fault(), 0..3),
    ) -> String {
        // Two faults of a kind may overlap, which is refused: keep one of each kind.
        let mut kinds = std::collections::BTreeSet::new();
        let faults: String = faults
            .into_iter()
            .filter(|fault| kinds.insert(fault.split(',').next().map(str::to_owned)))
            .collect();
        let faults = if faults.is_empty() { String::new() } else { format!("faults:\n{faults}") };
        format!(
            "seed: {seed}\nphase: {phase}\nidentity: {identity}\n\
             alerts:\n  - {{flood: {flood}, over: {over}s, spacing: poisson}}\n\
             \x20 - {{poisson: {rate}/m, for: {lasts}m, fingerprints: {fingerprints}}}\n\
             controller:\n  admission: {admission}\n  concurrency: {concurrency}\n  \
             dedup_window: {dedup}s\n  sender_retries: {retries}\n  queue: {{limit: {limit}}}\n  \
             job: {{active_deadline: {deadline}s, ttl_after_finished: {collect}s}}\n\
             cluster:\n  nodes: {nodes}\n  node: {{image_present: {present}}}\n  control_plane:\n    \
             cores: {cores}\n    shared_with_everything: {shared}\n    controller_manager: \
             {{kube_api_qps: {qps}, kube_api_burst: 30, concurrent_job_syncs: {workers}}}\n\
             vault:\n  auth: {auth}\n  storage: {storage}\n  token_ttl: {token}s\n  secrets:\n    \
             database: {{engine: postgresql, ttl: {ttl}s}}\n    application: \
             {{engine: {application}, ttl: {ttl}s}}\n{faults}"
        )
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(96), ..ProptestConfig::default() })]

    #[test]
    fn every_scenario_accounts_for_every_alert_and_every_lease(text in scenario()) {
        let plan = common::plan(&text, &[]);
        let mut watch = Watch::default();
        common::run(&plan, &mut watch);
        let Watch { mut measures, jobs, pods, writes, ledger, .. } = watch;
        measures.close();
        prop_assert_eq!(&measures.invalid, &Vec::<String>::new());
        let accounting = measures.accounting;
        prop_assert!(accounting.balances(), "{:?}", accounting);
        // Faults end, so nothing is left over.
        prop_assert_eq!(accounting.unfinished, 0);
        prop_assert_eq!(ledger.counts().active, 0);
        prop_assert!(jobs.values().all(|jobs| *jobs == 1), "a second Job: {:?}", jobs);
        prop_assert!(pods.values().all(|pods| *pods == 1), "a second pod: {:?}", pods);
        prop_assert_eq!(jobs.len() as u64, accounting.finished);
        if matches!(plan.scenario.phase, Phase::Shadow | Phase::ReadOnlyAssist) {
            prop_assert_eq!(writes, 0);
        }
    }
}

/// What may happen to a controller between two alerts.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Comes(Domain, Severity),
    FirstFinishes,
    Crashes,
}

fn happening() -> impl Strategy<Value = Happening> {
    let comes = (prop::sample::select(Domain::ALL), prop::sample::select(Severity::ALL))
        .prop_map(|(domain, severity)| Happening::Comes(domain, severity));
    prop_oneof![6 => comes, 3 => Just(Happening::FirstFinishes), 1 => Just(Happening::Crashes)]
}

proptest! {
    #[test]
    fn a_controller_keeps_its_promises_through_crashes(
        happenings in prop::collection::vec(happening(), 1..120),
        (concurrency, limit) in (1_u32..6, 1_u32..20),
    ) {
        let count = |n| NonZeroU32::new(n).expect("not 0");
        let knobs = raw::Controller {
            concurrency: count(concurrency),
            queue: Queue { limit: count(limit), ..Queue::default() },
            dedup_window: Span::secs(30),
            ..raw::Controller::default()
        };
        let mut controller = Controller::new(&knobs);
        // The world beside it: alerts without a Job or a refusal, and Jobs by their state.
        let mut undecided: Vec<Alert> = Vec::new();
        let mut jobs: Vec<(Alert, bool)> = Vec::new();
        let mut now = Time::ZERO;
        for (n, happening) in (0_u64..).zip(happenings) {
            now += Span::secs(1);
            let mut commands = Vec::new();
            match happening {
                Happening::Comes(domain, severity) => {
                    let id = InvestigationId(n);
                    let alert = Alert { id, intended: now, domain, severity, fingerprint: n };
                    undecided.push(alert);
                    controller.step(now, Input::Alert(alert), &mut commands);
                }
                Happening::FirstFinishes => {
                    if let Some((alert, finished)) = jobs.iter_mut().find(|(_, over)| !over) {
                        *finished = true;
                        let done = Input::JobFinished { id: alert.id, cost_micro_usd: 0 };
                        controller.step(now, done, &mut commands);
                    }
                }
                Happening::Crashes => {
                    controller = Controller::new(&knobs);
                    for (alert, finished) in jobs.clone() {
                        controller.step(now, Input::FoundJob { alert, finished }, &mut commands);
                    }
                    for alert in undecided.clone() {
                        controller.step(now, Input::Alert(alert), &mut commands);
                    }
                }
            }
            for command in commands {
                let decided = match command {
                    Command::CreateJob { alert, .. } => {
                        prop_assert!(jobs.iter().all(|(job, _)| job.id != alert.id), "a second Job");
                        // Nothing more urgent of the domain that came earlier still waits.
                        let passed_over = undecided.iter().find(|other| {
                            other.domain == alert.domain
                                && other.severity < alert.severity
                                && other.id < alert.id
                        });
                        prop_assert!(passed_over.is_none(), "{passed_over:?} waits behind {alert:?}");
                        jobs.push((alert, false));
                        alert.id
                    }
                    Command::Shed { alert, .. } | Command::Deduplicate { alert, .. } => alert.id,
                    _ => continue,
                };
                undecided.retain(|alert| alert.id != decided);
            }
            let running = jobs.iter().filter(|(_, over)| !over).count();
            prop_assert!(running <= concurrency as usize);
            prop_assert!(undecided.len() <= limit as usize);
        }
    }
}
