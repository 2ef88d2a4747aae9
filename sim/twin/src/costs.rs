//! Every service time that is not a knob, in one place, each with where it was measured.
//!
//! Processor times come from the 1,000-Job flood on two cores (control plane v1.36.3, tuned): per
//! Job kube-apiserver 40 ms, etcd 8.3 ms, controller manager 8.0 ms, scheduler 2.9 ms, KWOK
//! 6.7 ms, idle work included; and from the credential cycle (TokenRequest, login, one PostgreSQL
//! credential, revoke): Vault 8.5 ms, API server 6.8 ms, etcd 1.0 ms of processor time a cycle.
//! A sum is divided over the calls that make it up; the division is ours, the sums are measured.

use alertstorm_model::time::Span;

/// A request to the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    CreateServiceAccount,
    DeleteServiceAccount,
    CreateRoleBinding,
    DeleteRoleBinding,
    CreateJob,
    GetJob,
    UpdateJobStatus,
    PatchJob,
    DeleteJob,
    CreatePod,
    GetPod,
    BindPod,
    PatchPod,
    PatchPodStatus,
    DeletePod,
    CreateEvent,
    GetConfigMap,
    CreateToken,
    TokenReview,
    AgentGet,
    AgentPatch,
    AgentRefused,
    UpdateNodeLease,
}

/// What a request is and costs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpCost {
    pub verb: &'static str,
    pub resource: &'static str,
    /// Processor time of kube-apiserver.
    pub api: Span,
    /// Bytes written to etcd: one new revision of the object; nothing where it only reads.
    pub write: Option<u64>,
}

const fn op(verb: &'static str, resource: &'static str, api_us: u64, write: Option<u64>) -> OpCost {
    OpCost { verb, resource, api: Span::micros(api_us), write }
}

impl Op {
    /// How many kinds there are.
    pub const COUNT: usize = Self::UpdateNodeLease as usize + 1;

    /// The 13 calls of a Job's life in the tuned flood add up to 36.5 ms of kube-apiserver, the
    /// 40 ms less its idle work, watch included. Object sizes are those of the Job template's.
    pub const fn cost(self) -> OpCost {
        match self {
            Self::CreateServiceAccount => op("create", "serviceaccounts", 1_600, Some(300)),
            Self::DeleteServiceAccount => op("delete", "serviceaccounts", 1_400, Some(100)),
            // Like a ServiceAccount; its subject and role are some more bytes.
            Self::CreateRoleBinding => op("create", "rolebindings", 1_600, Some(500)),
            Self::DeleteRoleBinding => op("delete", "rolebindings", 1_400, Some(100)),
            Self::CreateJob => op("create", "jobs", 1_700, Some(1_800)),
            Self::GetJob => op("get", "jobs", 500, None),
            Self::UpdateJobStatus => op("update", "jobs/status", 2_900, Some(2_100)),
            Self::PatchJob => op("patch", "jobs", 2_200, Some(2_000)),
            Self::DeleteJob => op("delete", "jobs", 1_800, Some(200)),
            Self::CreatePod => op("create", "pods", 3_200, Some(2_600)),
            Self::GetPod => op("get", "pods", 500, None),
            Self::BindPod => op("create", "pods/binding", 2_600, Some(2_800)),
            Self::PatchPod => op("patch", "pods", 3_000, Some(3_200)),
            Self::PatchPodStatus => op("patch", "pods/status", 2_900, Some(3_400)),
            Self::DeletePod => op("delete", "pods", 2_000, Some(300)),
            Self::CreateEvent => op("create", "events", 1_600, Some(700)),
            Self::GetConfigMap => op("get", "configmaps", 500, None),
            // The credential cycle: a TokenRequest and a TokenReview are its API calls.
            Self::CreateToken => op("create", "serviceaccounts/token", 3_400, None),
            Self::TokenReview => op("create", "tokenreviews", 3_400, None),
            Self::AgentGet => op("get", "deployments", 700, None),
            Self::AgentPatch => op("patch", "deployments", 2_500, Some(2_500)),
            Self::AgentRefused => op("patch", "deployments (403)", 300, None),
            Self::UpdateNodeLease => op("update", "leases", 700, Some(250)),
        }
    }
}

