//! An engine that took over from a shard that died, with watches and journals in any order.

use std::sync::Arc;
use std::time::Duration;

use alertstorm_agent::names::Names;
use alertstorm_analysis::measure::Measures;
use alertstorm_model::event::{Event, Fact};
use alertstorm_model::investigation::{Domain, InvestigationId, Outcome, Severity, Stage};
use alertstorm_model::scenario::{NoFiles, Part, Plan, load};
use alertstorm_platform::reach::Reach;
use alertstorm_platform::{Agents, PodSpec};
use kube::Client;
use kube::client::Body;

use super::*;
use crate::reporter::{Clock, Finished, Inbox, WatchEvent};
use crate::shard::{Memory, OpenMemory};

const ID: InvestigationId = InvestigationId(0);

struct NoHost;

impl Host for NoHost {
    fn fault(&self, _: usize, _: bool) {}

    fn check_processes(&self) {}

    fn sample(&self) {}
}

const ONE: &str = "alerts: [{flood: 1}]";

/// A plan of one alert, and the Jobs of an API server that never answers.
fn plan_and_jobs(plan: &str) -> (Arc<Plan>, Arc<Jobs>, Reporter, Inbox) {
    let plan = load(plan, "plan", &[], &NoFiles);
    let plan = Arc::new(plan.unwrap_or_else(|problems| panic!("{problems:?}")));
    let silent = tower::service_fn(|_: http::Request<Body>| async {
        std::future::pending::<Result<http::Response<Body>, std::io::Error>>().await
    });
    let client = Client::new(silent, "default");
    let (reporter, inbox) = Reporter::new(Clock::default());
    reporter.clock().start(tokio::time::Instant::now());
    let pods = Agents::Pods(Box::new(PodSpec {
        image: "agent".to_owned(),
        vault: "http://127.0.0.1:8200".to_owned(),
        vault_ca: String::new(),
        vault_namespace: None,
        postgres: alertstorm_agent::postgres::Address::plain(([127, 0, 0, 1], 5432).into()),
        reach: Reach::default(),
    }));
    let names = Names::of_run(&"a1".parse().expect("an id"));
    let jobs =
        Jobs::new(Arc::clone(&plan), names, client.into(), pods, reporter.clone(), Part::WHOLE);
    (plan, jobs, reporter, inbox)
}

/// What the shard reported before it died: the pod is scheduled, and not yet shown as running.
fn before() -> (Vec<Event>, Memory) {
    let alert =
        Fact::Alert { intended: Time::ZERO, domain: Domain::Network, severity: Severity::Low };
    let stages = [Stage::Admitted, Stage::JobCreated, Stage::PodCreated, Stage::PodScheduled];
    let stages: Vec<_> = stages.into_iter().zip((1..).map(Time)).collect();
    let mut reported =
        vec![Event::of(Time::ZERO, ID, alert), Event::of(Time(1), ID, Fact::JobSent)];
    reported.extend(stages.iter().map(|&(stage, at)| Event::of(at, ID, Fact::Stage { stage })));
    let open = OpenMemory { sent: Some(Time(1)), stages, ..OpenMemory::new(ID) };
    (reported, Memory { open: vec![open], ..Memory::default() })
}

/// The measures of a run whose second shard receives `observations`.
async fn succeeded_by(
    memory: &Memory,
    reported: Vec<Event>,
    observations: Vec<Observation>,
) -> Measures {
    let (plan, jobs, reporter, mut inbox) = plan_and_jobs(ONE);
    let mut events = reported;
    let (selector, book) = (jobs.selector(), LeaseBook::new(reporter.clone()));
    let mut engine = Engine::new(plan, &mut events, reporter.clone(), jobs, selector, book, true);
    tokio::time::advance(Duration::from_secs(5)).await;
    engine.resume(Part::WHOLE, memory, &[(ID, true)]);
    observations.into_iter().for_each(|observation| reporter.send(observation));
    engine.close(&mut inbox, &NoHost);
    drop(engine);
    events.sort_by_key(|event| event.at);
    let mut measures = Measures::default();
    events.iter().for_each(|event| measures.take(event));
    measures.close();
    measures
}

