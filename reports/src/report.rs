//! `report.json`, version 1: its fields, and how they are made of measures.

use alertstorm_analysis::ledger::LeaseCounts;
use alertstorm_analysis::measure::{
    Accounting, Actions, From, LatencyRow, Measures, PathShare, Series,
};
use alertstorm_analysis::verdict::slo::{self, SloResult};
use alertstorm_model::event::{ApiCalls, Audited, Bucket, Component, CpuUse, Etcd, WaitSummary};
use alertstorm_model::investigation::{IdentityKind, Outcome};
use alertstorm_model::phase::Phase;
use alertstorm_model::scenario::Plan;
use alertstorm_model::time::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Names this version of the format.
pub const SCHEMA: &str = "alertstorm/report/v1";

/// Which world a figure comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum World {
    /// Virtual time.
    Twin,
    /// Real servers.
    Live,
}

/// A run, as scripts read it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// Always `alertstorm/report/v1`.
    pub schema: String,
    /// The scenario's name.
    pub name: String,
    /// The scenario's question.
    pub question: String,
    /// Which world the figures come from.
    pub world: World,
    /// Which provider: `embedded` for the twin.
    pub provider: String,
    /// The seed of every draw.
    pub seed: u64,
    /// Names the plan; runs are comparable where it is the same.
    pub plan: String,
    /// Digest of the event log; the same for the same plan and seed.
    pub digest: String,
    /// Trust phase of the agents.
    pub phase: Phase,
    /// Whose identity agents showed.
    pub identity: IdentityKind,
    /// Length of the run in (virtual) seconds.
    pub duration_s: f64,
    /// Seconds from the first to the last alert.
    pub alerts_over_s: f64,
    /// Somebody ended the run early: what was open is unfinished.
    pub interrupted: bool,
    /// Why the figures cannot be trusted; empty where they can.
    pub invalid: Vec<String>,
    /// What a reader must know besides: servers that died, memories that were lost.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
    /// Where every alert went.
    pub accounting: Accounting,
    /// How investigations ended.
    pub outcomes: Vec<OutcomeCount>,
    /// Latencies between stages.
    pub latencies: Vec<LatencyRow>,
    /// The component that holds the largest share of the critical path.
    pub bottleneck: Option<Bottleneck>,
    /// Every component's share of the critical path.
    pub critical_path: Vec<PathShare>,
    /// Objectives and what they came to.
    pub slos: Vec<SloResult>,
    /// Leases.
    pub leases: LeaseReport,
    /// TokenReviews made by Vault.
    pub token_reviews: u64,
    /// How much of Vault's audit log names one investigation.
    pub attribution: Attribution,
    /// What agents did and were refused.
    pub actions: Actions,
    /// What the agents' model cost.
    pub cost: Cost,
    /// Calls to the API server.
    pub api_calls: Vec<ApiCalls>,
    /// etcd.
    pub etcd: Etcd,
    /// Client token buckets.
    pub buckets: Vec<Bucket>,
    /// Processor time by host and process.
    pub cpu: Vec<CpuUse>,
    /// Distributions of waits.
    pub waits: Vec<WaitSummary>,
    /// The run over time.
    pub series: Series,
    /// Quantiles of the three latencies that are drawn as curves: name, and seconds at each of
    /// the quantiles 0, 0.05 … 0.95, 0.99, 0.999 and 1.
    pub curves: Vec<(String, Vec<f64>)>,
    /// The harness itself.
    pub harness: Harness,
    /// What a live run found when it audited itself and its books.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audited: Option<Audited>,
}

/// The quantiles at which curves are kept.
pub const CURVE: [f64; 23] = [
    0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8,
    0.85, 0.9, 0.95, 0.99, 0.999, 1.0,
];

/// How often an outcome was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutcomeCount {
    /// The outcome.
    pub outcome: Outcome,
    /// Investigations that ended so.
    pub count: u64,
}

/// The bottleneck, and what moves it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Bottleneck {
    /// The component; on real servers the one that ends the largest gap.
    pub component: Component,
    /// On real servers only: the gap between stages that is the largest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<String>,
    /// Its share of the critical path, 0 to 1.
    pub share: f64,
    /// The path's end: `credentials_ready`, or `job_finished` where agents need no Vault.
    pub until: String,
    /// What it was doing, in a clause.
    pub detail: String,
    /// The knob that moves it; nothing where no knob does.
    pub knob: Option<String>,
    /// What happened when the twin was run again with the knob moved.
    pub tried: Option<Tried>,
}

/// A run with one knob moved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Tried {
    /// The knob's path in the scenario.
    pub knob: String,
    /// Its value.
    pub from: String,
    /// The value tried.
    pub to: String,
    /// The latency that was looked at: `agent ready` or `job finished`.
    pub latency: String,
    /// Its 99th percentile before, in seconds.
    pub before_p99_s: Option<f64>,
    /// Its 99th percentile after, in seconds.
    pub after_p99_s: Option<f64>,
    /// The bottleneck that is next.
    pub next: Option<Component>,
}

