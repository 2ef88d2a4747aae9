//! One run on a provider's platform: sets it up for the plan, runs the engine, asks the servers what
//! they say of it, and holds the books against that.

mod error;
mod host;
mod lead;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alertstorm_agent::trust;
use alertstorm_model::event::{Audited, Fact, Sink, WaitSummary};
use alertstorm_model::scenario::{FaultKind, Part, Plan};
use alertstorm_model::time::Time;
use alertstorm_platform::bootstrap;
use alertstorm_platform::identity::node_name;
use alertstorm_platform::provider::{Provider, Tell};
use alertstorm_platform::vault;
use alertstorm_platform::{Agents, Clients, Identities};
use futures::future::LocalBoxFuture;
use hdrhistogram::Histogram;
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::alerts::Alerts;
use crate::engine::{Engine, Lags};
use crate::forensics::{self, Truth};
use crate::hearing::Hearing;
use crate::jobs::{self, Jobs};
use crate::kubelet::{HollowNode, Shared};
use crate::leases::LeaseBook;
use crate::reporter::{Clock, Reporter};
use crate::scrape::Scraper;
use crate::shard::Shards;
use crate::shard::fleet::merge::Merge;
use crate::shard::fleet::{self, Fleet};
use crate::usage::{harness_cpu, resident_max};
use lead::Lead;

pub use error::RunError;

/// Nodes that are not ready by then will not be.
const NODES_WITHIN: Duration = Duration::from_secs(120);
/// From the last preparation to the run's start.
const LEAD: Duration = Duration::from_millis(300);

/// Checks that the provider can make every fault of the plan.
///
/// # Errors
/// The first that it cannot.
pub fn check_faults(plan: &Plan, can: impl Fn(FaultKind) -> bool) -> Result<(), RunError> {
    match plan.faults().iter().find(|fault| !can(fault.kind)) {
        Some(fault) => Err(RunError::Fault(fault.kind)),
        None => Ok(()),
    }
}

/// Runs a plan on a platform; events go to `sink` as they become known, each with its own instant.
/// `watch` hears how far the run is and can end it. With `shards` the load comes from pods in the
/// cluster, else from here.
///
/// # Errors
/// Where the platform cannot be set up for the run, or its trails not be read; what happened until
/// then is written.
pub fn run<'a>(
    plan: &'a Plan,
    provider: Arc<dyn Provider>,
    shards: Option<&'a Shards>,
    sink: &'a mut dyn Sink,
    tell: Tell<'a>,
    watch: &'a mut dyn FnMut(Time) -> ControlFlow<()>,
) -> LocalBoxFuture<'a, Result<(), RunError>> {
    Box::pin(on_platform(plan, provider, shards, sink, tell, watch))
}