fn seconds(n: u64) -> Time {
    Time::ZERO + Span::secs(n)
}

fn job(at: Time) -> Observation {
    Observation::Watch { event: WatchEvent::Job { id: ID, finished: Some(Finished::Complete) }, at }
}

fn pod(at: Time) -> Observation {
    Observation::Watch { event: WatchEvent::Pod { id: ID, scheduled: true, has_run: true }, at }
}

/// The watches' messages and then the journal make a valid run.
async fn resolves((reported, memory): (Vec<Event>, Memory), mut shown: Vec<Observation>) {
    let outcome = Outcome::Resolved;
    shown.push(Observation::Fact(Event::of(seconds(4), ID, Fact::Ended { outcome })));
    shown.push(Observation::JournalRead(ID));
    let measures = succeeded_by(&memory, reported, shown).await;
    assert_eq!(measures.invalid, Vec::<String>::new());
    assert_eq!(measures.outcome(Outcome::Resolved), 1);
    assert_eq!(measures.accounting.finished, 1);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_the_watch_shows_after_its_job_finished_ran_before() {
    resolves(before(), vec![job(seconds(6)), pod(seconds(7))]).await;
}

#[tokio::test(start_paused = true)]
async fn a_job_is_collected_after_it_finished_even_if_its_journal_arrives_last() {
    let gone = Observation::Watch { event: WatchEvent::JobDeleted(ID), at: seconds(7) };
    resolves(before(), vec![pod(seconds(5)), job(seconds(6)), gone]).await;
}

#[tokio::test(start_paused = true)]
async fn a_finished_job_waits_for_its_journal_even_if_no_watch_has_shown_its_pod() {
    let (mut reported, mut memory) = before();
    memory.open[0].stages.truncate(2);
    reported.truncate(4);
    resolves((reported, memory), vec![job(seconds(6)), pod(seconds(7))]).await;
}

#[tokio::test(start_paused = true)]
async fn a_remark_names_the_agent_whose_journal_never_arrives() {
    let (reported, memory) = before();
    let observations = vec![pod(seconds(5)), job(seconds(6)), Observation::JournalMissing(ID)];
    let measures = succeeded_by(&memory, reported, observations).await;
    assert_eq!(measures.invalid, Vec::<String>::new());
    assert_eq!(measures.accounting.finished, 1);
    assert!(measures.remarks.iter().any(|remark| remark.contains("no journal received")));
}

#[tokio::test(start_paused = true)]
async fn a_job_of_kwoks_that_completed_is_resolved_also_if_the_stage_is_answered_later() {
    let plan = "{alerts: [{flood: 1}], cluster: {node: {runtime: kwok}}}";
    let (plan, jobs, reporter, mut inbox) = plan_and_jobs(plan);
    let mut events: Vec<Event> = Vec::new();
    let book = LeaseBook::new(reporter.clone());
    let due = plan.alerts().next().expect("an alert");
    let mut engine =
        Engine::new(plan, &mut events, reporter.clone(), jobs, String::new(), book, false);
    let outcome = Outcome::Resolved;
    let ended = Observation::Fact(Event::of(seconds(3), ID, Fact::Ended { outcome }));
    let messages = [Observation::Due(due), job(seconds(2)), ended];
    messages.into_iter().for_each(|message| reporter.send(message));
    engine.close(&mut inbox, &NoHost);
    drop(engine);
    let ended: Vec<_> =
        events.iter().filter(|event| matches!(event.fact, Fact::Ended { .. })).collect();
    assert_eq!((ended[0].at, &ended[0].fact), (seconds(2), &Fact::Ended { outcome }));
    assert_eq!(ended.len(), 1);
    let ran = Fact::Stage { stage: Stage::PodRunning };
    assert!(events.iter().any(|event| event.fact == ran), "its pod ran");
}
