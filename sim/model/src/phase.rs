//! The four trust phases and what each grants. The agent, the manifests and Vault's policies are all
//! derived from [`Phase::allows`].
//!
//! ```
//! use alertstorm_model::investigation::Domain;
//! use alertstorm_model::phase::{Action, Phase, Verb};
//!
//! let restart = Action { verb: Verb::SafeWrite, target: Domain::Application };
//! assert!(Phase::LimitedWrite.allows(Domain::Application, restart));
//! assert!(!Phase::LimitedWrite.allows(Domain::Network, restart), "another domain's system");
//! assert!(!Phase::ReadOnlyAssist.allows(Domain::Application, restart));
//! ```

use serde::{Deserialize, Serialize};

use crate::investigation::Domain;

words! {
    /// Trust phase of the agents, the least trusted first.
    pub enum Phase {
        /// Reads within its domain; nobody acts on its conclusions.
        Shadow = "shadow",
        /// Reads in all domains, and advises.
        ReadOnlyAssist = "read-only-assist",
        /// Also makes writes within its domain that can be undone.
        LimitedWrite = "limited-write",
        /// Also makes writes within its domain that cannot be undone.
        Autonomous = "autonomous",
    }
}

words! {
    /// Kind of an action.
    pub enum Verb {
        /// Changes nothing.
        Read = "read",
        /// A change that can be undone at once, such as a restart or a comment on a ticket.
        SafeWrite = "safe-write",
        /// A change that cannot be undone at once, such as to a schema or a firewall rule.
        RiskyWrite = "risky-write",
    }
}

impl Verb {
    /// Whether the action changes anything.
    pub const fn writes(self) -> bool {
        !matches!(self, Self::Read)
    }
}

words! {
    /// The system that refuses a forbidden action.
    pub enum Refuser {
        /// The API server, by RBAC.
        Rbac = "rbac",
        /// Vault, by the policy of the agent's role: it issues no credential.
        VaultPolicy = "vault-policy",
        /// PostgreSQL, by the grants of the credential's role.
        DatabaseGrant = "database-grant",
    }
}

/// An action that an agent attempts on the systems of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Action {
    /// Kind of the action.
    pub verb: Verb,
    /// Domain of the systems that it is done to; may differ from that of the alert.
    pub target: Domain,
}

impl Phase {
    /// Whether an agent investigating `home` may do `action`.
    ///
    /// Each phase allows everything that the one before it allows.
    pub fn allows(self, home: Domain, action: Action) -> bool {
        let own = action.target == home;
        match action.verb {
            Verb::Read => own || self >= Self::ReadOnlyAssist,
            Verb::SafeWrite => own && self >= Self::LimitedWrite,
            Verb::RiskyWrite => own && self >= Self::Autonomous,
        }
    }

    /// Whether Vault issues an agent investigating `home` a credential for `target`.
    pub fn grants_credential(self, home: Domain, target: Domain) -> bool {
        self.allows(home, Action { verb: Verb::Read, target })
    }

    /// The system that refuses a forbidden `action`; depends on the target's domain.
    pub const fn refuser(action: Action) -> Refuser {
        match action.target {
            Domain::Database => Refuser::DatabaseGrant,
            Domain::Application => Refuser::Rbac,
            Domain::Network | Domain::Security => Refuser::VaultPolicy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_phase_allows_what_the_one_before_it_allows_and_shadow_never_writes() {
        for &home in Domain::ALL {
            for &target in Domain::ALL {
                for &verb in Verb::ALL {
                    let action = Action { verb, target };
                    let granted: Vec<bool> =
                        Phase::ALL.iter().map(|phase| phase.allows(home, action)).collect();
                    assert!(granted.is_sorted(), "{home} {action:?}: {granted:?}");
                    assert!(!(verb.writes() && granted[Phase::Shadow.index()]));
                    assert!(!(verb.writes() && granted[Phase::ReadOnlyAssist.index()]));
                    assert!(!(verb.writes() && target != home && granted.contains(&true)));
                }
            }
        }
    }
}
