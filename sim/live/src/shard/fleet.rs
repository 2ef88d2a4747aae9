//! The fleet of shards: deployed as an Indexed Job, heard through their logs, and made one run. It
//! stands where the engine stands in a run from one machine.

mod logs;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use alertstorm_model::event::{Component, Event, Fact, Sink};
use alertstorm_model::investigation::InvestigationId;
use alertstorm_model::scenario::{Part, Plan};
use alertstorm_model::time::{Span, Time};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, PostParams, PropagationPolicy};
use kube::{Api, Client};
use serde_json::{Map, Value};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::memory::Register;
use super::wire::{Begin, LagsSoFar, Orders, Says};
use super::{Shards, manifests};
use crate::engine::{Host, Lags, REVOCATION_GRACE, TICK, slowest_of_job_controller};
use crate::hearing::Hearing;
use crate::platform::{NAMESPACE, PodSpec};
use crate::reporter::{Note, Reporter};
use crate::{bootstrap, call};
use logs::Heard;

/// Shards that have not said hello by then will not.
const HELLO_WITHIN: Duration = Duration::from_secs(240);
/// From the answers to the run's start: every shard has its answer by then.
pub const LEAD: Duration = Duration::from_secs(3);
/// How long the API server may be away.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the log is made sure of.
const FLUSH_EVERY: Span = Span::millis(200);

