//! Tests of the controller.

use super::*;
use crate::investigation::{Domain, Severity};
use crate::scenario::knobs::{CostBudget as CostKnobs, Positive, Queue as QueueKnobs, count};

fn alert(id: u64, domain: Domain, severity: Severity) -> Alert {
    let id = InvestigationId(id);
    Alert { id, intended: Time::ZERO, domain, severity, fingerprint: id.0 }
}

fn knobs(concurrency: u32, limit: u32) -> Knobs {
    let queue = QueueKnobs { limit: count(limit), ..QueueKnobs::default() };
    Knobs { concurrency: count(concurrency), queue, ..Knobs::default() }
}

struct Bench {
    controller: Controller,
    now: Time,
}

impl Bench {
    fn new(knobs: &Knobs) -> Self {
        Self { controller: Controller::new(knobs), now: Time::ZERO }
    }

    fn tell(&mut self, input: Input) -> Vec<Command> {
        let mut commands = Vec::new();
        self.controller.step(self.now, input, &mut commands);
        commands
    }

    fn finish(&mut self, id: u64) -> Vec<u64> {
        let done = Input::JobFinished { id: InvestigationId(id), cost_micro_usd: 1_000_000 };
        created(&self.tell(done))
    }
}

fn created(commands: &[Command]) -> Vec<u64> {
    let id = |command: &Command| match command {
        Command::CreateJob { alert, .. } => Some(alert.id.0),
        _ => None,
    };
    commands.iter().filter_map(id).collect()
}

fn shed(commands: &[Command]) -> Vec<u64> {
    let id = |command: &Command| match command {
        Command::Shed { alert, .. } => Some(alert.id.0),
        _ => None,
    };
    commands.iter().filter_map(id).collect()
}

#[test]
fn the_concurrency_budget_is_never_exceeded() {
    let mut bench = Bench::new(&knobs(2, 10));
    let all: Vec<u64> = (0..5)
        .flat_map(|id| {
            created(&bench.tell(Input::Alert(alert(id, Domain::Network, Severity::Low))))
        })
        .collect();
    assert_eq!(all, [0, 1]);
    assert_eq!(bench.finish(0), [2]);
    assert_eq!(bench.controller.running(), 2);
}

#[test]
fn a_full_queue_sheds_the_lowest_severity_first() {
    let mut bench = Bench::new(&knobs(1, 2));
    bench.tell(Input::Alert(alert(0, Domain::Network, Severity::Low)));
    bench.tell(Input::Alert(alert(1, Domain::Network, Severity::High)));
    bench.tell(Input::Alert(alert(2, Domain::Database, Severity::Low)));
    let commands = bench.tell(Input::Alert(alert(3, Domain::Network, Severity::Critical)));
    assert_eq!(shed(&commands), [2]);
    let commands = bench.tell(Input::Alert(alert(4, Domain::Security, Severity::Medium)));
    assert_eq!(shed(&commands), [4], "the newcomer is the least urgent");
}

#[test]
fn back_pressure_ends_at_the_low_water_mark_and_not_before() {
    let mut small = knobs(1, 4);
    small.queue.low_water = crate::quantity::Share(0.5);
    let mut bench = Bench::new(&small);
    let on = |commands: &[Command]| {
        commands.iter().find_map(|command| match command {
            Command::Pressure(on) => Some(*on),
            _ => None,
        })
    };
    for id in 0..5 {
        bench.tell(Input::Alert(alert(id, Domain::Network, Severity::Medium)));
    }
    let full = bench.tell(Input::Alert(alert(5, Domain::Network, Severity::Medium)));
    assert_eq!((shed(&full), on(&full)), (vec![5], Some(true)));
    bench.finish(0);
    let still = bench.tell(Input::Alert(alert(6, Domain::Network, Severity::Medium)));
    assert_eq!(shed(&still), [6], "three of four wait, above the low-water mark");
    let done = Input::JobFinished { id: InvestigationId(1), cost_micro_usd: 0 };
    assert_eq!(on(&bench.tell(done)), Some(false));
    let after = bench.tell(Input::Alert(alert(7, Domain::Network, Severity::Medium)));
    assert!(shed(&after).is_empty());
}

#[test]
fn one_domain_cannot_starve_the_rest() {
    let mut bench = Bench::new(&knobs(1, 100));
    bench.tell(Input::Alert(alert(0, Domain::Network, Severity::Critical)));
    for id in 1..50 {
        bench.tell(Input::Alert(alert(id, Domain::Network, Severity::Critical)));
    }
    bench.tell(Input::Alert(alert(50, Domain::Security, Severity::Low)));
    let mut next = 0;
    let place = (1..=50).position(|_| {
        next = bench.finish(next)[0];
        next == 50
    });
    assert!(place.is_some_and(|n| n < Domain::COUNT), "security went {place:?}th");
}

#[test]
fn a_repeat_within_the_window_is_the_same_alert_and_after_it_is_not() {
    let mut bench = Bench::new(&knobs(10, 10));
    let mut repeat = alert(1, Domain::Network, Severity::Low);
    bench.tell(Input::Alert(alert(0, Domain::Network, Severity::Low)));
    repeat.fingerprint = 0;
    let commands = bench.tell(Input::Alert(repeat));
    let of = InvestigationId(0);
    assert_eq!(commands, [Command::Deduplicate { alert: repeat, of }]);
    bench.now += Span::secs(301);
    assert_eq!(created(&bench.tell(Input::Alert(repeat))), [1]);
}

#[test]
fn a_restarted_controller_never_starts_a_second_job() {
    let knobs = knobs(10, 10);
    let mut bench = Bench::new(&knobs);
    let first = alert(0, Domain::Network, Severity::Low);
    bench.tell(Input::Alert(first));
    bench.controller = Controller::new(&knobs);
    bench.tell(Input::FoundJob { alert: first, finished: false });
    assert!(created(&bench.tell(Input::Alert(first))).is_empty());
    assert_eq!(bench.controller.running(), 1, "it still counts against the budget");
}

#[test]
fn the_cost_budget_holds_until_its_window_is_over() {
    let mut dear = knobs(10, 10);
    dear.cost_budget = Some(CostKnobs {
        usd: Positive(2.0),
        per: Span::secs(60),
        reserve_usd: crate::quantity::Amount(1.0),
    });
    let mut bench = Bench::new(&dear);
    let mut commands = Vec::new();
    for id in 0..3 {
        commands.extend(bench.tell(Input::Alert(alert(id, Domain::Network, Severity::Low))));
    }
    assert_eq!(created(&commands), [0, 1]);
    assert!(commands.contains(&Command::WakeAt(Time::ZERO + Span::secs(60))));
    bench.finish(0);
    bench.finish(1);
    bench.now = Time::ZERO + Span::secs(60);
    assert_eq!(created(&bench.tell(Input::Wake)), [2]);
}

#[test]
fn direct_admission_creates_at_once_and_a_cancel_deletes() {
    let mut direct = knobs(1, 1);
    direct.admission = Admission::Direct;
    let mut bench = Bench::new(&direct);
    let all: Vec<u64> = (0..9)
        .flat_map(|id| {
            created(&bench.tell(Input::Alert(alert(id, Domain::Network, Severity::Low))))
        })
        .collect();
    assert_eq!(all.len(), 9);
    let cancel = bench.tell(Input::Cancel(InvestigationId(3)));
    assert_eq!(cancel, [Command::DeleteJob(InvestigationId(3))]);
}
