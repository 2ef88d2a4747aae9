//! What the hollow nodes of a run share.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use alertstorm_agent::names::Names;
use alertstorm_agent::{postgres, vault::Address};
use alertstorm_model::kubelet::KWOK_PARALLELISM;
use alertstorm_model::scenario::Plan;
use alertstorm_platform::{Clients, Platform};
use tokio::sync::Semaphore;

use crate::agent_reports::AgentReports;

/// The first pod IP. All are loopback addresses; each agent connects from its pod's address.
const POD_NETWORK: u32 = u32::from_be_bytes([127, 64, 0, 2]);

/// What the hollow nodes of a run share.
#[derive(Debug)]
pub struct Shared {
    pub plan: Arc<Plan>,
    /// Receives the agents' reports.
    pub agent_reports: AgentReports,
    /// Clients of the API server, one for each node and each agent.
    pub clients: Clients,
    /// The names of the run.
    pub names: Names,
    /// How agents connect to Vault.
    pub vault: Address,
    /// How agents connect to PostgreSQL.
    pub postgres: postgres::Address,
    /// KWOK's workers that are free.
    pub kwok_workers: Semaphore,
    next_ip: AtomicU32,
}

impl Shared {
    /// What the nodes of a run on `platform` share.
    pub fn new(
        plan: Arc<Plan>,
        agent_reports: AgentReports,
        clients: Clients,
        platform: &Platform,
    ) -> Arc<Self> {
        let (vault, postgres) = (platform.vault.clone(), platform.postgres.clone());
        let names = platform.names.clone();
        let next_ip = AtomicU32::new(POD_NETWORK);
        let kwok_workers = Semaphore::new(KWOK_PARALLELISM as usize);
        Arc::new(Self {
            plan,
            agent_reports,
            clients,
            names,
            vault,
            postgres,
            kwok_workers,
            next_ip,
        })
    }

    /// An IP that no other pod of the run has.
    pub fn pod_ip(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.next_ip.fetch_add(1, Ordering::Relaxed))
    }
}