/// etcd's processor time for a write: (8.3 ms − idle) over the 13 writes of a Job.
pub(crate) const ETCD_WRITE: Span = Span::micros(500);
/// kube-apiserver's work to tell the watchers of one change.
pub(crate) const WATCH_API: Span = Span::micros(650);
/// The watchers' work to take one change in: the informers of the controller manager.
pub(crate) const WATCH_CONTROLLERS: Span = Span::micros(200);
/// The controller manager's own work around one call: encoding, decoding, bookkeeping.
pub(crate) const CONTROLLER_CALL: Span = Span::micros(300);
/// One sync of the Job controller, besides its calls.
pub(crate) const JOB_SYNC: Span = Span::micros(1_600);
/// One cycle of the scheduler: the part that does not depend on the nodes.
pub(crate) const SCHEDULER_CYCLE: Span = Span::micros(1_200);
/// The scheduler's filter and score of one node.
pub(crate) const SCHEDULER_NODE: Span = Span::micros(12);
/// The scheduler's own work around one call.
pub(crate) const SCHEDULER_CALL: Span = Span::micros(500);
/// KWOK's work for one stage of a pod: 6.7 ms a Job, two stages.
pub(crate) const KWOK_STAGE: Span = Span::micros(3_350);
/// KWOK plays so many pods' stages at once (its `podPlayStageParallelism`).
pub(crate) const KWOK_PARALLELISM: u32 = 4;
/// A kubelet's own work around one call; on the node's own cores unless all share one machine.
pub(crate) const KUBELET_CALL: Span = Span::micros(400);

/// Work that goes on without any load, in thousandths of a core: what the 300-Job flood at
/// defaults used beyond the tuned flood's cost a Job, over its 88 s.
pub(crate) const IDLE_MILLICORES_API: u64 = 100;
/// The same for etcd.
pub(crate) const IDLE_MILLICORES_ETCD: u64 = 45;
/// Node leases: each node renews every 10 s (kubelet's nodeLeaseDurationSeconds 40 / 4).
pub(crate) const NODE_LEASE_PERIOD: Span = Span::secs(10);

/// Vault's login by the kubernetes method, besides the TokenReview.
pub(crate) const VAULT_LOGIN_KUBERNETES: Span = Span::micros(1_600);
/// Vault's login by the jwt method: a signature is checked.
pub(crate) const VAULT_LOGIN_JWT: Span = Span::micros(1_900);
/// A new entity and its alias, at the first login of an identity.
pub(crate) const VAULT_NEW_ENTITY: Span = Span::micros(900);
/// A small request: kv read, renewal, revocation of a token; policy check and audit included.
pub(crate) const VAULT_SMALL: Span = Span::micros(700);
/// Vault's part of making a database role, under the plugin's lock.
pub(crate) const VAULT_DB_CREATE: Span = Span::micros(3_000);
/// Vault's part of dropping it, or of moving its expiry.
pub(crate) const VAULT_DB_CHANGE: Span = Span::micros(1_600);
/// A 2048-bit RSA key and its certificate: vault-benchmark's pki_issue has a mean of 468 ms with
/// ten workers on two cores.
pub(crate) const VAULT_PKI_ISSUE: Span = Span::micros(94_000);
/// Loading one lease after a restart.
pub(crate) const VAULT_LOAD_LEASE: Span = Span::micros(50);
/// A credential takes 20.7 ms with one worker, 27.5 ms of the lock with its revocation: PostgreSQL's
/// statements of one role (create, grant, commit), besides the commit's sync.
pub(crate) const POSTGRES_CREATE_ROLE: Span = Span::micros(11_000);
/// PostgreSQL's statements to drop one (revoke, drop, commit).
pub(crate) const POSTGRES_DROP_ROLE: Span = Span::micros(5_500);
/// One ALTER ROLE.
pub(crate) const POSTGRES_ALTER_ROLE: Span = Span::micros(1_500);
/// An agent's statement.
pub(crate) const POSTGRES_STATEMENT: Span = Span::micros(1_200);
/// An agent's call to a system that is not modelled further.
pub(crate) const EXTERNAL_CALL: Span = Span::millis(40);
/// The time an agent's own process takes to start before its first request.
pub(crate) const AGENT_START: Span = Span::millis(150);
