//! The fleet of shards: deploys them as an Indexed Job, sends them the run's start and a
//! predecessor's state, reads their logs, and deletes them at the end.

mod clocks;
mod logs;
pub mod merge;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alertstorm_agent::names::Names;
use alertstorm_model::scenario::{Part, Plan};
use alertstorm_model::time::Span;
use alertstorm_platform::PodSpec;
use alertstorm_platform::bootstrap::BootstrapError;
use alertstorm_platform::{bootstrap, call};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, PostParams, PropagationPolicy};
use kube::{Api, Client};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::manifests::{self, Shards};
use super::memory::Register;
use super::wire::{Begin, LagsSoFar, Memory, Orders, ShardMessage};
use crate::lags::Lags;
use crate::reporter::wall;
use clocks::Clocks;
use logs::PodLogEvent;

/// How long to wait until all shards are ready.
const READY_WITHIN: Duration = Duration::from_secs(240);
/// From sending the answers to the run's start. By then every shard must have read its answer.
pub const LEAD: Duration = Duration::from_secs(3);
/// How long requests to the API server are retried.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why the shards could not be deployed or started.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The plan's files do not fit in a ConfigMap.
    #[error("the plan's files have {0} bytes, and a ConfigMap holds {max}", max = manifests::PLAN_MAX)]
    PlanTooLarge(usize),
    /// The plan cannot be divided into shards.
    #[error(transparent)]
    Indivisible(#[from] alertstorm_model::scenario::Indivisible),
    /// These shards were not ready in time.
    #[error("shards {shards:?} did not start; see `kubectl describe pod -n {namespace} -l {label}`", label = manifests::LABEL)]
    NotReady {
        /// Their numbers.
        shards: Vec<u32>,
        /// The namespace of their pods.
        namespace: String,
    },
    /// A predecessor's state does not fit in the ConfigMaps that a shard may read.
    #[error(
        "the state of a shard has {0} bytes, and the ConfigMaps of its successor hold {max}; more shards have less state each",
        max = manifests::PARTS_MAX * manifests::PART_MAX
    )]
    MemoryTooLarge(usize),
    /// An object of the shards could not be created.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// A request to the API server still failed after its retries.
    #[error("failed to deploy the shards")]
    Api(#[from] kube::Error),
    /// A message to the shards could not be serialized.
    #[error("failed to serialize a message to the shards")]
    Orders(#[from] serde_json::Error),
}

/// The state of one shard.
#[derive(Debug, Default)]
struct Shard {
    /// Its pod, once one is ready.
    pod: Option<String>,
    /// Whether that pod has ended and its whole log was read.
    ended: bool,
    /// A pod that takes over and waits for its predecessor's state.
    waiting: Option<String>,
    /// Whether it has reported everything, or is not replaced again.
    done: bool,
    deaths: u32,
}

/// The shards of a run.
pub struct Fleet {
    plan: Arc<Plan>,
    names: Names,
    client: Client,
    shards: Vec<Shard>,
    logs: UnboundedReceiver<PodLogEvent>,
    /// Read the pods' logs.
    readers: JoinSet<()>,
    register: Register,
    /// The run's start, in nanoseconds since 1970.
    zero: u64,
    /// Each pod's latest message about delays.
    lags: BTreeMap<String, LagsSoFar>,
    /// What is certain about the clocks of the shards' pods.
    clocks: Clocks,
    /// Remarks on shards that died before the run began.
    early_deaths: Vec<String>,
}

impl Fleet {
    /// Deploys the shards and waits until all are ready.
    ///
    /// # Errors
    /// [`FleetError`].
    pub async fn deploy(
        plan: Arc<Plan>,
        shards: &Shards,
        pods: PodSpec,
        names: &Names,
        client: Client,
    ) -> Result<Self, FleetError> {
        let size = shards.files.iter().map(|(_, text)| text.len()).sum();
        if size > manifests::PLAN_MAX * 9 / 10 {
            return Err(FleetError::PlanTooLarge(size));
        }
        Part::divides(shards.count, &plan)?;
        clear(&client).await?;
        let seed = plan.scenario().seed;
        let (digest, of) = (plan.digest().to_owned(), shards.count);
        let orders = Orders { plan: digest, seed, of, names: names.clone(), pods };
        for object in manifests::around(shards, &orders)? {
            bootstrap::apply_one(&client, object, names).await?;
        }
        let limit = plan.scenario().controller.job.memory_limit.0;
        let job: Job = serde_json::from_value(manifests::job(shards, limit))?;
        let api: Api<Job> = Api::default_namespaced(client.clone());
        call::patiently(PATIENCE, || async { api.create(&PostParams::default(), &job).await })
            .await?;
        let (events, logs) = unbounded_channel();
        let mut readers = JoinSet::new();
        readers.spawn(logs::follow(client.clone(), events));
        let mut fleet = Self {
            plan,
            names: names.clone(),
            client,
            shards: (0..shards.count.get()).map(|_| Shard::default()).collect(),
            logs,
            readers,
            register: Register::default(),
            zero: 0,
            lags: BTreeMap::new(),
            clocks: Clocks::default(),
            early_deaths: Vec::new(),
        };
        fleet.all_ready().await?;
        Ok(fleet)
    }

    async fn all_ready(&mut self) -> Result<(), FleetError> {
        let until = Instant::now() + READY_WITHIN;
        while self.shards.iter().any(|shard| shard.pod.is_none()) {
            let event = tokio::time::timeout_at(until, self.logs.recv()).await;
            match event {
                Ok(Some(PodLogEvent::Line {
                    pod, message: ShardMessage::Hello { shard }, ..
                })) => {
                    tracing::info!(shard, pod, "a shard is ready");
                    if let Some(shard) = self.shards.get_mut(shard as usize) {
                        shard.pod = Some(pod);
                    }
                }
                // A shard that dies before the run starts again in another pod.
                Ok(Some(PodLogEvent::End { pod, shard })) => {
                    tracing::warn!(shard, pod, "a shard ended before the run began");
                    self.early_deaths.push(format!(
                        "shard {shard} died ({pod}) before the run began; a new pod took its place"
                    ));
                    let of = self.shards.get_mut(shard as usize);
                    if let Some(of) = of.filter(|of| of.pod.as_ref() == Some(&pod)) {
                        of.pod = None;
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => {
                    let missing = self.shards.iter().zip(0..);
                    let missing = missing.filter(|(shard, _)| shard.pod.is_none());
                    let shards = missing.map(|(_, n)| n).collect();
                    let namespace = self.names.namespace().to_owned();
                    return Err(FleetError::NotReady { shards, namespace });
                }
            }
        }
        Ok(())
    }

    /// Sends every shard the run's start, in nanoseconds since 1970.
    ///
    /// # Errors
    /// If a request still fails after its retries.
    pub async fn begin(&mut self, zero: u64) -> Result<(), FleetError> {
        self.zero = zero;
        for index in 0..self.shards.len() {
            let pod = self.shards[index].pod.clone().unwrap_or_default();
            self.answer(index, &pod, None).await?;
        }
        Ok(())
    }

    /// Sends a shard's pod the run's start and its predecessor's state. A state that is too large for
    /// one ConfigMap is written to several, before the answer that counts them. An earlier pod of the
    /// shard has ended, and no longer needs its answer.
    async fn answer(
        &self,
        shard: usize,
        pod: &str,
        memory: Option<Memory>,
    ) -> Result<(), FleetError> {
        let shard = shard as u32;
        let mut begin = Begin { zero: self.zero, memory, ..Begin::default() };
        let text = memory_text(begin.memory.as_ref())?;
        if let Some(text) = text {
            let parts = manifests::parts(&text, manifests::PART_MAX);
            if parts.len() > manifests::PARTS_MAX {
                return Err(FleetError::MemoryTooLarge(text.len()));
            }
            for (number, part) in parts.iter().enumerate() {
                let object = manifests::part(shard, number, pod, part);
                bootstrap::apply_one(&self.client, object, &self.names).await?;
            }
            (begin.memory, begin.parts) = (None, parts.len());
        }
        begin.sent = wall();
        let object = manifests::begin(shard, pod, serde_json::to_string(&begin)?);
        Ok(bootstrap::apply_one(&self.client, object, &self.names).await?)
    }

    /// Why the run is invalid: a line for each shard whose clock is off beyond the bound.
    pub fn wrong_clocks(&self) -> Vec<String> {
        self.clocks.wrong()
    }

    /// How far the clocks of the shards can be off; none if that is unknown.
    pub fn largest_skew(&self) -> Option<Span> {
        self.clocks.largest()
    }

    /// Stops reading the shards' logs.
    pub async fn end(mut self) {
        self.readers.shutdown().await;
    }

    /// The delays of all shards, and their processor time.
    pub fn add_lags(&self, lags: &Lags) -> Duration {
        self.lags.values().for_each(|of| of.add_to(lags));
        Duration::from_nanos(self.lags.values().map(|of| of.cpu_ns).sum())
    }
}

/// Deletes a ConfigMap; whether it existed.
async fn delete_map(maps: &Api<ConfigMap>, name: &str) -> Result<bool, kube::Error> {
    let now = DeleteParams::default();
    match call::patiently(PATIENCE, || async { maps.delete(name, &now).await }).await {
        Ok(_) => Ok(true),
        Err(error) if call::is_gone(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The JSON of a memory that does not fit in one ConfigMap with the rest of the answer.
fn memory_text(memory: Option<&Memory>) -> Result<Option<String>, serde_json::Error> {
    let text = memory.map(serde_json::to_string).transpose()?;
    Ok(text.filter(|text| text.len() > manifests::PART_MAX))
}

/// Deletes the shards of this or an earlier run, with their ConfigMaps.
///
/// # Errors
/// If a request still fails after its retries.
pub async fn clear(client: &Client) -> Result<(), kube::Error> {
    let jobs: Api<Job> = Api::default_namespaced(client.clone());
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let foreground = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Foreground),
        grace_period_seconds: Some(0),
        ..DeleteParams::default()
    };
    let found = call::patiently(PATIENCE, || async { jobs.get_opt(manifests::NAME).await }).await?;
    let Some(job) = found else { return Ok(()) };
    let count = job.spec.and_then(|spec| spec.completions).unwrap_or(0);
    let delete = || async { jobs.delete(manifests::NAME, &foreground).await };
    call::deleted(call::patiently(PATIENCE, delete).await)?;
    for shard in 0..count.unsigned_abs() {
        delete_map(&maps, &manifests::begin_name(shard)).await?;
        // Most shards have no parts.
        for part in 0..manifests::PARTS_MAX {
            if !delete_map(&maps, &manifests::part_name(shard, part)).await? {
                break;
            }
        }
    }
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until && jobs.get_opt(manifests::NAME).await?.is_some() {
        sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use alertstorm_model::investigation::{InvestigationId, Stage};
    use alertstorm_model::time::Time;

    use super::super::wire::OpenMemory;
    use super::*;

    /// The state of a shard with as many open investigations, at all of their stages.
    fn memory(open: u64) -> Memory {
        let stages: Vec<(Stage, Time)> =
            Stage::ALL.iter().map(|&stage| (stage, Time(987_654_321_000))).collect();
        let of = |id| OpenMemory { stages: stages.clone(), ..OpenMemory::new(InvestigationId(id)) };
        Memory { open: (0..open).map(of).collect(), ..Memory::default() }
    }

    #[test]
    fn a_memory_beyond_a_config_map_is_split_into_parts_that_fit_and_join_to_the_same() {
        assert_eq!(memory_text(Some(&memory(100))).unwrap(), None);
        assert_eq!(memory_text(None).unwrap(), None);
        let large = memory(10_000);
        let text = memory_text(Some(&large)).unwrap().expect("it is too large for one");
        assert!(text.len() > manifests::PLAN_MAX, "{}", text.len());
        let parts = manifests::parts(&text, manifests::PART_MAX);
        assert!(parts.len() > 1 && parts.len() <= manifests::PARTS_MAX, "{}", parts.len());
        for (number, part) in parts.iter().enumerate() {
            let object = manifests::part(3, number, "pod", part);
            let data = object["data"]["pod"].as_str().expect("the part").len();
            assert!(data < manifests::PLAN_MAX, "{data}");
        }
        let joined: Memory = serde_json::from_str(&parts.concat()).unwrap();
        assert_eq!(joined, large);
    }
}