/// The result of a run with one knob moved, before it is worded.
pub struct Advice {
    /// The knob's path.
    pub knob: &'static str,
    /// Its value.
    pub from: String,
    /// The value tried.
    pub to: String,
    /// What the run came to.
    pub measures: Measures,
}

/// Leases, and what became of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LeaseReport {
    /// The ledger's sums.
    #[serde(flatten)]
    pub counts: LeaseCounts,
    /// Longest time an orphan was alive after its investigation, in seconds.
    pub orphan_exposure_max_s: f64,
    /// The same on the mean over orphans.
    pub orphan_exposure_mean_s: f64,
    /// Leases issued and ended a second, over the whole run.
    pub churn_mean_per_s: f64,
    /// The same between the two samples where it was largest.
    pub churn_peak_per_s: f64,
    /// 99th percentile of the time from a lease's end to its revocation, in seconds.
    pub revocation_lag_p99_s: Option<f64>,
}

/// How much of Vault's audit log names one investigation: the share of entries with an identity
/// that lead to exactly one, for the run's kind of identity and for both.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Attribution {
    /// Entries with an identity.
    pub entries: u64,
    /// The share with the run's identity, 0 to 1; nothing where there are no entries.
    pub share: Option<f64>,
    /// The share that one identity for all agents would have given.
    pub share_shared_agent: Option<f64>,
    /// The share that an identity for each investigation would have given.
    pub share_per_investigation: Option<f64>,
}

/// What the model behind the agents cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cost {
    /// Dollars in all.
    pub total_usd: f64,
    /// Dollars an investigation, median.
    pub p50_usd: Option<f64>,
    /// Dollars an investigation, 99th percentile.
    pub p99_usd: Option<f64>,
    /// Tool calls.
    pub tool_calls: u64,
    /// Tokens.
    pub tokens: u64,
}

/// The harness itself: only `wall_s` is not reproducible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Harness {
    /// Seconds that the run took.
    pub wall_s: f64,
    /// Events of the engine.
    pub engine_events: u64,
    /// Facts in the event log.
    pub facts: u64,
}

impl Report {
    /// Makes the report of a run whose books are closed.
    pub fn new(plan: &Plan, measures: &Measures, wall_s: f64) -> Self {
        let (world, provider) = match &measures.provider {
            Some(provider) => (World::Live, provider.as_str()),
            None => (World::Twin, "embedded"),
        };
        let scenario = plan.scenario();
        let sample = measures.last_sample.clone().unwrap_or_default();
        let counts = measures.leases();
        let (exposure_mean, exposure_max) = measures.exposure();
        let duration_s = measures.now().as_secs_f64();
        let (tool_calls, tokens) = measures.agent_work();
        let moved = counts.issued + counts.revoked + counts.expired + counts.irrevocable;
        let share_of = |n: u64| {
            let entries = sample.audit.entries;
            (entries > 0).then(|| n as f64 / entries as f64)
        };
        let shared = share_of(sample.audit.named_shared);
        let own = share_of(sample.audit.named_per_investigation);
        let usd = |q| measures.cost_micro_usd.quantile_raw(q).map(|micro| micro as f64 / 1e6);
        Self {
            schema: SCHEMA.to_owned(),
            name: scenario.name.clone(),
            question: scenario.question.clone(),
            world,
            provider: provider.to_owned(),
            seed: scenario.seed,
            plan: plan.digest().to_owned(),
            digest: measures.digest(),
            phase: scenario.phase,
            identity: scenario.identity,
            duration_s,
            alerts_over_s: plan.alerts_last().as_secs_f64(),
            interrupted: measures.interrupted,
            invalid: measures.invalid.clone(),
            remarks: measures.remarks.clone(),
            accounting: measures.accounting,
            outcomes: Outcome::ALL
                .iter()
                .map(|&outcome| OutcomeCount { outcome, count: measures.outcome(outcome) })
                .filter(|outcome| outcome.count > 0)
                .collect(),
            latencies: measures.latencies.iter().map(|latency| latency.row()).collect(),
            bottleneck: bottleneck(plan, measures),
            critical_path: measures.critical_path(),
            slos: scenario.slos.iter().map(|slo| slo::judge(slo, measures)).collect(),
            leases: LeaseReport {
                counts,
                orphan_exposure_max_s: exposure_max.as_secs_f64(),
                orphan_exposure_mean_s: exposure_mean,
                churn_mean_per_s: moved as f64 / duration_s.max(1e-9),
                churn_peak_per_s: measures.series.churn_peak_per_s(),
                revocation_lag_p99_s: measures.revocation_lag.quantile(0.99).map(Span::as_secs_f64),
            },
            token_reviews: sample.token_reviews,
            attribution: Attribution {
                entries: sample.audit.entries,
                share: match scenario.identity {
                    IdentityKind::SharedAgent => shared,
                    IdentityKind::PerInvestigation => own,
                },
                share_shared_agent: shared,
                share_per_investigation: own,
            },
            actions: measures.actions,
            cost: Cost {
                total_usd: measures.cost_usd(),
                p50_usd: usd(0.5),
                p99_usd: usd(0.99),
                tool_calls,
                tokens,
            },
            api_calls: sample.api_calls,
            etcd: sample.etcd,
            buckets: sample.buckets,
            cpu: sample.cpu,
            waits: sample.waits,
            series: measures.series.clone(),
            curves: curves(measures),
            harness: Harness {
                wall_s,
                engine_events: sample.engine_events,
                facts: measures.events(),
            },
            audited: measures.audited.clone(),
        }
    }

