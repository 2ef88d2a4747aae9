//! The matrix: its cases, its run on several platforms at once, and its table.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::sync::Mutex;
use std::thread;

use alertstorm_platform::provider::Program;

use crate::case::{Case, Moment, Row, World};
use crate::cluster::Outage;
use crate::fault::Fault;
use crate::place::Place;

/// Platforms that are used at the same time: a case mostly waits.
const PLACES: usize = 2;
const SERVERS: [Program; 6] = [
    Program::Etcd,
    Program::ApiServer,
    Program::ControllerManager,
    Program::Scheduler,
    Program::Vault,
    Program::Postgres,
];
const MOMENTS: [Moment; 3] = [Moment::Launch, Moment::Run, Moment::CleanUp];

const fn case(fault: Fault, moment: Moment, world: World) -> Case {
    Case { fault, moment, world }
}

/// Every fault at every moment at which it can arrive.
pub fn whole() -> Vec<Case> {
    let mut all = Vec::new();
    let mut at_each = |fault, world| {
        all.extend(MOMENTS.map(|moment| case(fault, moment, world)));
    };
    for server in SERVERS {
        at_each(Fault::Kill(server), World::Kept);
    }
    at_each(Fault::Refuses(Program::Postgres), World::Kept);
    at_each(Fault::Sealed, World::Kept);
    for status in [429, 500] {
        at_each(Fault::Answers(status), World::Kept);
    }
    at_each(Fault::Silent(6), World::Kept);
    at_each(Fault::Cut, World::Kept);
    for world in [World::Own, World::Kept] {
        at_each(Fault::Killed, world);
        at_each(Fault::Interrupted, world);
    }
    all.extend([
        // Longer than a connection may be silent.
        case(Fault::Silent(45), Moment::Run, World::Kept),
        // As long as the run.
        case(Fault::Silent(200), Moment::Run, World::Own),
        case(Fault::Gone, Moment::Run, World::Kept),
        // Which is not deleted at the clean-up, as no agent runs then.
        case(Fault::Pod, Moment::Launch, World::Kept),
        case(Fault::Pod, Moment::Run, World::Kept),
        // With the first agent, during the run, and until after its end.
        case(Fault::Node(0, 4), Moment::Launch, World::Kept),
        case(Fault::Node(3, 4), Moment::Run, World::Kept),
        case(Fault::Node(9, 60), Moment::CleanUp, World::Kept),
        // While they start.
        case(Fault::Kill(Program::Etcd), Moment::Launch, World::Own),
        case(Fault::Kill(Program::ApiServer), Moment::Launch, World::Own),
        case(Fault::Kill(Program::Vault), Moment::Verdict, World::Own),
        case(Fault::Kill(Program::ApiServer), Moment::Verdict, World::Own),
        case(Fault::Kill(Program::Postgres), Moment::Verdict, World::Own),
    ]);
    all
}

/// The faults that arrive in pods.
pub fn in_pods() -> Vec<Case> {
    let world = World::Kind;
    let mut all = vec![
        case(Fault::Shard, Moment::Run, world),
        case(Fault::Pod, Moment::Run, world),
        case(Fault::Worker(Outage::Paused), Moment::Run, world),
        case(Fault::Kill(Program::ApiServer), Moment::Run, world),
        case(Fault::Kill(Program::Vault), Moment::Run, world),
        case(Fault::ShardPod, Moment::Run, world),
        case(Fault::Shard, Moment::Launch, world),
    ];
    let plane = [Program::Etcd, Program::ApiServer, Program::ControllerManager, Program::Scheduler];
    for component in plane {
        all.extend(MOMENTS.map(|moment| case(Fault::Kill(component), moment, world)));
    }
    // At the clean-up their containers are removed.
    for sidecar in [Program::Vault, Program::Postgres] {
        let moments = [Moment::Launch, Moment::Run, Moment::Verdict];
        all.extend(moments.map(|moment| case(Fault::Kill(sidecar), moment, world)));
    }
    all.push(case(Fault::Kill(Program::ApiServer), Moment::Verdict, world));
    all.extend([Moment::Launch, Moment::Run].map(|moment| case(Fault::Sealed, moment, world)));
    for outage in [Outage::Paused, Outage::Stopped, Outage::Kubelet] {
        all.extend(MOMENTS.map(|moment| case(Fault::Worker(outage), moment, world)));
    }
    // The clean-up begins with the start of all nodes, so a stopped worker is back at once.
    all.retain(|case| {
        (case.fault, case.moment) != (Fault::Worker(Outage::Stopped), Moment::CleanUp)
    });
    for fault in [Fault::Killed, Fault::Interrupted] {
        all.extend(MOMENTS.map(|moment| case(fault, moment, world)));
    }
    let mut seen = BTreeSet::new();
    all.retain(|case| seen.insert(case.to_string()));
    all
}