async fn on_platform(
    plan: &Plan,
    provider: Arc<dyn Provider>,
    shards: Option<&Shards>,
    sink: &mut dyn Sink,
    tell: Tell<'_>,
    watch: &mut dyn FnMut(Time) -> ControlFlow<()>,
) -> Result<(), RunError> {
    check_faults(plan, |fault| provider.can(fault))?;
    let plan = Arc::new(plan.clone());
    let platform = provider.platform()?;
    tell("setting up the namespace, the identities and Vault");
    let admin = platform.admin.clone();
    bootstrap::apply(plan.scenario(), &platform).await?;
    let tokens = match &platform.identities {
        Identities::Users(tokens) => tokens.clone(),
        Identities::Accounts => bootstrap::tokens(&admin).await?,
    };
    vault::configure(&provider.vault()?, plan.scenario(), &platform.around, &tokens.vault).await?;
    if provider.is_kept() {
        tell("clearing what an earlier run left on the kept platform");
        jobs::clear(&admin).await?;
    }
    let clients = Clients::new(&platform, &tokens, &plan)?;

    let (reporter, mut inbox) = Reporter::new(Clock::default());
    let hearing = Hearing {
        reporter: reporter.clone(),
        book: LeaseBook::new(reporter.clone()),
        truth: Truth::default(),
        wire: None,
    };
    let mut tasks = JoinSet::new();
    let nodes = match &platform.agents {
        Agents::Hollow(_) => {
            let count = plan.scenario().cluster.nodes.get() as usize;
            tell(&format!("registering {count} hollow nodes"));
            let (plan, hearing) = (Arc::clone(&plan), hearing.clone());
            let shared = Shared::new(plan, hearing, clients.clone(), &platform);
            let nodes = register(&shared, &clients, count, &mut tasks).await?;
            nodes_ready(&admin, count).await?;
            nodes
        }
        Agents::Pods(_) => Vec::new(),
    };

    let tls = trust::only(&platform.ca)?;
    let mut scraper = Scraper::new(&platform, &tokens.scraper, clients.scraper()?, tls)?;
    scraper.start(&provider.usage().await, provider.vault().ok().as_ref()).await;
    let seen_from = forensics::Read::now(&platform.trails);
    let fleet = match (shards, &platform.agents) {
        (None, _) => None,
        (Some(_), Agents::Hollow(_)) => return Err(RunError::NoPods),
        (Some(shards), Agents::Pods(spec)) => {
            tell(&format!("deploying {} shards", shards.count));
            let (plan, spec) = (Arc::clone(&plan), spec.clone());
            Some(Fleet::deploy(plan, shards, spec, admin.clone()).await?)
        }
    };
    // The run starts here: what was before is set-up.
    let lead = if fleet.is_some() { fleet::LEAD } else { LEAD };
    reporter.clock().start(Instant::now() + lead);
    let agents = platform.agents.clone();
    let in_pods = matches!(agents, Agents::Pods(_));
    let jobs =
        Jobs::new(Arc::clone(&plan), clients.backend()?, agents, reporter.clone(), Part::WHOLE);
    let selector = jobs.selector();
    let sharded = fleet.is_some();
    let (mut lead, restart): (_, Arc<dyn Fn() + Send + Sync>) = match fleet {
        Some(mut fleet) => {
            fleet.begin(reporter.clock().wall_zero()).await?;
            let merge = Merge::new(fleet, sink, hearing.clone());
            // Controllers are in the shards, and so are their crashes.
            (Lead::Fleet(Box::new(merge)), Arc::new(|| {}))
        }
        None => {
            let engine = Engine::new(
                Arc::clone(&plan),
                sink,
                reporter.clone(),
                Arc::clone(&jobs),
                selector.clone(),
                hearing.book.clone(),
                in_pods,
            );
            let lists = engine.lists();
            (Lead::Engine(Box::new(engine)), Arc::new(move || drop(tokio::spawn(lists()))))
        }
    };
    let run = host::Run {
        generation: Arc::new(Mutex::new(provider.generation())),
        booked: Arc::new(AtomicU64::new(provider.generation())),
        runtime: tokio::runtime::Handle::current(),
        restart,
        sharded,
        plan: Arc::clone(&plan),
        provider: Arc::clone(&provider),
        platform: platform.clone(),
        reviewer: tokens.vault.clone(),
        hearing: hearing.clone(),
        nodes,
        scraper: Arc::new(scraper),
        sampling: Arc::default(),
        lost: Arc::default(),
    };
    lead.platform(Fact::Began { provider: platform.provider.into() });
    for remark in &platform.remarks {
        lead.platform(Fact::Remark { text: remark.as_str().into() });
    }
    run.follow(&clients, &selector, &mut tasks)?;
    let began = (harness_cpu(), Instant::now());
    run.plan_faults(&mut tasks);
    let own = (!sharded)
        .then(|| Alerts::start(Arc::clone(&plan), Part::WHOLE, BTreeSet::new(), reporter.clone()));
    tell("the run has begun");
    let interrupted = lead.run(&mut inbox, &run, watch).await;
    if let Some(alerts) = own {
        alerts.stop();
    }
    let (lags, of_shards) = lead.lags();
    let used = harness_cpu().saturating_sub(began.0) + of_shards;
    let doubts = lags.doubts();

    tell("reading the servers' counters and trails");
    let verdict = run.judge(&seen_from, interrupted).await;
    let (mut verdict, invalid) = match verdict {
        Ok(verdict) => verdict,
        Err(error) => {
            lead.close(&mut inbox, &run);
            return Err(error);
        }
    };
    verdict.leases.lost = run.lost.load(Ordering::SeqCst) as u64;
    let vault = provider.vault().ok();
    let mut sample = run.scraper.sample(&provider.usage().await, vault.as_ref(), true).await;
    sample.audit = verdict.audit;
    sample.cpu.push(alertstorm_model::event::CpuUse {
        host: "this machine".to_owned(),
        cores: sample.cpu.first().map_or(1, |cpu| cpu.cores),
        process: "alertstorm".to_owned(),
        busy_ns: used.as_nanos() as u64,
        resident_bytes: Some(resident_max()),
    });
    lead.platform(Fact::Sample { sample: Box::new(sample) });
    for why in invalid.into_iter().chain(doubts) {
        lead.platform(Fact::Invalid { why: why.into() });
    }
    let audited = audited(&lags, used, verdict);
    lead.platform(Fact::Audited { audited: Box::new(audited) });
    lead.close(&mut inbox, &run);
    let fleet = lead.into_fleet();
    run.nodes.iter().for_each(HollowNode::end);
    tasks.shutdown().await;
    if let Some(fleet) = fleet {
        fleet.end().await?;
    }
    if provider.is_kept() {
        tell("cleaning the kept platform");
        run.clean(&jobs, &selector, admin).await?;
    }
    Ok(())
}

async fn register(
    shared: &Arc<Shared>,
    clients: &Clients,
    count: usize,
    tasks: &mut JoinSet<()>,
) -> Result<Vec<HollowNode>, RunError> {
    let mut nodes = Vec::with_capacity(count);
    for number in 0..count {
        let client = clients.node(number)?;
        nodes.push(HollowNode::start(Arc::clone(shared), number, client, tasks).await?);
    }
    Ok(nodes)
}

/// Waits until the control plane lets pods go to every node.
async fn nodes_ready(admin: &Client, count: usize) -> Result<(), RunError> {
    let api: Api<Node> = Api::all(admin.clone());
    let names: BTreeSet<String> = (0..count).map(node_name).collect();
    let until = Instant::now() + NODES_WITHIN;
    loop {
        let listed = api.list(&kube::api::ListParams::default()).await?;
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

fn summary(what: &str, of: &Histogram<u64>) -> WaitSummary {
    WaitSummary {
        what: what.to_owned(),
        count: of.len(),
        p50_ns: of.value_at_quantile(0.5),
        p99_ns: of.value_at_quantile(0.99),
        max_ns: of.max(),
    }
}

fn audited(lags: &Lags, used: Duration, verdict: forensics::Verdict) -> Audited {
    Audited {
        send_lag: summary("harness: send lag", &lags.send),
        watch_lag: summary("harness: watch lag", &lags.watch),
        harness_cpu_ns: used.as_nanos() as u64,
        harness_resident_max: resident_max(),
        leases: verdict.leases,
        denials: verdict.denials,
        attribution: verdict.attribution,
    }
}
