//! The events of the twin. `dispatch` maps each to its handler.

use alertstorm_model::investigation::InvestigationId;

use crate::arena::Key;
use crate::investigation::{FinishedJob, Inv};
use crate::lease::{Lease, LockId, Session};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Ev {
    Alert,
    ControllerWake,
    /// A sender's retry: the low 32 bits of its alert's number, and the next 16.
    Redeliver(u32, u16),
    /// A call to the API server, by its place among the calls in flight.
    CallSend(u32),
    CallComputed(u32),
    CallDone(u32),
    JobAdded(Key<Inv>),
    JobDue(Key<Inv>),
    JobFinishedSeen(Key<Inv>),
    TtlDue(Key<FinishedJob>),
    PodAdded(Key<Inv>),
    CycleDone(Key<Inv>),
    PodBound(Key<Inv>),
    ContainerStarted(Key<Inv>),
    Relist(Key<Inv>),
    PodRunningSeen(Key<Inv>),
    PodEndSeen(Key<Inv>),
    EvictNode(u32),
    AgentStarts(Key<Inv>),
    AgentStep(Key<Inv>),
    AgentActs(Key<Inv>),
    AgentActed(Key<Inv>),
    AgentActFailed(Key<Inv>),
    StatementDone(Key<Inv>),
    VaultUnavailable(Key<Inv>),
    /// Vault answers 403, as the token is no longer valid.
    TokenRefused(Key<Inv>),
    LoginChecked(Key<Inv>),
    LoggedIn(Key<Inv>),
    CredentialRefused(Key<Inv>),
    CredentialMade(Key<Inv>),
    Released(Key<Inv>),
    ReleaseFailed(Key<Inv>),
    LockDone(LockId),
    TokenExpires(Key<Session>),
    LeaseExpires(Key<Lease>),
    RenewDue(Key<Lease>),
    Renewed(Key<Lease>),
    Revoked(Key<Lease>),
    RevokeAgain(Key<Lease>),
    /// A fault of the plan, by its number.
    FaultBegins(u32),
    FaultEnds(u32),
    HostTick,
    Nothing,
    Background,
    AdjustSeats,
    Compact,
    Sample,
}

const _: () = assert!(size_of::<Ev>() == 8, "an entry of the event queue is 24 bytes");

impl Ev {
    pub const fn redeliver(id: InvestigationId) -> Self {
        Self::Redeliver(id.0 as u32, (id.0 >> 32) as u16)
    }
}
