//! Properties of every scenario: random plans with faults, run to their end.

mod common;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU32;

use alertstorm_analysis::ledger::Ledger;
use alertstorm_analysis::measure::{Measures, Reading};
use alertstorm_model::alert::Alert;
use alertstorm_model::delivery::{Action, Delivery, FoundJob, Input};
use alertstorm_model::event::{Event, Fact, Sink};
use alertstorm_model::investigation::{Domain, InvestigationId, Outcome, Severity, Stage};
use alertstorm_model::phase::Phase;
use alertstorm_model::scenario::knobs::{self, Queue};
use alertstorm_model::time::{Span, Time};
use proptest::prelude::*;

/// Checks every event as it occurs.
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
        self.ledger.fold(event).expect("the ledger accepts every event");
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

/// `PROPTEST_CASES` if it is set, for a longer search than usual.
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
        // Faults of the same kind must not overlap: keep one of each kind.
        let mut kinds = BTreeSet::new();
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
        // All faults end, so every investigation finishes.
        prop_assert_eq!(accounting.unfinished, 0);
        prop_assert_eq!(ledger.counts().active, 0);
        prop_assert!(jobs.values().all(|jobs| *jobs == 1), "a second Job: {:?}", jobs);
        prop_assert!(pods.values().all(|pods| *pods == 1), "a second pod: {:?}", pods);
        prop_assert_eq!(jobs.len() as u64, accounting.finished);
        if matches!(plan.scenario().phase, Phase::Shadow | Phase::ReadOnlyAssist) {
            prop_assert_eq!(writes, 0);
        }
    }
}

/// Keeps every event.
#[derive(Default)]
struct Log(Vec<Event>);

impl Sink for Log {
    fn take(&mut self, event: &Event) {
        self.0.push(event.clone());
    }
}

/// The same run, in which one investigation came to nothing after so many of its events; or in which
/// its alert was shed.
fn without(events: &[Event], victim: InvestigationId, kept: usize, shed: bool) -> Vec<Event> {
    let kept = if shed { 1 } else { kept };
    let mut seen = 0;
    let mut all = Vec::new();
    for event in events {
        let own = event.inv == Some(victim);
        seen += usize::from(own);
        if own && seen > kept {
            continue;
        }
        all.push(event.clone());
        if own && shed && seen == 1 {
            all.push(Event::of(event.at, victim, Fact::Shed { retry_after: Span::ZERO }));
        }
    }
    all
}

fn folded(events: &[Event]) -> Measures {
    let mut measures = Measures::default();
    events.iter().for_each(|event| measures.take(event));
    measures.close();
    measures
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(64), ..ProptestConfig::default() })]

    #[test]
    fn what_fails_improves_no_latency_and_no_share(
        text in scenario(),
        victims in prop::collection::vec((any::<u16>(), 1_usize..20, any::<bool>()), 1..8),
    ) {
        let mut log = Log::default();
        common::run(&common::plan(&text, &[]), &mut log);
        let before = folded(&log.0);
        let mut events = log.0;
        for (which, kept, shed) in victims {
            let refused = |event: &&Event| {
                matches!(event.fact, Fact::Deduplicated { .. } | Fact::Shed { .. })
            };
            let refused: BTreeSet<_> = events.iter().filter(refused).map(|of| of.inv).collect();
            let all: BTreeSet<InvestigationId> = events
                .iter()
                .filter(|event| !refused.contains(&event.inv))
                .filter_map(|event| event.inv)
                .collect();
            if let Some(victim) = all.iter().nth(usize::from(which) % all.len().max(1)) {
                events = without(&events, *victim, kept, shed);
            }
        }
        let after = folded(&events);
        for &stage in &Stage::ALL[1..] {
            for q in [0.0, 0.5, 0.9, 0.95, 0.99, 1.0] {
                let read = |of: &Measures| {
                    of.latencies.to(stage).at(q).map_or(f64::INFINITY, Reading::or_infinite)
                };
                // Nobody needed the stage.
                if before.latencies.to(stage).attempted() > 0 {
                    // Histograms have three digits.
                    prop_assert!(read(&after) >= read(&before) * 0.998, "{stage} {q}");
                }
            }
        }
        let resolved = |of: &Measures| of.accounting.share(of.outcome(Outcome::Resolved));
        prop_assert!(resolved(&after) <= resolved(&before));
        prop_assert!(after.not_investigated().total() >= before.not_investigated().total());
        prop_assert_eq!(after.accounting.wanted(), before.accounting.wanted());
    }
}

