//! Calls to the API server: the client, what the answer triggers, and the critical path.

use alertstorm_model::event::Component;
use alertstorm_model::time::{Span, Time};

use crate::arena::Key;
use crate::costs::Op;
use crate::investigation::{FinishedJob, Inv};
use crate::job::SyncStep;

/// A client of the API server. A kubelet is given by the number of its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    Backend,
    JobController,
    TtlController,
    GarbageCollector,
    NodeLifecycle,
    Scheduler,
    SchedulerEvents,
    Kubelet(u32),
    KubeletEvents(u32),
    Kwok,
    Vault,
    Agent(Key<Inv>),
}

impl Client {
    /// The component on which a wait for this client's token bucket is booked.
    pub const fn bucket_component(self) -> Component {
        match self {
            Self::Scheduler | Self::SchedulerEvents => Component::SchedulerBucket,
            Self::Kubelet(_) | Self::KubeletEvents(_) => Component::KubeletBucket,
            Self::JobController => Component::JobControllerBucket,
            _ => Component::BackendClient,
        }
    }
}

/// What the answer triggers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Nothing,
    /// The recorder sends its next Kubernetes Event.
    Recorded(Recorder),
    BackendAccount(Key<Inv>),
    BackendBinding(Key<Inv>),
    BackendJob(Key<Inv>),
    JobSync(Key<Inv>, SyncStep),
    TtlRead(Key<FinishedJob>),
    TtlDeleted(Key<FinishedJob>),
    /// With the index of the garbage collector's call.
    Collect(Key<FinishedJob>, u8),
    Bound(Key<Inv>),
    Kubelet(Key<Inv>, KubeletStep),
    Kwok(Key<Inv>, KwokStage),
    TokenReviewed(Key<Inv>),
    TokenCreated(Key<Inv>),
    AgentActed(Key<Inv>),
}

/// The calls of a kubelet for a pod, in their order. The last two repeat for each status update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KubeletStep {
    ConfigMap,
    /// The projected token whose audience is Vault.
    VaultToken,
    /// The projected token whose audience is the API server.
    ApiToken,
    StatusRead,
    StatusWritten {
        ended: bool,
    },
}

/// A stage that KWOK plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KwokStage {
    Run,
    Complete,
}

/// A recorder of Kubernetes Events; each sends them one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recorder {
    JobController,
    Scheduler,
    Kubelet(u32),
}

/// A call in flight, from the client's decision to the answer, retries included.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    op: Op,
    client: Client,
    then: Then,
    path: Option<Key<Inv>>,
    asked: Time,
    /// When it entered the level's queue; after that, when it got its seat.
    since: Time,
    failures: u8,
    epoch: u32,
}

/// First pause after a request failed; doubles up to [`RETRY_MAX`], as client-go's back-off does.
const RETRY: Span = Span::secs(1);
const RETRY_MAX: Span = Span::secs(16);

impl Call {
    /// `path` is the investigation whose critical path includes the call.
    pub const fn new(
        (client, op): (Client, Op),
        then: Then,
        path: Option<Key<Inv>>,
        now: Time,
    ) -> Self {
        Self { op, client, then, path, asked: now, since: now, failures: 0, epoch: 0 }
    }

    pub const fn op(&self) -> Op {
        self.op
    }

    pub const fn client(&self) -> Client {
        self.client
    }

    pub const fn then(&self) -> Then {
        self.then
    }

    pub const fn path(&self) -> Option<Key<Inv>> {
        self.path
    }

    /// The client sends it. Returns how long it waited for the client's token bucket; `None` for a
    /// retry, which takes no further token.
    pub fn send(&mut self, now: Time, epoch: u32) -> Option<Span> {
        self.since = now;
        self.epoch = epoch;
        (self.failures == 0).then(|| now.since(self.asked))
    }

    /// It gets its seat; returns how long it was in the queue.
    pub fn seated(&mut self, now: Time) -> Span {
        let queued = now.since(self.since);
        self.since = now;
        queued
    }

    /// How long it has had its seat.
    pub const fn seated_for(&self, now: Time) -> Span {
        now.since(self.since)
    }

    /// Whether the server process that it was sent to still runs.
    pub const fn is_of(&self, epoch: u32) -> bool {
        self.epoch == epoch
    }

    /// It failed; returns the pause before the next attempt, without jitter.
    pub fn fail(&mut self) -> Span {
        let pause = Span((RETRY.0 << self.failures.min(4)).min(RETRY_MAX.0));
        self.failures = self.failures.saturating_add(1);
        pause
    }
}
