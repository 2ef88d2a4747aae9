//! `report.json`, version 2: its fields, and how they are computed from measures.

use alertstorm_analysis::ledger::{LeaseCounts, TokenCounts};
use alertstorm_analysis::measure::{
    Accounting, Actions, From, LatencyRow, Measures, NotInvestigated, PathShare, Reading, Series,
};
use alertstorm_analysis::verdict::slo::{self, SloResult};
use alertstorm_model::event::{ApiCalls, Audited, Bucket, Component, CpuUse, Etcd, WaitSummary};
use alertstorm_model::investigation::{IdentityKind, Outcome};
use alertstorm_model::phase::Phase;
use alertstorm_model::scenario::{Plan, Slo};
use alertstorm_model::time::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::printable;

/// Name of this version of the format.
pub const SCHEMA: &str = "alertstorm/report/v2";

/// Where a scenario ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum World {
    /// In the twin, in virtual time.
    Twin,
    /// On real servers.
    Live,
}

/// The report of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// Always `alertstorm/report/v2`.
    pub schema: String,
    /// Name of the scenario.
    pub name: String,
    /// Question of the scenario; may be empty.
    pub question: String,
    /// Where the scenario ran.
    pub world: World,
    /// Provider of the platform: `embedded` for the twin, else `local`, `kind` or `cluster`.
    pub provider: String,
    /// Seed of all random draws.
    pub seed: u64,
    /// Digest of the plan: runs with the same plan had the same load and the same settings.
    pub plan: String,
    /// Digest of the event log. In the twin, the same plan and seed give the same digest.
    pub digest: String,
    /// Trust phase of the agents.
    pub phase: Phase,
    /// Whether agents shared one identity, or each investigation had its own.
    pub identity: IdentityKind,
    /// Length of the run in seconds; virtual ones in the twin.
    pub duration_s: f64,
    /// Seconds from the start of the run to the end of the last source of alerts.
    pub alerts_over_s: f64,
    /// Whether the run was interrupted; investigations still running then count as unfinished.
    pub interrupted: bool,
    /// Reasons why the figures cannot be trusted; empty for a valid run.
    pub invalid: Vec<String>,
    /// Remarks on the run, such as that a server was restarted or lost its data.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
    /// Alerts by their final state.
    pub accounting: Accounting,
    /// Alerts that were not investigated, by reason.
    pub not_investigated: NotInvestigated,
    /// Finished investigations by outcome; outcomes without any are left out.
    pub outcomes: Vec<OutcomeCount>,
    /// Latencies from the alert and from `job_sent` to each stage, and between stages.
    pub latencies: Vec<LatencyRow>,
    /// The largest share of the critical path; empty without any waits.
    pub bottleneck: Option<Bottleneck>,
    /// Shares of the critical path, the largest first. They add up to 1.
    pub critical_path: Vec<PathShare>,
    /// Results of the scenario's objectives; of `accounting.not_investigated <= 1%` if it has none.
    pub slos: Vec<SloResult>,
    /// Leases issued by Vault, and how they ended.
    pub leases: LeaseReport,
    /// Tokens issued by Vault for agents' logins, and how they ended. They are no part of `leases`.
    #[serde(default)]
    pub vault_tokens: TokenReport,
    /// TokenReviews that Vault requested from the API server; one per login with Kubernetes auth.
    pub token_reviews: u64,
    /// Share of Vault's audit log that identifies one investigation.
    pub attribution: Attribution,
    /// Actions of agents, done and refused.
    pub actions: Actions,
    /// LLM cost of the investigations.
    pub cost: Cost,
    /// Requests to the API server, at the end of the run.
    pub api_calls: Vec<ApiCalls>,
    /// etcd's counters at the end of the run.
    pub etcd: Etcd,
    /// Token buckets of rate-limited clients, at the end of the run.
    pub buckets: Vec<Bucket>,
    /// Processor time by machine and process, at the end of the run.
    pub cpu: Vec<CpuUse>,
    /// Distributions of waits within the platform.
    pub waits: Vec<WaitSummary>,
    /// Counts, queues and rates over time.
    pub series: Series,
    /// Quantiles of the three latencies that are drawn as curves: name, and seconds at each of
    /// the quantiles 0, 0.05 … 0.95, 0.99, 0.999 and 1.
    pub curves: Vec<(String, Vec<Reading>)>,
    /// Size and duration of the run.
    pub harness: Harness,
    /// Result of the audit at the end of a live run; empty for the twin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audited: Option<Audited>,
}

