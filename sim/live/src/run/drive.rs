//! The second phase: sends alerts, watches, makes faults and takes samples, until every alert is
//! accounted for.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use alertstorm_model::event::{Fact, Sink};
use alertstorm_model::scenario::Part;
use alertstorm_model::time::Time;
use alertstorm_platform::Agents;
use alertstorm_platform::provider::Progress;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::error::RunError;
use super::host;
use super::lead::Lead;
use super::prepare::Prepared;
use super::teardown::Made;
use crate::alerts::Alerts;
use crate::engine::Engine;
use crate::forensics;
use crate::jobs::Jobs;
use crate::lags::{Lag, Lags};
use crate::probe;
use crate::reporter::Inbox;
use crate::shard::fleet;
use crate::shard::fleet::merge::Merge;
use crate::task::guarded;
use crate::usage::harness_cpu;
use crate::watchdog;

/// From the end of the preparation to the run's start.
const LEAD: Duration = Duration::from_millis(300);

/// A run that has ended.
pub(super) struct Driven<'a> {
    pub lead: Lead<'a>,
    pub run: host::Run,
    pub inbox: Inbox,
    pub trails_before: forensics::Read,
    /// Whether the user ended it early.
    pub interrupted: bool,
    pub lags: Lags,
    /// Processor time of this process and of all shards.
    pub used: Duration,
}

impl Driven<'_> {
    /// Writes all events that are still buffered, and stops reading the shards' logs.
    pub async fn close(mut self) {
        self.lead.close(&mut self.inbox, &self.run);
        if let Some(fleet) = self.lead.into_fleet() {
            fleet.end().await;
        }
    }
}

/// Runs the plan on a platform that is ready.
pub(super) async fn drive<'a>(
    made: &mut Made,
    prepared: Prepared,
    sink: &'a mut dyn Sink,
    progress: Progress<'_>,
    watch: &mut dyn FnMut(Time) -> ControlFlow<()>,
) -> Result<Driven<'a>, RunError> {
    let (plan, provider) = (Arc::clone(&made.plan), Arc::clone(&made.provider));
    let Prepared {
        platform,
        tokens,
        validities,
        clients,
        agent_reports,
        mut inbox,
        nodes,
        scraper,
        trails_before,
        fleet,
    } = prepared;
    let reporter = agent_reports.reporter.clone();
    let lead = if fleet.is_some() { fleet::LEAD } else { LEAD };
    reporter.clock().start(Instant::now() + lead);
    let agents = platform.agents.clone();
    let in_pods = matches!(agents, Agents::Pods(_));
    let backend = clients.backend();
    let jobs = Jobs::new(
        Arc::clone(&plan),
        platform.names.clone(),
        backend,
        agents,
        reporter.clone(),
        Part::WHOLE,
    );
    let selector = jobs.selector();
    let sharded = fleet.is_some();
    let (mut lead, restart): (_, Arc<dyn Fn() + Send + Sync>) = match fleet {
        Some(mut fleet) => {
            fleet.begin(reporter.clock().wall_zero()).await?;
            let merge = Merge::new(fleet, sink, agent_reports.clone());
            // Each shard has its own controller and makes its crashes.
            (Lead::Fleet(Box::new(merge)), Arc::new(|| {}))
        }
        None => {
            let engine = Engine::new(
                Arc::clone(&plan),
                sink,
                reporter.clone(),
                Arc::clone(&jobs),
                selector.clone(),
                agent_reports.book.clone(),
                in_pods,
            );
            let lists = engine.lists();
            (Lead::Engine(Box::new(engine)), Arc::new(move || drop(tokio::spawn(lists()))))
        }
    };
    lead.platform(Fact::Began { provider: platform.provider.into() });
    for remark in &platform.remarks {
        lead.platform(Fact::Remark { text: remark.as_str().into() });
    }
    let run = host::Run {
        generation: Arc::new(Mutex::new(provider.generation())),
        booked: Arc::new(AtomicU64::new(provider.generation())),
        runtime: tokio::runtime::Handle::current(),
        restart,
        sharded,
        plan: Arc::clone(&plan),
        provider,
        platform,
        reviewer: Arc::new(RwLock::new(tokens.vault)),
        agent_reports,
        nodes,
        scraper: Arc::new(scraper),
        sampling: Arc::default(),
    };
    run.follow(&clients, &selector, &mut made.tasks);
    if let Some(validities) = validities {
        run.renew_tokens(&clients, validities, &mut made.tasks);
    }
    let began = harness_cpu();
    run.plan_faults(&mut made.tasks);
    let watchdog = watchdog::follow(Arc::clone(&plan), clients.lanes().into(), reporter.clone());
    made.tasks.spawn(guarded("the watchdog", reporter.clone(), watchdog));
    let (lanes, probe) = (clients.lanes().into(), clients.backend().client().clone());
    let reachable = watchdog::reachable(Arc::clone(&plan), lanes, probe, reporter.clone());
    made.tasks.spawn(guarded("the watchdog", reporter.clone(), reachable));
    let timers = watchdog::timers(reporter.clone());
    made.tasks.spawn(guarded("the measurement of timers", reporter.clone(), timers));
    let namespace = run.platform.names.namespace();
    let probe = probe::follow(clients.backend(), namespace, reporter.clone());
    made.tasks.spawn(guarded("the probe of the API server", reporter.clone(), probe));
    let own =
        (!sharded).then(|| Alerts::start(plan, Part::WHOLE, BTreeSet::new(), reporter.clone()));
    tracing::info!("the run has begun");
    progress("the run has begun");
    let interrupted = lead.run(&mut inbox, &run, watch).await;
    if let Some(alerts) = own {
        alerts.stop();
    }
    tracing::info!(interrupted, "the run has ended");
    let lags = reporter.lags().clone();
    let of_shards = lead.of_shards(&lags);
    for lanes in clients.lanes() {
        lags.add(Lag::Reading, &lanes.read_lag());
        if let Some(text) = lanes.trouble() {
            lead.platform(Fact::Remark { text: text.into() });
        }
    }
    let used = harness_cpu().saturating_sub(began) + of_shards;
    Ok(Driven { lead, run, inbox, trails_before, interrupted, lags, used })
}
