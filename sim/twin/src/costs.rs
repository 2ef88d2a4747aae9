//! All service times that are not knobs, each with its measurement.
//!
//! Processor times come from the 1,000-Job flood on two cores (control plane v1.36.3, tuned): per
//! Job kube-apiserver 40 ms, etcd 8.3 ms, controller manager 8.0 ms, scheduler 2.9 ms, KWOK
//! 6.7 ms, idle work included; and from the credential cycle (TokenRequest, login, one PostgreSQL
//! credential, revoke): Vault 8.5 ms, API server 6.8 ms, etcd 1.0 ms of processor time a cycle.
//! The sums are measured; their division among the calls is an estimate.

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

/// A request in terms of the API, and its cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpCost {
    pub verb: &'static str,
    pub resource: &'static str,
    /// Processor time of kube-apiserver.
    pub api: Span,
    /// Bytes of the revision written to etcd; `None` for a read.
    pub write: Option<u64>,
}

const fn op(verb: &'static str, resource: &'static str, api_us: u64, write: Option<u64>) -> OpCost {
    OpCost { verb, resource, api: Span::micros(api_us), write }
}

impl Op {
    /// The number of variants.
    pub const COUNT: usize = Self::UpdateNodeLease as usize + 1;

    /// The 13 calls for a Job in the tuned flood, watches included, add up to 36.5 ms of
    /// kube-apiserver: the measured 40 ms without idle work. Object sizes are those of the Job
    /// template.
    pub const fn cost(self) -> OpCost {
        match self {
            Self::CreateServiceAccount => op("create", "serviceaccounts", 1_600, Some(300)),
            Self::DeleteServiceAccount => op("delete", "serviceaccounts", 1_400, Some(100)),
            // As for a ServiceAccount, with some bytes more for subject and role.
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
            // The two API calls of the credential cycle.
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
/// kube-apiserver's work to send one change to its watchers.
pub(crate) const WATCH_API: Span = Span::micros(650);
/// The work of the controller manager's informers for one change.
pub(crate) const WATCH_CONTROLLERS: Span = Span::micros(200);
/// The controller manager's own work for one call: encoding and decoding.
pub(crate) const CONTROLLER_CALL: Span = Span::micros(300);
/// One sync of the Job controller, without its calls.
pub(crate) const JOB_SYNC: Span = Span::micros(1_600);
/// One scheduling cycle, without the part that depends on the number of nodes.
pub(crate) const SCHEDULER_CYCLE: Span = Span::micros(1_200);
/// Filtering and scoring one node.
pub(crate) const SCHEDULER_NODE: Span = Span::micros(12);
/// The scheduler's own work for one call.
pub(crate) const SCHEDULER_CALL: Span = Span::micros(500);
/// KWOK's work for one stage of a pod: 6.7 ms for the two stages of a Job.
pub(crate) const KWOK_STAGE: Span = Span::micros(3_350);
/// A kubelet's own work for one call; it counts only if all processes share one machine.
pub(crate) const KUBELET_CALL: Span = Span::micros(400);

/// Idle work of kube-apiserver, in thousandths of a core: what the 300-Job flood at defaults used
/// within its 88 s beyond 300 times the cost of a Job in the tuned flood.
pub(crate) const IDLE_MILLICORES_API: u64 = 100;
/// Idle work of etcd, from the same measurement.
pub(crate) const IDLE_MILLICORES_ETCD: u64 = 45;

/// A login by the kubernetes method, without the TokenReview.
pub(crate) const VAULT_LOGIN_KUBERNETES: Span = Span::micros(1_600);
/// A login by the jwt method, which verifies a signature.
pub(crate) const VAULT_LOGIN_JWT: Span = Span::micros(1_900);
/// Creating an entity and its alias, at the first login of an identity.
pub(crate) const VAULT_NEW_ENTITY: Span = Span::micros(900);
/// A kv read, a renewal or the revocation of a token, with policy check and audit entries.
pub(crate) const VAULT_SMALL: Span = Span::micros(700);
/// Vault's part of creating a database role, under the plugin's lock.
pub(crate) const VAULT_DB_CREATE: Span = Span::micros(3_000);
/// Vault's part of dropping a database role, or of extending its validity.
pub(crate) const VAULT_DB_CHANGE: Span = Span::micros(1_600);
/// A 2048-bit RSA key and its certificate: vault-benchmark's pki_issue has a mean of 468 ms with
/// ten workers on two cores.
pub(crate) const VAULT_PKI_ISSUE: Span = Span::micros(94_000);
/// Restoring one lease after a restart.
pub(crate) const VAULT_LOAD_LEASE: Span = Span::micros(50);
/// PostgreSQL's statements to create a role (create, grant, commit), without the commit's sync. A
/// credential takes 20.7 ms with one worker; with its revocation it holds the lock for 27.5 ms.
pub(crate) const POSTGRES_CREATE_ROLE: Span = Span::micros(11_000);
/// PostgreSQL's statements to drop a role (revoke, drop, commit).
pub(crate) const POSTGRES_DROP_ROLE: Span = Span::micros(5_500);
/// PostgreSQL's ALTER ROLE, which extends a role's validity.
pub(crate) const POSTGRES_ALTER_ROLE: Span = Span::micros(1_500);
/// One statement of an agent in PostgreSQL.
pub(crate) const POSTGRES_STATEMENT: Span = Span::micros(1_200);
/// An agent's call to a system that has no model: network devices, security tools.
pub(crate) const EXTERNAL_CALL: Span = Span::millis(40);