/// The quantiles of [`Report::curves`].
pub const CURVE: [f64; 23] = [
    0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8,
    0.85, 0.9, 0.95, 0.99, 0.999, 1.0,
];

/// Number of investigations with an outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutcomeCount {
    /// The outcome.
    pub outcome: Outcome,
    /// Investigations that ended with it; at least 1.
    pub count: u64,
}

/// The bottleneck: the component with the largest share of the critical path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Bottleneck {
    /// The component.
    pub component: Component,
    /// Live runs only: the gaps between stages in which the component was waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<String>,
    /// Live runs only: what shows the component as the cause: the servers' counters, the controller's own
    /// measurement, or a fault of the scenario. Without it the component ends the gap, and the cause is
    /// not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
    /// Share of the critical path; 0 to 1.
    pub share: f64,
    /// Stage at the end of the critical path: `credentials_ready`, or `job_finished` if agents
    /// request no credentials.
    pub until: String,
    /// Details for readers, such as the mean wait per investigation.
    pub detail: String,
    /// Path of the knob that moves the bottleneck; empty if there is none.
    pub knob: Option<String>,
    /// Result of running the twin again with the knob moved; empty if this was not done.
    pub tried: Option<Tried>,
}

/// Result of a second run with one knob moved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Tried {
    /// Path of the knob in the scenario.
    pub knob: String,
    /// Value in the scenario.
    pub from: String,
    /// Value in the second run.
    pub to: String,
    /// The latency that is compared: `agent ready` or `job finished`.
    pub latency: String,
    /// Set for a live run: both runs are of the twin, and this is what it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub twin: Option<TwinOf>,
    /// Its 99th percentile in the first run, in seconds.
    pub before_p99_s: Option<Reading>,
    /// Its 99th percentile in the second run, in seconds.
    pub after_p99_s: Option<Reading>,
    /// The bottleneck of the second run; empty without any waits.
    pub next: Option<Component>,
}

/// The twin of a live run: the same plan in virtual time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TwinOf {
    /// Cores of the one machine on which everything runs; empty if the scenario's machines were kept.
    pub cores: Option<u32>,
    /// The twin's bottleneck before the knob was moved; empty without any waits.
    pub bottleneck: Option<Component>,
}

/// The second run, with the bottleneck's knob moved; input of [`Report::tried`].
pub struct Advice {
    /// The twin's run before the knob was moved, if the report is of a live run.
    pub twin: Option<(TwinOf, Measures)>,
    /// Path of the knob.
    pub knob: &'static str,
    /// Value in the scenario.
    pub from: String,
    /// Value in the second run.
    pub to: String,
    /// Measures of the second run.
    pub measures: Measures,
}

/// Leases issued by Vault, and how they ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LeaseReport {
    /// Totals of the ledger.
    #[serde(flatten)]
    pub counts: LeaseCounts,
    /// Longest time in seconds that an orphan was alive after its investigation; 0 without orphans.
    pub orphan_exposure_max_s: f64,
    /// Mean over orphans of the time in seconds that they were alive after their investigation.
    pub orphan_exposure_mean_s: f64,
    /// Leases issued and ended per second, over the whole run.
    pub churn_mean_per_s: f64,
    /// Leases issued and ended per second, in the interval between two samples where it is largest.
    pub churn_peak_per_s: f64,
    /// 99th percentile of the time from a lease's expiry to its revocation, in seconds; empty if no
    /// lease expired.
    pub revocation_lag_p99_s: Option<f64>,
}

