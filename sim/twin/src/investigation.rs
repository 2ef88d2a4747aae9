//! An investigation as the twin keeps it: where its Job, its pod and its agent are.

use alertstorm_model::agent::Agent;
use alertstorm_model::alert::Alert;
use alertstorm_model::event::Component;
use alertstorm_model::investigation::{Domain, Outcome};
use alertstorm_model::phase::Action;
use alertstorm_model::time::{Span, Time};

use crate::arena::Key;
use crate::pool::{Pool, Waits};

/// Names an investigation in events and calls.
pub(crate) type Who = Key;

/// What the pod is doing, as its node knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PodPhase {
    None,
    Pending,
    Running,
    /// The containers ended; whether well.
    Ended,
}

/// The Job's status as the Job controller last wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JobStatus {
    New,
    Active,
    Ready,
    /// The interim condition (SuccessCriteriaMet or FailureTarget) is written.
    Interim,
    Finished,
}

/// The Job controller's view.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    /// It is in etcd.
    pub created: bool,
    pub status: JobStatus,
    /// Written at the first sync: what activeDeadlineSeconds counts from.
    pub started: Option<Time>,
    pub pod_posted: bool,
    /// What its informer has seen of the pod.
    pub pod_seen: PodPhase,
    pub finished_at: Time,
    /// In the work queue.
    pub queued: bool,
    /// A worker has it.
    pub processing: bool,
    /// Asked for again while a worker had it.
    pub dirty: bool,
    /// When it is due to be added to the work queue.
    pub due: Time,
    pub enqueued_at: Time,
}

/// One investigation.
#[derive(Debug)]
pub(crate) struct Inv {
    pub alert: Alert,
    pub job: Job,
    pub phase: PodPhase,
    /// What the pod's status on the API server says.
    pub status_phase: PodPhase,
    /// A status patch is under way.
    pub status_busy: bool,
    pub node: Option<u32>,
    pub agent: Option<Box<Agent>>,
    /// The agent was asked to stop and gives its credentials back; other answers are moot.
    pub terminating: bool,
    /// The credential that the agent waits for.
    pub taking: Option<Domain>,
    /// The action whose answer the agent waits for.
    pub acting: Option<Action>,
    /// How it ended; told once.
    pub outcome: Option<Outcome>,
    /// The token that Vault gave it.
    pub session: Option<Key>,
    /// Its ServiceAccount is there.
    pub account: bool,
    pub cost_micro_usd: u64,
    pub reached_running: bool,
    /// The pod waits for room since then.
    pub unschedulable_since: Option<Time>,
    pub queued_at: Time,
    /// Where its time went; dropped when the Job is finished, as most Jobs that the platform
    /// knows are finished ones, and what lies side by side in memory must be what is used.
    pub path: Option<Box<CriticalPath>>,
}

/// Where an investigation's time went.
#[derive(Debug)]
pub(crate) struct CriticalPath {
    pub waits: Waits,
    /// What a pool of workers had spent when this one began to wait for it: by kind of pool.
    marks: [Waits; 3],
}

impl Inv {
    pub fn new(alert: Alert) -> Self {
        Self {
            alert,
            job: Job {
                status: JobStatus::New,
                created: false,
                started: None,
                pod_posted: false,
                pod_seen: PodPhase::None,
                finished_at: Time::ZERO,
                queued: false,
                processing: false,
                dirty: false,
                due: Time::NEVER,
                enqueued_at: Time::ZERO,
            },
            phase: PodPhase::None,
            status_phase: PodPhase::None,
            status_busy: false,
            node: None,
            agent: None,
            terminating: false,
            taking: None,
            acting: None,
            outcome: None,
            session: None,
            account: false,
            cost_micro_usd: 0,
            reached_running: false,
            unschedulable_since: None,
            queued_at: Time::ZERO,
            path: Some(Box::new(CriticalPath {
                waits: [Span::ZERO; Component::COUNT],
                marks: [[Span::ZERO; Component::COUNT]; 3],
            })),
        }
    }

    pub fn wait(&mut self, component: Component, span: Span) {
        if let Some(path) = &mut self.path {
            path.waits[component.index()] += span;
        }
    }

    /// It begins to wait for a worker of a pool.
    pub fn joins(&mut self, pool: &Pool) {
        if let Some(path) = &mut self.path {
            path.marks[pool.kind as usize] = pool.mark();
        }
    }

    /// A worker of the pool takes it after so long.
    pub fn taken_by(&mut self, pool: &Pool, waited: Span, otherwise: Component) {
        if let Some(path) = &mut self.path {
            let mark = path.marks[pool.kind as usize];
            pool.apportion(waited, &mark, otherwise, &mut path.waits);
        }
    }
}
