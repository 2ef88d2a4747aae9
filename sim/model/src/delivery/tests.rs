//! The promises of delivery, as sentences.

use super::*;
use crate::investigation::{Domain, Severity};
use crate::scenario::knobs::{Admission, Queue, count};

/// A critical alert with a fingerprint of its own.
fn alert(id: u64) -> Alert {
    let (domain, severity) = (Domain::Network, Severity::Critical);
    Alert { id: InvestigationId(id), intended: Time::ZERO, domain, severity, fingerprint: id }
}

/// One place, and a queue of one.
fn knobs(sender_retries: u32) -> Knobs {
    let queue = Queue { limit: count(1), ..Queue::default() };
    Knobs { concurrency: count(1), queue, sender_retries, ..Knobs::default() }
}

struct Bench {
    delivery: Delivery,
    now: Time,
}

impl Bench {
    fn new(knobs: &Knobs) -> Self {
        Self { delivery: Delivery::new(knobs), now: Time::ZERO }
    }

    fn step(&mut self, input: Input) -> Vec<Action> {
        let mut actions = Vec::new();
        self.delivery.step(self.now, input, &mut actions);
        actions
    }

    /// The alerts of these numbers, one after the other.
    fn alerts(&mut self, ids: impl IntoIterator<Item = u64>) -> Vec<Action> {
        ids.into_iter().flat_map(|id| self.step(Input::Alert(alert(id)))).collect()
    }

    fn undecided(&self) -> Vec<u64> {
        self.delivery.undecided().map(|alert| alert.id.0).collect()
    }
}

fn created(actions: &[Action]) -> Vec<u64> {
    let id = |action: &Action| match action {
        Action::CreateJob { alert, .. } => Some(alert.id.0),
        _ => None,
    };
    actions.iter().filter_map(id).collect()
}

fn turned_away(actions: &[Action]) -> Vec<u64> {
    let id = |action: &Action| match action {
        Action::TurnedAway { id, .. } => Some(id.0),
        _ => None,
    };
    actions.iter().filter_map(id).collect()
}

fn shed(actions: &[Action]) -> Vec<u64> {
    let id = |action: &Action| match action {
        Action::Shed { id, .. } => Some(id.0),
        _ => None,
    };
    actions.iter().filter_map(id).collect()
}

fn finished(id: u64) -> Input {
    Input::JobFinished { id: InvestigationId(id), cost_micro_usd: 0 }
}

#[test]
fn an_alert_is_undecided_until_the_api_server_has_its_job() {
    let mut bench = Bench::new(&knobs(0));
    assert_eq!(created(&bench.alerts([0])), [0]);
    assert_eq!(bench.undecided(), [0]);
    bench.step(Input::JobFailedToCreate(InvestigationId(0)));
    assert_eq!(bench.undecided(), [0]);
    bench.step(Input::JobCreated(InvestigationId(0)));
    assert!(bench.undecided().is_empty());
}

#[test]
fn a_job_that_finishes_before_the_answer_to_its_creation_decides_its_alert() {
    let mut bench = Bench::new(&knobs(0));
    bench.alerts([0]);
    bench.step(finished(0));
    assert!(bench.undecided().is_empty());
}

#[test]
fn a_failed_creation_is_tried_again_after_a_pause() {
    let mut bench = Bench::new(&knobs(0));
    bench.alerts([0]);
    let failed = bench.step(Input::JobFailedToCreate(InvestigationId(0)));
    let [Action::WakeAt(at)] = failed[..] else { panic!("{failed:?}") };
    bench.now = at;
    assert_eq!(created(&bench.step(Input::Wake)), [0]);
}

#[test]
fn a_duplicate_is_decided_at_once() {
    let mut bench = Bench::new(&knobs(0));
    bench.alerts([0]);
    let (id, of) = (InvestigationId(1), InvestigationId(0));
    let repeat = Alert { fingerprint: 0, ..alert(1) };
    assert_eq!(bench.step(Input::Alert(repeat)), [Action::Deduplicated { id, of }]);
    assert_eq!(bench.undecided(), [0]);
}