/// Why there is no fleet.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The plan's files are more than a ConfigMap holds.
    #[error("the plan's files have {0} bytes, and a ConfigMap holds {max}", max = manifests::PLAN_MAX)]
    PlanTooLarge(usize),
    /// The plan cannot be divided.
    #[error(transparent)]
    Indivisible(#[from] alertstorm_model::scenario::Indivisible),
    /// Shards did not start.
    #[error("shards {0:?} did not start; `kubectl describe pod -n {NAMESPACE} -l {label}` tells why", label = manifests::LABEL)]
    NotReady(Vec<u32>),
    /// A call failed for good.
    #[error("the shards could not be deployed")]
    Api(#[from] kube::Error),
    /// The orders cannot be written.
    #[error("the orders of the shards cannot be written")]
    Orders(#[from] serde_json::Error),
}

/// What is known of one shard.
#[derive(Debug, Default)]
struct Shard {
    /// Its pod, once one has said hello.
    pod: Option<String>,
    /// Whether that pod has ended, and all that it said was heard.
    ended: bool,
    /// A pod that takes its place, and waits to be told where to go on.
    waiting: Option<String>,
    /// Whether it has told all.
    done: bool,
    deaths: u32,
    /// The fleet's answers, by pod.
    answers: Map<String, Value>,
}

/// The shards of a run.
pub struct Fleet {
    plan: Arc<Plan>,
    client: Client,
    shards: Vec<Shard>,
    heard: UnboundedReceiver<Heard>,
    /// Reads pods' logs.
    readers: JoinSet<()>,
    register: Register,
    /// The run's start, in nanoseconds since 1970.
    zero: u64,
    /// What each pod said last of how late it was.
    lags: BTreeMap<String, LagsSoFar>,
    job_controller: Component,
}

impl Fleet {
    /// Deploys the shards, and waits until each is ready to begin.
    ///
    /// # Errors
    /// What cannot be, or failed.
    pub async fn deploy(
        plan: Arc<Plan>,
        shards: &Shards,
        pods: PodSpec,
        client: Client,
    ) -> Result<Self, FleetError> {
        let size = shards.files.iter().map(|(_, text)| text.len()).sum();
        if size > manifests::PLAN_MAX * 9 / 10 {
            return Err(FleetError::PlanTooLarge(size));
        }
        for index in 0..shards.count.get() {
            Part::new(index, shards.count).unwrap_or(Part::WHOLE).of_plan(&plan)?;
        }
        clear(&client).await?;
        let seed = plan.scenario.seed;
        let orders = Orders { plan: plan.digest.clone(), seed, of: shards.count, pods };
        for object in manifests::around(shards, &orders)? {
            bootstrap::apply_one(&client, &object, NAMESPACE).await?;
        }
        let limit = plan.scenario.controller.job.memory_limit.0;
        let job: Job = serde_json::from_value(manifests::job(shards, limit))?;
        let api: Api<Job> = Api::namespaced(client.clone(), NAMESPACE);
        call::patiently(PATIENCE, || async { api.create(&PostParams::default(), &job).await })
            .await?;
        let (told, heard) = unbounded_channel();
        let mut readers = JoinSet::new();
        readers.spawn(logs::follow(client.clone(), told));
        let mut fleet = Self {
            plan,
            client,
            shards: (0..shards.count.get()).map(|_| Shard::default()).collect(),
            heard,
            readers,
            register: Register::default(),
            zero: 0,
            lags: BTreeMap::new(),
            job_controller: Component::JobControllerBucket,
        };
        fleet.all_ready().await?;
        Ok(fleet)
    }

    async fn all_ready(&mut self) -> Result<(), FleetError> {
        let until = Instant::now() + HELLO_WITHIN;
        while self.shards.iter().any(|shard| shard.pod.is_none()) {
            let heard = tokio::time::timeout_at(until, self.heard.recv()).await;
            match heard {
                Ok(Some(Heard::Line { pod, says: Says::Hello { shard }, .. })) => {
                    if let Some(shard) = self.shards.get_mut(shard as usize) {
                        shard.pod = Some(pod);
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => {
                    let missing = self.shards.iter().zip(0..);
                    let missing = missing.filter(|(shard, _)| shard.pod.is_none());
                    return Err(FleetError::NotReady(missing.map(|(_, n)| n).collect()));
                }
            }
        }
        Ok(())
    }

    /// Tells every shard when the run begins: in nanoseconds since 1970.
    ///
    /// # Errors
    /// Where a call fails for good.
    pub async fn begin(&mut self, zero: u64) -> Result<(), FleetError> {
        self.zero = zero;
        for index in 0..self.shards.len() {
            let pod = self.shards[index].pod.clone().unwrap_or_default();
            self.answer(index, &pod, Begin { zero, memory: None }).await?;
        }
        Ok(())
    }

    async fn answer(&mut self, shard: usize, pod: &str, begin: Begin) -> Result<(), FleetError> {
        let answers = &mut self.shards[shard].answers;
        answers.insert(pod.to_owned(), serde_json::to_string(&begin)?.into());
        let object = manifests::begin(shard as u32, answers);
        Ok(bootstrap::apply_one(&self.client, &object, NAMESPACE).await?)
    }

    /// Deletes the shards and all that is theirs.
    ///
    /// # Errors
    /// Where a call fails for good.
    pub async fn end(mut self) -> Result<(), FleetError> {
        self.readers.shutdown().await;
        Ok(clear(&self.client).await?)
    }

    /// How late the shards were together, and their processor time.
    pub fn lags(&self) -> (Lags, Duration) {
        let mut lags = Lags::default();
        self.lags.values().for_each(|of| of.add_to(&mut lags));
        (lags, Duration::from_nanos(self.lags.values().map(|of| of.cpu_ns).sum()))
    }
}

/// Takes the shards of this or an earlier run away.
async fn clear(client: &Client) -> Result<(), kube::Error> {
    let jobs: Api<Job> = Api::namespaced(client.clone(), NAMESPACE);
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let foreground = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Foreground),
        grace_period_seconds: Some(0),
        ..DeleteParams::default()
    };
    let found = call::patiently(PATIENCE, || async { jobs.get_opt(manifests::NAME).await }).await?;
    let Some(job) = found else { return Ok(()) };
    let count = job.spec.and_then(|spec| spec.completions).unwrap_or(0);
    let delete = || async { jobs.delete(manifests::NAME, &foreground).await };
    gone(call::patiently(PATIENCE, delete).await.map(drop))?;
    for shard in 0..count.unsigned_abs() {
        let (name, now) = (manifests::begin_name(shard), DeleteParams::default());
        let delete = || async { maps.delete(&name, &now).await };
        gone(call::patiently(PATIENCE, delete).await.map(drop))?;
    }
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until && jobs.get_opt(manifests::NAME).await?.is_some() {
        sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

fn gone(done: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match done {
        Err(error) if call::is_gone(&error) => Ok(()),
        done => done,
    }
}

/// A run of a fleet.
pub struct Merge<'a> {
    fleet: Fleet,
    sink: &'a mut dyn Sink,
    reporter: Reporter,
    hearing: Hearing,
    flushed: Time,
    over_since: Option<Time>,
}

impl<'a> Merge<'a> {
    /// The run of a fleet that has begun.
    pub fn new(fleet: Fleet, sink: &'a mut dyn Sink, hearing: Hearing) -> Self {
        let reporter = hearing.reporter.clone();
        Self { fleet, sink, reporter, hearing, flushed: Time::ZERO, over_since: None }
    }

    /// Runs until every shard has told all and every lease has ended, the plan's bound is reached,
    /// or `watch` asks for the end; whether it was asked.
    pub async fn run(
        &mut self,
        inbox: &mut UnboundedReceiver<Note>,
        host: &impl Host,
        watch: &mut dyn FnMut(Time) -> ControlFlow<()>,
    ) -> bool {
        let mut tick = tokio::time::interval(TICK);
        let mut sampled = Time::ZERO;
        let every = self.fleet.plan.sample_every.0.max(Span::secs(10).0);
        loop {
            tokio::select! {
                biased;
                Some(note) = inbox.recv() => self.note(note, host),
                Some(heard) = self.fleet.heard.recv() => self.hear(heard).await,
                _ = tick.tick() => {
                    host.look();
                    let now = self.reporter.now();
                    if now.since(sampled).0 >= every {
                        sampled = now;
                        host.sample();
                    }
                    if now.since(self.flushed) >= FLUSH_EVERY {
                        self.flushed = now;
                        self.sink.flush();
                    }
                    if watch(now).is_break() {
                        self.platform(Fact::Interrupted);
                        return true;
                    }
                    if self.is_done(now) {
                        return false;
                    }
                }
            }
        }
    }

    /// Writes all that is left.
    pub fn close(&mut self, inbox: &mut UnboundedReceiver<Note>, host: &impl Host) {
        while let Ok(note) = inbox.try_recv() {
            self.note(note, host);
        }
        self.sink.flush();
    }

    /// The fleet, whose run is over.
    pub fn into_fleet(self) -> Fleet {
        self.fleet
    }

    /// The fleet.
    pub const fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// A fact of the platform, now.
    pub fn platform(&mut self, fact: Fact) {
        let event = Event::platform(self.reporter.now(), fact);
        self.sink.take(&event);
    }

    fn remark(&mut self, text: String) {
        self.platform(Fact::Remark { text: text.into() });
    }

    /// An event of a shard, or of one of its agents.
    fn event(&mut self, shard: Option<u32>, mut event: Event) {
        match &mut event.fact {
            Fact::Sample { sample } => {
                self.fleet.job_controller = slowest_of_job_controller(sample);
            }
            // A shard reads no metrics: what the Job controller waits for is known here.
            Fact::Waited { waits, .. } => {
                for wait in waits.iter_mut() {
                    if wait.component == Component::JobControllerBucket {
                        wait.component = self.fleet.job_controller;
                    }
                }
            }
            _ => {}
        }
        if self.fleet.register.note(shard, &event) {
            self.sink.take(&event);
        }
    }

    fn note(&mut self, note: Note, host: &impl Host) {
        match note {
            Note::Fact(event) => self.event(None, event),
            Note::Remark(text) => self.remark(text),
            Note::Invalid(why) => self.platform(Fact::Invalid { why: why.into() }),
            Note::Fault(number, begins) => {
                let kind = self.fleet.plan.faults[number].kind;
                self.platform(Fact::Fault { kind, began: begins });
                host.fault(number, begins);
            }
            // The rest is between a shard and its controller.
            _ => {}
        }
    }

    async fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Line { pod, shard, says } => self.said(shard, pod, says).await,
            Heard::Lost { pod, lines } => {
                let why =
                    format!("{lines} lines of the log of {pod} were lost: its node rotated it");
                self.platform(Fact::Invalid { why: why.into() });
            }
            Heard::End { pod, shard } => self.ended(shard, &pod).await,
        }
    }

    async fn said(&mut self, shard: u32, pod: String, says: Says) {
        match says {
            Says::Hello { .. } => self.replaced(shard, pod).await,
            Says::Event(event) => self.event(Some(shard), event),
            Says::Journal { id, pod, log } => self.journal(shard, id, &pod, log),
            Says::Lags(lags) => drop(self.fleet.lags.insert(pod, lags)),
            Says::Done => {
                if let Some(shard) = self.fleet.shards.get_mut(shard as usize) {
                    shard.done = true;
                }
            }
        }
    }

    fn journal(
        &mut self,
        shard: u32,
        id: InvestigationId,
        pod: &str,
        log: Vec<(Time, alertstorm_agent::Told)>,
    ) {
        if self.fleet.register.journal(shard, id) {
            self.hearing.hear_all(id, pod, log);
        }
    }

    /// A pod of a shard's has come to an end.
    async fn ended(&mut self, shard: u32, pod: &str) {
        let Some(of) = self.fleet.shards.get_mut(shard as usize).filter(|of| !of.done) else {
            return;
        };
        of.deaths += 1;
        of.ended |= of.pod.as_deref() == Some(pod);
        // Kubernetes makes another pod until the index has failed more often than it may.
        if of.deaths > manifests::DEATHS_MAX {
            of.done = true;
            let why = format!("shard {shard} died {} times and was given up", of.deaths);
            return self.platform(Fact::Invalid { why: why.into() });
        }
        self.remark(format!("shard {shard} died ({pod}); another takes up where it left off"));
        self.replace(shard).await;
    }

    /// A pod takes the place of one that died.
    async fn replaced(&mut self, shard: u32, pod: String) {
        if let Some(of) = self.fleet.shards.get_mut(shard as usize) {
            of.waiting = Some(pod);
        }
        self.replace(shard).await;
    }

    /// Tells the pod that waits what its predecessor told, once all of that was heard.
    async fn replace(&mut self, shard: u32) {
        let index = shard as usize;
        let Some(of) = self.fleet.shards.get_mut(index).filter(|of| of.ended) else { return };
        let Some(pod) = of.waiting.take() else { return };
        (of.pod, of.ended) = (Some(pod.clone()), false);
        let memory = Some(self.fleet.register.memory(shard));
        let begin = Begin { zero: self.fleet.zero, memory };
        if let Err(error) = self.fleet.answer(index, &pod, begin).await {
            let why = format!("shard {shard} could not be told where to go on: {error}");
            self.platform(Fact::Invalid { why: why.into() });
        }
    }

    fn is_done(&mut self, now: Time) -> bool {
        let plan = &self.fleet.plan;
        let bound = plan.scenario.limits.run_for;
        if bound.0 > 0 && now >= Time::ZERO + bound {
            return true;
        }
        if !self.fleet.shards.iter().all(|shard| shard.done) {
            // What is still open then will never end.
            let longest = plan.alerts_last()
                + plan.scenario.controller.job.active_deadline * 4
                + Span::secs(1200);
            return now >= Time::ZERO + longest * 2;
        }
        let since = *self.over_since.get_or_insert(now);
        let last = self.hearing.book.last_expiry().unwrap_or(since).max(since);
        self.hearing.book.alive() == 0 || now >= last + REVOCATION_GRACE
    }
}