/// One case for each way in which a fault arrives.
pub fn bounded() -> Vec<Case> {
    vec![
        case(Fault::Kill(Program::Etcd), Moment::Run, World::Kept),
        case(Fault::Kill(Program::Vault), Moment::CleanUp, World::Kept),
        case(Fault::Sealed, Moment::Run, World::Kept),
        case(Fault::Refuses(Program::Postgres), Moment::Launch, World::Kept),
        case(Fault::Answers(500), Moment::CleanUp, World::Kept),
        case(Fault::Gone, Moment::Run, World::Kept),
        case(Fault::Killed, Moment::CleanUp, World::Kept),
        case(Fault::Killed, Moment::Run, World::Own),
    ]
}

/// Runs cases; prints their table, and panics if something is wrong with one of them.
pub fn run(cases: &[Case]) {
    let wanted = std::env::var("ALERTSTORM_CHAOS").unwrap_or_default();
    let is_wanted = |case: &&Case| wanted.split('|').any(|part| case.to_string().contains(part));
    let cases: Vec<Case> = cases.iter().filter(is_wanted).copied().collect();
    assert!(!cases.is_empty(), "ALERTSTORM_CHAOS={wanted} names no case");
    let queue = Mutex::new(cases.iter().enumerate());
    let rows = Mutex::new(Vec::new());
    thread::scope(|scope| {
        let in_pods = cases.iter().any(|case| case.world == World::Kind);
        let places = if in_pods { 1 } else { PLACES };
        for _ in 0..places.min(cases.len()) {
            scope.spawn(|| work(&queue, &rows));
        }
    });
    let mut rows = rows.into_inner().expect("no panic");
    rows.sort_by_key(|(number, _)| *number);
    let rows: Vec<Row> = rows.into_iter().map(|(_, row)| row).collect();
    let table = markdown(&rows);
    println!("{table}");
    if let Some(path) = std::env::var_os("ALERTSTORM_CHAOS_TABLE") {
        let mut file = OpenOptions::new().append(true).create(true).open(path).expect("the table");
        file.write_all(table.as_bytes()).expect("written");
    }
    let wrong: Vec<String> = rows
        .iter()
        .flat_map(|row| row.wrong.iter().map(|wrong| format!("{}: {wrong}", row.case)))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(rows.len(), cases.len(), "a case was not run");
}

/// Takes cases from the queue, in a place of each world.
fn work<'a>(
    queue: &Mutex<impl Iterator<Item = (usize, &'a Case)>>,
    rows: &Mutex<Vec<(usize, Row)>>,
) {
    let (mut own, mut kept, mut kind) = (None, None, None);
    loop {
        let Some((number, case)) = queue.lock().expect("no panic").next() else { return };
        let place = match case.world {
            World::Own => own.get_or_insert_with(|| Place::new(World::Own)),
            World::Kept => kept.get_or_insert_with(keep),
            World::Kind => kind.get_or_insert_with(cluster),
        };
        let row = case.run(place);
        eprintln!("{}", line(&row));
        if !row.wrong.is_empty() {
            // The next case begins on a platform that is sound.
            match case.world {
                World::Own => own = None,
                World::Kept => kept = None,
                // A run begins with the repair of its cluster.
                World::Kind => {}
            }
        }
        rows.lock().expect("no panic").push((number, row));
    }
}

/// A place with a kept platform.
fn keep() -> Place {
    let mut place = Place::new(World::Kept);
    let up = place.alertstorm(&["up", "chaos.yaml"]);
    assert_eq!(up.code, Some(0), "{}", up.stderr);
    place
}

/// A place with a cluster, which its first run creates.
fn cluster() -> Place {
    let mut place = Place::new(World::Kind);
    let (first, _) = place.run(&["alerts.0.flood=1".to_owned()], Some("1"));
    let first = first.end();
    assert!(matches!(first.code, Some(0 | 4)), "{:?}: {}", first.code, first.stderr);
    place
}

fn line(row: &Row) -> String {
    let Row { case, lost, ended, took, after, wrong } = row;
    let verdict = if wrong.is_empty() { "✓" } else { "✗" };
    format!(
        "| {verdict} | {} | {} | {} | {lost} | {ended} | {:.0} s | {:.0} s |",
        case.fault,
        case.moment,
        case.world,
        after.as_secs_f64(),
        took.as_secs_f64(),
    )
}

fn markdown(rows: &[Row]) -> String {
    let head = "| | fault | moment | world | lost | how the run ended | fault to end | run |\n\
                | --- | --- | --- | --- | --- | --- | --- | --- |\n";
    let lines: String = rows.iter().map(|row| line(row) + "\n").collect();
    format!("{head}{lines}")
}
