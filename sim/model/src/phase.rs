//! The four trust phases and what each grants. The agent, the manifests and the Vault policies are all
//! made from the table in [`Phase::allows`].
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
    /// How far an agent is trusted.
    pub enum Phase {
        /// Watches and concludes; nobody acts on it.
        Shadow = "shadow",
        /// Reads with credentials of its own and advises.
        ReadOnlyAssist = "read-only-assist",
        /// May undo what it did: writes of low risk within its domain.
        LimitedWrite = "limited-write",
        /// Acts alone within its domain.
        Autonomous = "autonomous",
    }
}

words! {
    /// What an action does to its target.
    pub enum Verb {
        /// Looks.
        Read = "read",
        /// Changes something that can be undone at once: a restart, a ticket's comment.
        SafeWrite = "safe-write",
        /// Changes something that cannot: a schema, a firewall rule.
        RiskyWrite = "risky-write",
    }
}

impl Verb {
    /// Whether it changes anything.
    pub const fn writes(self) -> bool {
        !matches!(self, Self::Read)
    }
}

words! {
    /// Who refused.
    pub enum Refuser {
        /// The API server's authorizer.
        Rbac = "rbac",
        /// Vault's policy.
        VaultPolicy = "vault-policy",
        /// The database's own grants.
        DatabaseGrant = "database-grant",
    }
}

/// Something an agent attempts on a system of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Action {
    /// What it does.
    pub verb: Verb,
    /// Whose system it does it to.
    pub target: Domain,
}

impl Phase {
    /// Whether an agent investigating `home` may do `action`.
    ///
    /// Phases only ever widen: what one grants, each later one grants too.
    pub fn allows(self, home: Domain, action: Action) -> bool {
        let own = action.target == home;
        match action.verb {
            Verb::Read => own || self >= Self::ReadOnlyAssist,
            Verb::SafeWrite => own && self >= Self::LimitedWrite,
            Verb::RiskyWrite => own && self >= Self::Autonomous,
        }
    }

    /// Whether Vault's policy gives an agent investigating `home` a credential for `target`.
    pub fn grants_credential(self, home: Domain, target: Domain) -> bool {
        self.allows(home, Action { verb: Verb::Read, target })
    }

    /// Who refuses a forbidden `action`: the system that holds what it is done to.
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
    fn phases_only_ever_widen_and_shadow_never_writes() {
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