/// What may happen within a second.
#[derive(Clone, Copy, Debug)]
enum Happening {
    AlertIsDue(Domain, Severity),
    /// The next answer to a creation arrives.
    AnswerArrives,
    /// The next creation does not reach the API server.
    CreationFails,
    FirstJobFinishes,
    ControllerCrashes,
    ControllerStarts,
}

fn happening() -> impl Strategy<Value = Happening> {
    let due = (prop::sample::select(Domain::ALL), prop::sample::select(Severity::ALL))
        .prop_map(|(domain, severity)| Happening::AlertIsDue(domain, severity));
    prop_oneof![
        8 => due,
        4 => Just(Happening::AnswerArrives),
        1 => Just(Happening::CreationFails),
        4 => Just(Happening::FirstJobFinishes),
        1 => Just(Happening::ControllerCrashes),
        2 => Just(Happening::ControllerStarts),
    ]
}

/// The world around senders and controller: an API server whose answers take their time.
struct World {
    delivery: Delivery,
    now: Time,
    is_up: bool,
    creation_fails: bool,
    /// Jobs of the API server, and whether they are finished.
    jobs: BTreeMap<InvestigationId, (Alert, bool)>,
    answers: VecDeque<InvestigationId>,
    /// Places that the controller gave to alerts whose Job could not be created yet.
    failed: BTreeSet<InvestigationId>,
    retries: Vec<(Time, InvestigationId)>,
    turned_away: BTreeSet<InvestigationId>,
    refused: BTreeSet<InvestigationId>,
}

impl World {
    fn new(knobs: &knobs::Controller) -> Self {
        Self {
            delivery: Delivery::new(knobs),
            now: Time::ZERO,
            is_up: true,
            creation_fails: false,
            jobs: BTreeMap::new(),
            answers: VecDeque::new(),
            failed: BTreeSet::new(),
            retries: Vec::new(),
            turned_away: BTreeSet::new(),
            refused: BTreeSet::new(),
        }
    }

    fn step(&mut self, input: Input) -> Result<(), TestCaseError> {
        let mut actions = Vec::new();
        self.delivery.step(self.now, input, &mut actions);
        prop_assert!(self.is_up || actions.is_empty(), "{actions:?} while it is down");
        for action in actions {
            match action {
                Action::CreateJob { alert, .. } => self.create_job(alert)?,
                Action::Deduplicated { id, .. } | Action::Shed { id, .. } => {
                    prop_assert!(!self.jobs.contains_key(&id), "{id} has a Job");
                    prop_assert!(self.refused.insert(id), "{id} is refused twice");
                }
                Action::TurnedAway { id, retry_after } => {
                    self.turned_away.insert(id);
                    self.retries.push((self.now + retry_after, id));
                }
                Action::DeleteJob(_) | Action::WakeAt(_) | Action::Pressure(_) => {}
            }
        }
        Ok(())
    }

    fn create_job(&mut self, alert: Alert) -> Result<(), TestCaseError> {
        prop_assert!(!self.jobs.contains_key(&alert.id), "a second Job");
        let is_queued = |id: &InvestigationId| {
            !(self.jobs.contains_key(id)
                || self.failed.contains(id)
                || self.turned_away.contains(id))
        };
        let is_ahead = |other: &Alert| {
            other.domain == alert.domain && other.severity < alert.severity && other.id < alert.id
        };
        let passed_over =
            self.delivery.undecided().filter(|other| is_queued(&other.id)).copied().find(is_ahead);
        prop_assert!(passed_over.is_none(), "{passed_over:?} waits behind {alert:?}");
        if std::mem::take(&mut self.creation_fails) {
            self.failed.insert(alert.id);
            return self.step(Input::JobFailedToCreate(alert.id));
        }
        self.failed.remove(&alert.id);
        self.jobs.insert(alert.id, (alert, false));
        self.answers.push_back(alert.id);
        Ok(())
    }