#[test]
fn an_alert_is_shed_at_once_when_its_sender_does_not_retry() {
    let mut bench = Bench::new(&knobs(0));
    let actions = bench.alerts(0..3);
    assert_eq!((shed(&actions), turned_away(&actions)), (vec![2], vec![]));
    assert_eq!(bench.undecided(), [0, 1]);
}

#[test]
fn an_alert_is_shed_after_its_senders_last_retry() {
    let mut bench = Bench::new(&knobs(2));
    let mut actions = bench.alerts(0..3);
    for _ in 0..2 {
        assert_eq!((shed(&actions), turned_away(&actions)), (vec![], vec![2]));
        assert_eq!(bench.undecided(), [0, 1, 2]);
        actions = bench.step(Input::Retry(InvestigationId(2)));
    }
    assert_eq!((shed(&actions), turned_away(&actions)), (vec![2], vec![]));
    assert_eq!(bench.undecided(), [0, 1]);
}

#[test]
fn a_retry_is_admitted_when_there_is_room_again() {
    let mut bench = Bench::new(&knobs(1));
    bench.alerts(0..3);
    assert_eq!(created(&bench.step(finished(0))), [1]);
    assert!(created(&bench.step(finished(1))).is_empty());
    assert_eq!(created(&bench.step(Input::Retry(InvestigationId(2)))), [2]);
}

#[test]
fn a_retry_of_an_alert_that_is_decided_delivers_nothing() {
    let mut direct = knobs(0);
    direct.admission = Admission::Direct;
    let mut bench = Bench::new(&direct);
    bench.alerts([0]);
    bench.step(Input::JobCreated(InvestigationId(0)));
    assert_eq!(bench.step(Input::Retry(InvestigationId(0))), []);
}

#[test]
fn an_alert_that_is_due_while_the_controller_is_down_is_delivered_when_it_starts() {
    let mut bench = Bench::new(&knobs(0));
    bench.step(Input::ControllerCrashed);
    assert_eq!(bench.alerts([0]), []);
    assert_eq!((bench.undecided(), bench.delivery.queued()), (vec![0], 0));
    assert_eq!(created(&bench.step(Input::ControllerStarted(Vec::new()))), [0]);
}

#[test]
fn a_starting_controller_receives_every_undecided_alert_and_no_other() {
    let mut bench = Bench::new(&Knobs::default());
    bench.alerts(0..4);
    bench.step(Input::JobCreated(InvestigationId(0)));
    bench.step(Input::ControllerCrashed);
    // An answer to a request of before the crash.
    bench.step(Input::JobCreated(InvestigationId(2)));
    assert_eq!(created(&bench.step(Input::ControllerStarted(Vec::new()))), [1, 3]);
}

#[test]
fn a_job_that_a_starting_controller_finds_is_not_created_again() {
    let mut bench = Bench::new(&knobs(0));
    bench.alerts(0..2);
    bench.step(Input::ControllerCrashed);
    let found = FoundJob { alert: alert(0), finished: false };
    let actions = bench.step(Input::ControllerStarted(vec![found]));
    assert!(created(&actions).is_empty(), "the Job that was found holds the only place");
    assert_eq!(bench.undecided(), [1]);
    assert_eq!(created(&bench.step(finished(0))), [1]);
}

#[test]
fn a_job_whose_creation_is_answered_while_its_alert_is_queued_again_is_not_created_again() {
    let mut bench = Bench::new(&knobs(0));
    bench.alerts([0]);
    bench.step(Input::ControllerCrashed);
    let found = FoundJob { alert: alert(9), finished: false };
    bench.step(Input::ControllerStarted(vec![found]));
    assert_eq!(bench.delivery.queued(), 1);
    bench.step(Input::JobCreated(InvestigationId(0)));
    assert!(created(&bench.step(finished(9))).is_empty());
}

#[test]
fn a_crash_of_the_controller_gives_senders_no_retries_back() {
    let mut bench = Bench::new(&knobs(1));
    assert_eq!(turned_away(&bench.alerts(0..3)), [2]);
    bench.step(Input::ControllerCrashed);
    let actions = bench.step(Input::ControllerStarted(Vec::new()));
    assert_eq!((created(&actions), shed(&actions)), (vec![0], vec![2]));
}