/// Tokens issued by Vault for agents' logins, and how they ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TokenReport {
    /// Totals of the ledger.
    #[serde(flatten)]
    pub counts: TokenCounts,
    /// Longest time in seconds that an orphan was alive after its investigation, up to the end of the
    /// run; 0 without orphans.
    pub orphan_exposure_max_s: f64,
    /// Mean over orphans of the time in seconds that they were alive after their investigation.
    pub orphan_exposure_mean_s: f64,
}

impl TokenReport {
    fn new(measures: &Measures) -> Self {
        let (mean, max) = measures.token_exposure();
        Self {
            counts: measures.tokens(),
            orphan_exposure_max_s: max.as_secs_f64(),
            orphan_exposure_mean_s: mean,
        }
    }
}

/// Share of Vault's audit log that identifies one investigation. Only entries that carry an agent's
/// identity count.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Attribution {
    /// Number of entries that carry an agent's identity.
    pub entries: u64,
    /// Share for the identities of this run, 0 to 1; empty without entries.
    pub share: Option<f64>,
    /// Share if agents share one identity, 0 to 1; empty without entries.
    pub share_shared_agent: Option<f64>,
    /// Share if each investigation has its own identity, 0 to 1; empty without entries.
    pub share_per_investigation: Option<f64>,
}

/// LLM cost of the investigations.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cost {
    /// Total in dollars, including investigations that did not finish.
    pub total_usd: f64,
    /// Median over investigations, in dollars; empty without any.
    pub p50_usd: Option<f64>,
    /// 99th percentile over investigations, in dollars; empty without any.
    pub p99_usd: Option<f64>,
    /// Tool calls of all agents.
    pub tool_calls: u64,
    /// LLM tokens of all agents, input and output.
    pub tokens: u64,
}

/// Size and duration of the run. In the twin, `wall_s` is the only field of the report that differs
/// between runs with the same plan and seed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Harness {
    /// Wall-clock time of the run in seconds.
    pub wall_s: f64,
    /// Events processed by the twin's engine; 0 on real servers.
    pub engine_events: u64,
    /// Number of facts recorded in the event log.
    pub facts: u64,
}

/// A log may be somebody else's, and a live run's remarks quote servers.
fn all_printable(lines: &[String]) -> Vec<String> {
    lines.iter().map(|line| printable::one_line(line).into_owned()).collect()
}

impl Report {
    /// The report of a run, from its closed measures. `wall_s` is its wall-clock time in seconds.
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
            question: printable::one_line(scenario.question.trim()).into_owned(),
            world,
            provider: printable::one_line(provider).into_owned(),
            seed: scenario.seed,
            plan: plan.digest().to_owned(),
            digest: measures.digest(),
            phase: scenario.phase,
            identity: scenario.identity,
            duration_s,
            alerts_over_s: plan.alerts_last().as_secs_f64(),
            interrupted: measures.interrupted,
            invalid: all_printable(&measures.invalid),
            remarks: all_printable(&measures.remarks),
            accounting: measures.accounting,
            not_investigated: measures.not_investigated(),
            outcomes: Outcome::ALL
                .iter()
                .map(|&outcome| OutcomeCount { outcome, count: measures.outcome(outcome) })
                .filter(|outcome| outcome.count > 0)
                .collect(),
            latencies: measures.latencies.iter().map(|latency| latency.row()).collect(),
            bottleneck: bottleneck(plan, measures),
            critical_path: measures.critical_path(),
            slos: objectives(plan).iter().map(|slo| slo::judge(slo, measures)).collect(),
            leases: LeaseReport {
                counts,
                orphan_exposure_max_s: exposure_max.as_secs_f64(),
                orphan_exposure_mean_s: exposure_mean,
                churn_mean_per_s: moved as f64 / duration_s.max(1e-9),
                churn_peak_per_s: measures.series.churn_peak_per_s(),
                revocation_lag_p99_s: measures.revocation_lag.quantile(0.99).map(Span::as_secs_f64),
            },
            vault_tokens: TokenReport::new(measures),
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

