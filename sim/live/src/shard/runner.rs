//! The program in a shard's pod: runs the engine on its part of the plan. It connects only to the
//! API server, and writes its messages to its log.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use alertstorm_agent::trust;
use alertstorm_model::event::Fact;
use alertstorm_model::investigation::InvestigationId;
use alertstorm_model::scenario::{FaultKind, Indivisible, Part, Plan};
use alertstorm_platform::Agents;
use alertstorm_platform::bearer::{self, Bearer};
use alertstorm_platform::call;
use alertstorm_platform::connection::{ConnectionError, Lanes};
use futures::future::LocalBoxFuture;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::manifests::{self, ORDERS};
use super::wire::{Begin, LagsSoFar, Memory, Orders, ShardMessage, Wire};
use crate::agent_reports::AgentReports;
use crate::alerts::Alerts;
use crate::engine::{self, Engine, Host, RunLoop};
use crate::jobs::Jobs;
use crate::pods::Pods;
use crate::reporter::{Clock, Observation, Reporter, wall};
use crate::task::guarded;
use crate::usage::{harness_cpu, resident_max};
use crate::{faults, watch, watchdog};

/// The period of polling for the fleet's answer.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// The period of messages about delays.
const LAGS_EVERY: Duration = Duration::from_secs(2);
/// How long requests to the API server are retried.
const PATIENCE: Duration = Duration::from_secs(120);

