//! Names of identities: ServiceAccounts of agents, nodes, and the investigation that a name
//! contains.

use alertstorm_model::controller::job;
use alertstorm_model::investigation::{Domain, IdentityKind, InvestigationId};
use alertstorm_model::phase::Phase;

/// The ServiceAccounts of agents on `home`: one name, or a glob that matches all names.
pub fn accounts_of(identity: IdentityKind, phase: Phase, home: Domain) -> String {
    match identity {
        IdentityKind::SharedAgent => {
            job::service_account(identity, phase, home, InvestigationId(0))
        }
        IdentityKind::PerInvestigation => format!("inv-*-{phase}-{home}"),
    }
}

/// The ServiceAccount whose tokens Vault's Kubernetes secrets engine issues for a domain's systems.
pub fn evidence_account(phase: Phase, target: Domain) -> String {
    format!("evidence-{phase}-{target}")
}

/// The name of a hollow node; numbers start at 0.
pub fn node_name(number: usize) -> String {
    format!("node-{number:04}")
}

/// The investigation id in the name of a Job, a pod or a ServiceAccount; `None` if there is none.
pub fn investigation_of(account: &str) -> Option<InvestigationId> {
    account.strip_prefix("inv-")?.split('-').next()?.parse().ok().map(InvestigationId)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_investigation_id_is_parsed_from_names_of_jobs_pods_and_service_accounts() {
        let id = InvestigationId(12);
        let own = job::service_account(
            IdentityKind::PerInvestigation,
            Phase::Shadow,
            Domain::Network,
            id,
        );
        assert_eq!(investigation_of(&own), Some(id));
        let shared =
            job::service_account(IdentityKind::SharedAgent, Phase::Shadow, Domain::Network, id);
        assert_eq!(investigation_of(&shared), None);
        assert_eq!(investigation_of("inv-0000012-abcdef01-x7k2p"), Some(id));
    }
}