    fn happens(&mut self, happening: Happening, number: u64) -> Result<(), TestCaseError> {
        match happening {
            Happening::AlertIsDue(domain, severity) => {
                let (id, fingerprint) = (InvestigationId(number), number % 20);
                let alert = Alert { id, intended: self.now, domain, severity, fingerprint };
                self.step(Input::Alert(alert))
            }
            Happening::AnswerArrives => {
                let answer = self.answers.pop_front();
                answer.map_or(Ok(()), |id| self.step(Input::JobCreated(id)))
            }
            Happening::CreationFails => {
                self.creation_fails = true;
                Ok(())
            }
            Happening::FirstJobFinishes => {
                let first = self.jobs.values_mut().find(|(_, finished)| !finished);
                let Some((Alert { id, .. }, finished)) = first else { return Ok(()) };
                *finished = true;
                let finished = Input::JobFinished { id: *id, cost_micro_usd: 0 };
                self.step(finished)
            }
            Happening::ControllerCrashes => {
                self.is_up = false;
                self.failed.clear();
                self.step(Input::ControllerCrashed)
            }
            Happening::ControllerStarts if self.is_up => Ok(()),
            Happening::ControllerStarts => {
                self.is_up = true;
                let jobs = self.jobs.values();
                let jobs = jobs.map(|&(alert, finished)| FoundJob { alert, finished }).collect();
                self.step(Input::ControllerStarted(jobs))
            }
        }
    }

    /// A second later: the controller wakes, and senders whose pause is over retry.
    fn second(&mut self) -> Result<(), TestCaseError> {
        self.now += Span::secs(1);
        self.step(Input::Wake)?;
        let now = self.now;
        let due: Vec<_> = self.retries.extract_if(.., |(at, _)| *at <= now).collect();
        due.into_iter().try_for_each(|(_, id)| self.step(Input::Retry(id)))
    }
}

proptest! {
    #[test]
    fn no_alert_is_lost_and_none_has_two_jobs_through_crashes_of_the_controller(
        happenings in prop::collection::vec(happening(), 1..160),
        (concurrency, limit, sender_retries) in (1_u32..6, 1_u32..20, 0_u32..3),
    ) {
        let count = |n| NonZeroU32::new(n).expect("not 0");
        let knobs = knobs::Controller {
            concurrency: count(concurrency),
            queue: Queue { limit: count(limit), ..Queue::default() },
            dedup_window: Span::secs(30),
            sender_retries,
            ..knobs::Controller::default()
        };
        let mut world = World::new(&knobs);
        let mut came = BTreeSet::new();
        for (number, happening) in (0..).zip(happenings) {
            world.second()?;
            world.happens(happening, number)?;
            if matches!(happening, Happening::AlertIsDue(..)) {
                came.insert(InvestigationId(number));
            }
            let running = world.jobs.values().filter(|(_, finished)| !finished).count();
            prop_assert!(running <= concurrency as usize);
            prop_assert!(world.delivery.queued() <= limit as usize);
            let undecided = world.delivery.undecided().map(|alert| alert.id);
            let decided = world.refused.iter().chain(world.jobs.keys()).copied();
            let accounted: BTreeSet<_> = decided.chain(undecided).collect();
            prop_assert_eq!(&accounted, &came);
        }
        // Time enough for every Job to finish and every retry to come.
        world.happens(Happening::ControllerStarts, 0)?;
        for _ in 0..2_000 {
            world.second()?;
            world.happens(Happening::AnswerArrives, 0)?;
            world.happens(Happening::FirstJobFinishes, 0)?;
        }
        let undecided: Vec<_> = world.delivery.undecided().collect();
        prop_assert!(undecided.is_empty(), "{undecided:?}");
    }
}