/// Why a shard cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    /// A file or a variable of a shard's pod is missing.
    #[error("failed to read {0}; `shard` runs only in the pod of a shard")]
    Missing(String),
    /// The plan differs from the fleet's.
    #[error(
        "the shard's plan has the digest {here}, and the run's plan has {run}; the shard's image may be of another version"
    )]
    OtherPlan {
        /// The digest of the shard's plan.
        here: String,
        /// The digest of the run's plan.
        run: String,
    },
    /// The plan cannot be divided into shards.
    #[error(transparent)]
    Indivisible(#[from] Indivisible),
    /// No client of the API server could be built.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The API server's certificate authority is invalid.
    #[error("the certificate authority of the API server is invalid")]
    Authority(#[from] rustls::Error),
    /// A request to the API server still failed after its retries.
    #[error("a request to the API server failed")]
    Api(#[from] kube::Error),
    /// The fleet's answer or the orders are malformed.
    #[error("failed to parse a message of the fleet")]
    Answer(#[from] serde_json::Error),
}

/// A shard makes only the crashes of its own controller; the fleet makes the other faults.
struct OwnFaults {
    plan: Arc<Plan>,
    reporter: Reporter,
    restart: Box<dyn Fn() + Send + Sync>,
}

impl Host for OwnFaults {
    fn fault(&self, number: usize, begins: bool) {
        match (self.plan.faults()[number].kind, begins) {
            (FaultKind::ControllerCrash, true) => {
                self.reporter.send(Observation::ControllerCrashes)
            }
            (FaultKind::ControllerCrash, false) => (self.restart)(),
            _ => {}
        }
    }

    fn check_processes(&self) {}

    fn sample(&self) {}
}

fn variable(name: &str) -> Result<String, RunnerError> {
    std::env::var(name)
        .map_err(|_| RunnerError::Missing(format!("the environment variable {name}")))
}

fn file(path: &str) -> Result<String, RunnerError> {
    std::fs::read_to_string(path).map_err(|_| RunnerError::Missing(path.to_owned()))
}

/// Reads the orders of a shard from its plan's folder.
///
/// # Errors
/// If the file is missing or malformed.
pub fn orders(folder: &Path) -> Result<Orders, RunnerError> {
    Ok(serde_json::from_str(&file(&folder.join(ORDERS).display().to_string())?)?)
}

/// Runs the shard of this pod.
///
/// # Errors
/// [`RunnerError`].
pub fn run(plan: Plan, orders: Orders) -> LocalBoxFuture<'static, Result<(), RunnerError>> {
    let seed = orders.seed;
    Box::pin(run_plan(plan.with_seed(seed), orders))
}

async fn run_plan(plan: Plan, orders: Orders) -> Result<(), RunnerError> {
    if plan.digest() != orders.plan {
        return Err(RunnerError::OtherPlan { here: plan.digest().to_owned(), run: orders.plan });
    }
    let index = variable("JOB_COMPLETION_INDEX")?;
    let part = index.parse().ok().and_then(|index| Part::new(index, orders.of));
    let part =
        part.ok_or_else(|| RunnerError::Missing("a valid JOB_COMPLETION_INDEX".to_owned()))?;
    let plan = Arc::new(part.of_plan(&plan)?);
    let lanes = lanes(&plan)?;
    let token_file = format!("{}/kubernetes", manifests::TOKENS);
    let bearer = Bearer::new(file(&token_file)?.trim()).map_err(ConnectionError::from)?;
    let backend = lanes.caller_of("backend", &bearer, orders.names.namespace());
    let client = backend.client().clone();
    let wire = Wire::default();
    wire.send(ShardMessage::Hello { shard: part.index() });
    let begin = begin(&client, part).await?;
    wire.send(ShardMessage::Began { sent: begin.sent, read: wall() });

    let (reporter, mut inbox) = Reporter::new(Clock::default());
    reporter.clock().start(instant_of(begin.zero));
    let agent_reports = AgentReports::new(reporter.clone(), Some(wire.clone()));
    let agents = Agents::Pods(Box::new(orders.pods));
    let (book, mut sink) = (agent_reports.book.clone(), wire.clone());
    let jobs =
        Jobs::new(Arc::clone(&plan), orders.names.clone(), backend, agents, reporter.clone(), part);
    let selector = jobs.selector();
    let mut known: BTreeSet<InvestigationId> =
        begin.memory.iter().flat_map(Memory::investigations).collect();
    let mut engine = Engine::new(
        Arc::clone(&plan),
        &mut sink,
        reporter.clone(),
        Arc::clone(&jobs),
        selector.clone(),
        book,
        true,
    );
    let mut tasks = JoinSet::new();
    let failing = reporter.clone();
    let reading = async move {
        let failed = |error: &str| failing.failed("the reading of the shard's token", &error);
        bearer::follow_file(Path::new(&token_file), &bearer, failed).await;
    };
    tasks.spawn(guarded("the reading of the shard's token", reporter.clone(), reading));
    let pods = Pods::new(agent_reports, client.clone());
    if let Some(memory) = &begin.memory {
        let found = jobs.list(&selector).await?;
        pods.skip(memory.open.iter().filter(|open| open.journal_read).map(|open| open.id));
        known.extend(engine.resume(part, memory, &found));
    }
    let namespace = orders.names.namespace().to_owned();
    let (of_jobs, for_jobs) = (selector.clone(), reporter.clone());
    let watched = watch::jobs(client.clone(), namespace.clone(), of_jobs, for_jobs.clone());
    tasks.spawn(guarded("the watch of Jobs", for_jobs, watched));
    let also = move |change| pods.change(&change);
    let watched = watch::pods(client.clone(), namespace, selector, reporter.clone(), also);
    tasks.spawn(guarded("the watch of pods", reporter.clone(), watched));
    let watchdog = watchdog::follow(Arc::clone(&plan), vec![lanes.clone()], reporter.clone());
    tasks.spawn(guarded("the watchdog", reporter.clone(), watchdog));
    let (all, probe) = (vec![lanes.clone()], client.clone());
    let reachable = watchdog::reachable(Arc::clone(&plan), all, probe, reporter.clone());
    tasks.spawn(guarded("the watchdog", reporter.clone(), reachable));
    let timers = watchdog::timers(reporter.clone());
    tasks.spawn(guarded("the measurement of timers", reporter.clone(), timers));
    let lists = engine.lists();
    let host = OwnFaults {
        plan: Arc::clone(&plan),
        reporter: reporter.clone(),
        restart: Box::new(move || drop(tokio::spawn(lists()))),
    };
    let own = |kind| kind == FaultKind::ControllerCrash;
    faults::plan(&plan, &reporter, own, &mut tasks);
    let mut run_loop = RunLoop::new(&plan, engine::SLACK);
    let alerts = Alerts::start(plan, part, known, reporter.clone());
    let began = harness_cpu();
    let mut lags_sent = Instant::now();
    loop {
        let mut due = |_| match lags_sent.elapsed() >= LAGS_EVERY {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let paused = run_loop.advance(&mut engine, &mut inbox, &host, &mut due).await;
        let used = harness_cpu().saturating_sub(began).as_nanos() as u64;
        let (lags, reading, now) = (reporter.lags(), lanes.read_lag(), reporter.now());
        let so_far = LagsSoFar::new(lags, &reading, used, resident_max(), now);
        wire.send(ShardMessage::Lags(so_far));
        lags_sent = Instant::now();
        if !paused {
            break;
        }
    }
    alerts.stop();
    for text in reporter.failures() {
        engine.platform(Fact::Remark { text: text.into() });
    }
    engine.close(&mut inbox, &host);
    drop(engine);
    tasks.shutdown().await;
    wire.send(ShardMessage::Done);
    Ok(())
}

/// The connections to the API server.
fn lanes(plan: &Plan) -> Result<Lanes, RunnerError> {
    let ca = file(&format!("{}/ca.crt", manifests::TOKENS))?;
    let host = variable("KUBERNETES_SERVICE_HOST")?;
    let port = variable("KUBERNETES_SERVICE_PORT_HTTPS")?;
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let calls = plan.scenario().controller.client.connections.get() as usize;
    let tls = trust::only(&ca)?;
    Ok(Lanes::new("backend", &format!("https://{host}:{port}"), &tls, calls + 8)?)
}

/// Waits for the fleet's answer to this pod.
async fn begin(client: &Client, part: Part) -> Result<Begin, RunnerError> {
    let pod = variable("POD_NAME")?;
    let api: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let name = manifests::begin_name(part.index());
    loop {
        let found = call::patiently(PATIENCE, || async { api.get_opt(&name).await }).await?;
        let answer = found.and_then(|map| map.data).and_then(|mut data| data.remove(&pod));
        if let Some(answer) = answer {
            let mut begin: Begin = serde_json::from_str(&answer)?;
            if begin.parts > 0 {
                begin.memory = Some(memory(&api, part.index(), begin.parts, &pod).await?);
            }
            return Ok(begin);
        }
        sleep(ASK_EVERY).await;
    }
}

/// Reads a predecessor's state from its ConfigMaps, which the fleet wrote before its answer.
async fn memory(
    api: &Api<ConfigMap>,
    shard: u32,
    parts: usize,
    pod: &str,
) -> Result<Memory, RunnerError> {
    let mut text = String::new();
    for number in 0..parts {
        let name = manifests::part_name(shard, number);
        let found = call::patiently(PATIENCE, || async { api.get(&name).await }).await?;
        let part = found.data.and_then(|mut data| data.remove(pod));
        text += &part.ok_or_else(|| RunnerError::Missing(format!("the ConfigMap {name}")))?;
    }
    Ok(serde_json::from_str(&text)?)
}

/// Converts nanoseconds since 1970 to an instant, by this node's clock.
fn instant_of(nanos: u64) -> Instant {
    let at = SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos);
    match at.duration_since(SystemTime::now()) {
        Ok(ahead) => Instant::now() + ahead,
        Err(past) => Instant::now().checked_sub(past.duration()).unwrap_or_else(Instant::now),
    }
}