    /// Sets [`Bottleneck::tried`] from a second run.
    pub fn tried(&mut self, advice: &Advice) {
        let Some(bottleneck) = &mut self.bottleneck else {
            return;
        };
        let until = bottleneck.until.parse().ok();
        let row = |measures: &Measures| until.map(|stage| measures.latencies.to(stage).row());
        let latency = row(&advice.measures);
        let before = match &advice.twin {
            Some((_, measures)) => row(measures),
            None => {
                let of = |row: &&LatencyRow| row.from == "alert" && row.to == bottleneck.until;
                self.latencies.iter().find(of).cloned()
            }
        };
        bottleneck.tried = Some(Tried {
            knob: advice.knob.to_owned(),
            from: advice.from.clone(),
            to: advice.to.clone(),
            latency: match bottleneck.until.as_str() {
                "credentials_ready" => "agent ready".to_owned(),
                other => other.replace('_', " "),
            },
            twin: advice.twin.as_ref().map(|(twin, _)| twin.clone()),
            before_p99_s: before.and_then(|row| row.p99_s),
            after_p99_s: latency.and_then(|row| row.p99_s),
            next: advice.measures.bottleneck().map(|share| share.component),
        });
    }

    /// Whether the critical path is made of gaps between stages, with the servers' counters as evidence
    /// of their causes (real servers), instead of waits (the twin).
    pub fn has_gaps(&self) -> bool {
        self.world == World::Live
    }

    /// Whether all objectives are met.
    pub fn held(&self) -> bool {
        self.slos.iter().all(|slo| slo.held)
    }

    /// The row of the latency from the alert to a stage, by the stage's name.
    pub fn latency(&self, to: &str) -> Option<&LatencyRow> {
        self.latencies.iter().find(|row| row.from == "alert" && row.to == to)
    }
}

/// The objectives of a run.
fn objectives(plan: &Plan) -> Vec<Slo> {
    match &plan.scenario().slos[..] {
        [] => vec![slo::without_any()],
        slos => slos.to_vec(),
    }
}

fn curves(measures: &Measures) -> Vec<(String, Vec<Reading>)> {
    use alertstorm_model::investigation::Stage;
    let all = [
        ("job startup", Stage::PodRunning),
        ("agent ready", Stage::CredentialsReady),
        ("job finished", Stage::JobFinished),
    ];
    let curve = |(name, stage): (&str, Stage)| {
        let latency = measures.latencies.between(From::Stage(Stage::Alert), stage)?;
        let values: Option<Vec<Reading>> = CURVE.iter().map(|q| latency.at(*q)).collect();
        values.map(|values| (name.to_owned(), values))
    };
    all.into_iter().filter_map(curve).collect()
}

fn bottleneck(plan: &Plan, measures: &Measures) -> Option<Bottleneck> {
    let first = &measures.bottleneck()?;
    // Without evidence the component ends a gap, and moving its knob may change nothing.
    let known = first.gap.is_none() || first.evidence.is_some();
    let knob = alertstorm_analysis::advice::knob(first.component, plan.scenario());
    let knob = knob.filter(|_| known);
    Some(Bottleneck {
        component: first.component,
        gap: first.gap.clone(),
        evidence: first.evidence.clone(),
        share: first.share,
        until: measures.paths.until().to_string(),
        detail: detail(plan, measures, first),
        knob: knob.map(|knob| knob.path.to_owned()),
        tried: None,
    })
}

/// [`Bottleneck::detail`].
fn detail(plan: &Plan, measures: &Measures, first: &PathShare) -> String {
    let buckets = measures.last_sample.iter().flat_map(|sample| &sample.buckets);
    let mean = Span::from_secs_f64(first.mean_s);
    // Real clients do not report how long their bucket was empty.
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
