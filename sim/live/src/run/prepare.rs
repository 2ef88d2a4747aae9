//! The first phase: the platform is set up for the plan, and everything that watches or drives it
//! is ready.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use alertstorm_agent::trust;
use alertstorm_agent::vault::VaultError;
use alertstorm_model::scenario::knobs::NodeRuntime;
use alertstorm_platform::bearer::Validity;
use alertstorm_platform::identity::node_name;
use alertstorm_platform::provider::Progress;
use alertstorm_platform::{
    Agents, Clients, Identities, Platform, PodSpec, Tokens, bootstrap, call, vault,
};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::error::RunError;
use super::teardown::Made;
use crate::agent_reports::AgentReports;
use crate::forensics;
use crate::kubelet::{HollowNode, Shared};
use crate::reporter::{Clock, Inbox, Reporter};
use crate::scrape::Scraper;
use crate::shard::Shards;
use crate::shard::fleet::Fleet;

/// How long to wait until all hollow nodes are ready.
const NODES_WITHIN: Duration = Duration::from_secs(120);
/// How long requests to the API server are retried.
const PATIENCE: Duration = Duration::from_secs(30);

/// A platform that is ready for the plan.
pub(super) struct Prepared {
    pub platform: Platform,
    pub tokens: Tokens,
    /// How long the tokens are valid, in the order of [`bootstrap::Own::ALL`]; none if they do not
    /// expire.
    pub validities: Option<[Validity; 3]>,
    pub clients: Clients,
    pub agent_reports: AgentReports,
    pub inbox: Inbox,
    pub nodes: Vec<HollowNode>,
    pub scraper: Scraper,
    /// The lengths of the audit logs before the run.
    pub trails_before: forensics::Read,
    /// The shards, if they generate the load.
    pub fleet: Option<Fleet>,
}

/// Sets up the platform.
pub(super) async fn prepare(
    made: &mut Made,
    shards: Option<&Shards>,
    progress: Progress<'_>,
) -> Result<Prepared, RunError> {
    let (plan, provider) = (Arc::clone(&made.plan), Arc::clone(&made.provider));
    let platform = provider.platform()?;
    if shards.is_some() && matches!(platform.agents, Agents::Hollow(_)) {
        return Err(RunError::NoPods);
    }
    tracing::info!(provider = platform.provider, api_server = platform.api_server, "preparing");
    progress("setting up the namespace, the identities and Vault");
    let admin = platform.admin.clone();
    made.admin = Some(admin.clone());
    if !platform.is_prepared {
        bootstrap::apply(plan.scenario(), &platform).await?;
    }
    let (tokens, validities) = match &platform.identities {
        // Of the API server's token file: they do not expire.
        Identities::Users(tokens) => (tokens.clone(), None),
        Identities::Accounts => {
            let (tokens, validities) = bootstrap::tokens(&admin, &platform.names).await?;
            (tokens, Some(validities))
        }
    };
    if !platform.is_prepared {
        let (vault, around, names) = (provider.vault()?, &platform.around, &platform.names);
        vault::configure(&vault, plan.scenario(), around, &tokens.vault, names).await?;
    } else {
        // The roles that a run creates issue service tokens; those of an environment may have been changed.
        let vault = provider.vault()?;
        if let Some(role) = vault::batch_role(&vault, plan.scenario(), &platform.names).await? {
            return Err(RunError::BatchTokens(role));
        }
    }
    let clients = Clients::new(&platform, &tokens, &plan)?;

    let (reporter, inbox) = Reporter::new(Clock::default());
    let agent_reports = AgentReports::new(reporter.clone(), None);
    let nodes = match &platform.agents {
        Agents::Hollow(_) => {
            let count = plan.scenario().cluster.nodes.get() as usize;
            progress(&format!("registering {count} hollow nodes"));
            made.hollow_nodes = count;
            let (plan, agent_reports) = (Arc::clone(&plan), agent_reports.clone());
            let shared = Shared::new(plan, agent_reports, clients.clone(), &platform);
            let nodes = register(&shared, &clients, count, &mut made.tasks).await?;
            nodes_ready(&admin, count).await?;
            nodes
        }
        Agents::Pods(_) => Vec::new(),
    };

    let tls = trust::only(&platform.ca)?;
    let mut scraper =
        Scraper::new(&platform, &tokens.scraper, clients.scraper(), tls, reporter.clone())?;
    let failed = |error: &VaultError| reporter.failed("the client of Vault", error);
    let vault = provider.vault().inspect_err(failed).ok();
    scraper.start(&provider.usage().await, vault.as_ref(), plan.scenario()).await;
    let trails_before = forensics::Read::now(&platform.trails);
    let fleet = match (shards, &platform.agents) {
        (Some(shards), Agents::Pods(spec)) => {
            progress(&format!("deploying {} shards", shards.count));
            made.sharded = true;
            let spec = PodSpec::clone(spec);
            Some(Fleet::deploy(plan, shards, spec, &platform.names, admin).await?)
        }
        _ => None,
    };
    Ok(Prepared {
        platform,
        tokens,
        validities,
        clients,
        agent_reports,
        inbox,
        nodes,
        scraper,
        trails_before,
        fleet,
    })
}

async fn register(
    shared: &Arc<Shared>,
    clients: &Clients,
    count: usize,
    tasks: &mut JoinSet<()>,
) -> Result<Vec<HollowNode>, RunError> {
    let mut nodes = Vec::with_capacity(count);
    let is_kwok = shared.plan.scenario().cluster.node.runtime == NodeRuntime::Kwok;
    for number in 0..count {
        let caller = if is_kwok { clients.kwok()? } else { clients.node(number)? };
        nodes.push(HollowNode::start(Arc::clone(shared), number, caller, tasks).await?);
    }
    Ok(nodes)
}

/// Waits until the control plane has removed the taints of all nodes, so that pods can be
/// scheduled.
async fn nodes_ready(admin: &Client, count: usize) -> Result<(), RunError> {
    let api: Api<Node> = Api::all(admin.clone());
    let names: BTreeSet<String> = (0..count).map(node_name).collect();
    let until = Instant::now() + NODES_WITHIN;
    let params = kube::api::ListParams::default();
    loop {
        let listed = call::patiently(PATIENCE, || async { api.list(&params).await }).await?;
        let open = |node: &&Node| {
            node.spec.as_ref().is_none_or(|spec| spec.taints.as_ref().is_none_or(Vec::is_empty))
        };
        let named = |node: &&Node| node.metadata.name.as_ref().is_some_and(|n| names.contains(n));
        let ready = listed.items.iter().filter(named).filter(open).count();
        if ready >= count {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(RunError::NodesNotReady(count - ready));
        }
        sleep(Duration::from_millis(100)).await;
    }
}