    /// Adds what a run with the knob moved came to.
    pub fn tried(&mut self, advice: &Advice) {
        let Some(bottleneck) = &mut self.bottleneck else {
            return;
        };
        let until = bottleneck.until.parse().ok();
        let latency = until.map(|stage| advice.measures.latencies.to(stage).row());
        let before =
            self.latencies.iter().find(|row| row.from == "alert" && row.to == bottleneck.until);
        bottleneck.tried = Some(Tried {
            knob: advice.knob.to_owned(),
            from: advice.from.clone(),
            to: advice.to.clone(),
            latency: match bottleneck.until.as_str() {
                "credentials_ready" => "agent ready".to_owned(),
                other => other.replace('_', " "),
            },
            before_p99_s: before.and_then(|row| row.p99_s),
            after_p99_s: latency.and_then(|row| row.p99_s),
            next: advice.measures.critical_path().first().map(|share| share.component),
        });
    }

    /// Whether waits are gaps between stages (real servers) and not causes (the twin).
    pub fn has_gaps(&self) -> bool {
        self.world == World::Live
    }

    /// Whether every objective held.
    pub fn held(&self) -> bool {
        self.slos.iter().all(|slo| slo.held)
    }

    /// The row of a latency from the alert.
    pub fn latency(&self, to: &str) -> Option<&LatencyRow> {
        self.latencies.iter().find(|row| row.from == "alert" && row.to == to)
    }
}

fn curves(measures: &Measures) -> Vec<(String, Vec<f64>)> {
    use alertstorm_model::investigation::Stage;
    let all = [
        ("job startup", Stage::PodRunning),
        ("agent ready", Stage::CredentialsReady),
        ("job finished", Stage::JobFinished),
    ];
    let curve = |(name, stage): (&str, Stage)| {
        let latency = measures.latencies.between(From::Stage(Stage::Alert), stage)?;
        let at = |q: &f64| latency.curve.quantile(*q).map(Span::as_secs_f64);
        let values: Option<Vec<f64>> = CURVE.iter().map(at).collect();
        values.map(|values| (name.to_owned(), values))
    };
    all.into_iter().filter_map(curve).collect()
}

fn bottleneck(plan: &Plan, measures: &Measures) -> Option<Bottleneck> {
    let shares = measures.critical_path();
    let first = shares.first()?;
    let knob = alertstorm_analysis::advice::knob(first.component, plan.scenario());
    Some(Bottleneck {
        component: first.component,
        gap: first.gap.clone(),
        share: first.share,
        until: measures.paths.until().to_string(),
        detail: detail(plan, measures, first),
        knob: knob.map(|knob| knob.path.to_owned()),
        tried: None,
    })
}

/// What the bottleneck was doing.
fn detail(plan: &Plan, measures: &Measures, first: &PathShare) -> String {
    let buckets = measures.last_sample.iter().flat_map(|sample| &sample.buckets);
    let mean = Span::from_secs_f64(first.mean_s);
    // Real clients do not tell how long their bucket was empty.
    let limited = |qps: f64, client: &str| {
        let of = buckets.clone().find(|bucket| bucket.client == client);
        match Span(of.map_or(0, |bucket| bucket.empty_ns)) {
            Span::ZERO => format!("{qps} calls/s: {mean} per investigation"),
            empty => format!("{qps} calls/s: empty for {empty}"),
        }
    };
    let cluster = &plan.scenario().cluster;
    match first.component {
        Component::JobControllerBucket => {
            let qps = cluster.control_plane.controller_manager.kube_api_qps.0;
            limited(qps, "job-controller")
        }
        Component::SchedulerBucket => {
            limited(cluster.control_plane.scheduler.kube_api_qps.0, "scheduler")
        }
        Component::Concurrency => {
            format!("{} at once: {mean} per investigation", plan.scenario().controller.concurrency)
        }
        _ => format!("{mean} per investigation"),
    }
}
