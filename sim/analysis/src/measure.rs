//! Measures of a run, folded from its event log. The same log gives the same measures, whether it
//! is read during the run or from disk.
//!
//! ```
//! use alertstorm_analysis::measure::{Measures, Reading};
//! use alertstorm_model::event::{Event, Fact, Sink};
//! use alertstorm_model::investigation::{Domain, InvestigationId, Severity, Stage};
//! use alertstorm_model::time::{Span, Time};
//!
//! let alert = Fact::Alert {
//!     intended: Time::ZERO,
//!     domain: Domain::Network,
//!     severity: Severity::Critical,
//! };
//! let running = Fact::Stage { stage: Stage::PodRunning };
//!
//! let mut measures = Measures::default();
//! measures.take(&Event::of(Time::ZERO, InvestigationId(1), alert));
//! measures.take(&Event::of(Time::ZERO + Span::secs(2), InvestigationId(1), running));
//! measures.close();
//!
//! assert_eq!(measures.accounting.unfinished, 1);
//! let job_startup = measures.latencies.to(Stage::PodRunning);
//! assert_eq!(job_startup.at(1.0), Some(Reading::At(2.0)));
//! assert_eq!(measures.latencies.to(Stage::CredentialsReady).censored, 1);
//! ```

mod accounting;
mod causes;
mod latency;
mod open;
mod paths;
mod reached;
mod reading;
mod series;

use rustc_hash::FxHashMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ledger::{LeaseCounts, Ledger, TokenCounts};
use alertstorm_model::digest::Digest;
use alertstorm_model::event::{Audited, Component, Depth, Event, Fact, Sample, Sink};
use alertstorm_model::investigation::{InvestigationId, Outcome, Stage};
use alertstorm_model::time::{Span, Time};
use open::{Open, Uncollected};

pub use accounting::{Accounting, NotInvestigated};
pub use latency::{Curve, From, Latencies, Latency, LatencyRow};
pub use paths::{PathShare, Paths};
pub use reached::Reached;
pub use reading::Reading;
pub use series::{Point, Series};

/// Actions of agents on the systems of their domains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Actions {
    /// Reads that succeeded.
    pub reads: u64,
    /// Writes that succeeded.
    pub writes: u64,
    /// Reads and requests for credentials that were refused.
    pub denied_reads: u64,
    /// Writes that were refused.
    pub denied_writes: u64,
}

/// The measures of the events taken so far. [`Self::close`] adds the investigations that are still
/// open at the end of the run.
#[derive(Default)]
pub struct Measures {
    open: FxHashMap<InvestigationId, Open>,
    /// Investigations whose Job is finished and not collected. Most investigations in memory are
    /// here, so an entry is two instants.
    uncollected: FxHashMap<InvestigationId, Uncollected>,
    /// Latencies between stages. An investigation is recorded when its Job finishes.
    pub latencies: Latencies,
    /// Alerts by final state.
    pub accounting: Accounting,
    /// The ledger of leases and tokens.
    pub ledger: Ledger,
    /// Waits on the critical path, by component.
    pub paths: Paths,
    /// Actions of agents.
    pub actions: Actions,
    /// One point for each sample of the platform's counters, and the faults.
    pub series: Series,
    /// Cost of each finished investigation, in millionths of a dollar.
    pub cost_micro_usd: Curve,
    /// Time from a lease's expiry to its revocation by Vault's expiration manager, for each expired
    /// lease.
    pub revocation_lag: Curve,
    /// The latest sample of the platform's counters; `None` before the first.
    pub last_sample: Option<Sample>,
    /// Reasons why the run is invalid: at most the first ten; empty for a valid run.
    pub invalid: Vec<String>,
    /// Whether the run was interrupted, for example by Ctrl-C.
    pub interrupted: bool,
    /// The provider of a live run's platform, such as `local`; `None` for the twin.
    pub provider: Option<String>,
    /// Remarks of the run for the report: at most the first hundred.
    pub remarks: Vec<String>,
    /// Reconciliation of a live run with the servers' records; `None` for the twin.
    pub audited: Option<Audited>,
    outcomes: [u64; Outcome::COUNT],
    never_started: u64,
    /// The first alert's intended instant, and the last end of an investigation.
    span: Option<(Time, Time)>,
    cost_sum_micro_usd: u64,
    tool_calls: u64,
    tokens: u64,
    now: Time,
    digest: Digest,
    closed: bool,
}

impl Sink for Measures {
    fn take(&mut self, event: &Event) {
        self.digest.fold(event);
        if event.at < self.now {
            let (at, now) = (event.at, self.now);
            self.invalidate(format!("events are out of order: {at:?} after {now:?}"));
        }
        self.now = self.now.max(event.at);
        if let Err(error) = self.ledger.fold(event) {
            self.invalidate(error.to_string());
        }
        match event.inv {
            Some(inv) => self.investigation_event(event.at, inv, &event.fact),
            None => self.platform_event(event.at, &event.fact),
        }
    }
}

impl Measures {
    fn invalidate(&mut self, why: String) {
        if self.invalid.len() < 10 {
            self.invalid.push(why);
        }
    }

    fn investigation_event(&mut self, at: Time, inv: InvestigationId, fact: &Fact) {
        match fact {
            &Fact::Alert { intended, .. } => {
                if self.open.insert(inv, Open::of_alert(intended)).is_some() {
                    self.invalidate(format!("{inv} has two alerts"));
                }
                self.accounting.alerts += 1;
                let (first, last) = self.span.unwrap_or((intended, intended));
                self.span = Some((first.min(intended), last));
            }
            Fact::Deduplicated { .. } => {
                self.open.remove(&inv);
                self.accounting.deduplicated += 1;
            }
            Fact::Shed { .. } => {
                self.open.remove(&inv);
                self.accounting.shed += 1;
                self.latencies.record_shed();
            }
            Fact::JobSent => self.update(inv, |open| open.sent = open.sent.min(at)),
            Fact::Stage { stage: Stage::JobCollected } => self.job_collected(at, inv),
            &Fact::Stage { stage } => self.stage(at, inv, stage),
            &Fact::Ended { outcome } => self.ended(at, inv, outcome),
            &Fact::Hypothesis { tool_calls, tokens, cost_micro_usd } => {
                self.tool_calls += u64::from(tool_calls);
                self.tokens += u64::from(tokens);
                self.cost_sum_micro_usd += cost_micro_usd;
                self.update(inv, |open| open.cost_micro_usd += cost_micro_usd);
            }
            Fact::Acted { action } if action.verb.writes() => self.actions.writes += 1,
            Fact::Acted { .. } => self.actions.reads += 1,
            Fact::Denied { action, .. } if action.verb.writes() => self.actions.denied_writes += 1,
            Fact::Denied { .. } => self.actions.denied_reads += 1,
            &Fact::LeaseExpired { lag, .. } => self.revocation_lag.record(lag),
            Fact::Waited { until, waits } => {
                if let Some(open) = self.open.get(&inv) {
                    let total = at.since(open.reached(Stage::Alert).unwrap_or(at));
                    self.paths.add((*until, at), total, open.agent_time(at), waits);
                }
            }
            _ => {}
        }
    }

    fn platform_event(&mut self, at: Time, fact: &Fact) {
        match fact {
            Fact::Sample { sample } => {
                self.series.push(at, sample, &self.accounting, &self.ledger.counts());
                if let Some(causes) = &mut self.paths.causes {
                    let depth = |depth: &Depth| (depth.of.clone(), depth.depth);
                    causes.sample(sample.depths.iter().map(depth), &sample.cpu);
                }
                self.last_sample = Some((**sample).clone());
            }
            Fact::Occupied { of } => {
                if let Some(causes) = &mut self.paths.causes {
                    causes.occupied(at, of);
                }
            }
            Fact::Fault { kind, began } => {
                self.series.mark(at, *kind, *began);
                if let Some(causes) = &mut self.paths.causes {
                    causes.fault(at, *kind, *began);
                }
            }
            Fact::Interrupted => self.interrupted = true,
            Fact::Began { provider } => {
                self.provider = Some(provider.to_string());
                self.paths.causes.get_or_insert_default();
            }
            // Later remarks mostly repeat the first ones.
            Fact::Remark { text } if self.remarks.len() < 100 => {
                self.remarks.push(text.to_string())
            }
            Fact::Invalid { why } => self.invalidate(why.to_string()),
            Fact::Audited { audited } => self.audited = Some((**audited).clone()),
            _ => {}
        }
    }

    fn update(&mut self, inv: InvestigationId, change: impl FnOnce(&mut Open)) {
        match self.open.get_mut(&inv) {
            Some(open) => change(open),
            None => self.invalidate(format!("event for inactive investigation {inv}")),
        }
    }

    fn stage(&mut self, at: Time, inv: InvestigationId, stage: Stage) {
        let mut twice = false;
        self.update(inv, |open| {
            twice = open.at[stage.index()] != Time::NEVER;
            open.at[stage.index()] = at;
        });
        if twice {
            self.invalidate(format!("{inv} reached {stage} twice"));
        }
        if stage == Stage::JobFinished {
            self.job_finished(at, inv);
        }
    }

    fn job_finished(&mut self, at: Time, inv: InvestigationId) {
        let ended = self.open.get(&inv).is_some_and(|open| open.outcome.is_some());
        if !ended {
            return self
                .invalidate(format!("the Job of {inv} finished before the investigation ended"));
        }
        if let Some(open) = self.open.remove(&inv) {
            self.latencies.record(&open, false);
            self.never_started += u64::from(open.never_started());
            let alert = open.at[Stage::Alert.index()];
            self.uncollected.insert(inv, Uncollected { alert, finished: at });
        }
    }

    fn job_collected(&mut self, at: Time, inv: InvestigationId) {
        match self.uncollected.remove(&inv) {
            Some(job) => self.latencies.record_collected(job, Some(at)),
            None => self.invalidate(format!("the Job of {inv} was collected before it finished")),
        }
    }

    fn ended(&mut self, at: Time, inv: InvestigationId, outcome: Outcome) {
        let mut cost = None;
        self.update(inv, |open| {
            open.ended_at = open.ended_at.min(at);
            if open.outcome.replace(outcome).is_none() {
                cost = Some(open.cost_micro_usd);
            }
        });
        match cost {
            Some(cost) => {
                self.outcomes[outcome.index()] += 1;
                self.span = self.span.map(|(first, last)| (first, last.max(at)));
                self.accounting.finished += 1;
                self.cost_micro_usd.record_raw(cost);
            }
            None => self.invalidate(format!("{inv} ended twice")),
        }
    }

    /// Ends the run: investigations without an outcome count as unfinished, and stages not reached
    /// count as censored. Checks that alerts and leases balance. A second call does nothing.
    pub fn close(&mut self) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        let mut open: Vec<(InvestigationId, Open)> =
            std::mem::take(&mut self.open).into_iter().collect();
        open.sort_unstable_by_key(|(inv, _)| *inv);
        for (_, open) in &open {
            self.latencies.record(open, true);
            self.never_started += u64::from(open.never_started());
            self.accounting.unfinished += u64::from(open.outcome.is_none());
        }
        let mut uncollected: Vec<_> = std::mem::take(&mut self.uncollected).into_iter().collect();
        uncollected.sort_unstable_by_key(|(inv, _)| *inv);
        for (_, job) in uncollected {
            self.latencies.record_collected(job, None);
        }
        self.latencies.close();
        self.check_own_delay();
        if !self.accounting.balances() {
            self.invalidate(format!("alerts do not add up: {:?}", self.accounting));
        }
        if !self.ledger.counts().balances() {
            self.invalidate(format!("leases do not add up: {:?}", self.ledger.counts()));
        }
        if !self.ledger.tokens().balances() {
            self.invalidate(format!("tokens do not add up: {:?}", self.ledger.tokens()));
        }
    }

    /// A run is invalid if the harness itself delayed its watches by more than a tenth of the latency
    /// that they measure.
    fn check_own_delay(&mut self) {
        let own = self.audited.as_ref().map_or(0, |audited| audited.own_watch_lag.p99_ns);
        let startup = &self.latencies.to(Stage::PodRunning).arrived;
        let Some(p99) = startup.quantile(0.99).filter(|p99| own > p99.0 / 10) else { return };
        let own = Span(own);
        self.invalidate(format!(
            "the harness read its watches {own} late (p99), more than a tenth of the job startup's \
             p99 of {p99}"
        ));
    }

    /// Shares of the critical path by component, largest first. In a live run the gaps between stages
    /// are divided by the servers' counters.
    pub fn critical_path(&self) -> Vec<PathShare> {
        self.paths.shares()
    }

    /// The largest share of the critical path that is not the agent's own work.
    pub fn bottleneck(&self) -> Option<PathShare> {
        self.critical_path().into_iter().find(|share| share.component != Component::AgentWork)
    }

    /// Totals of the leases in the ledger.
    pub fn leases(&self) -> LeaseCounts {
        self.ledger.counts()
    }

    /// Totals of the tokens in the ledger.
    pub fn tokens(&self) -> TokenCounts {
        self.ledger.tokens()
    }

    /// Leases and tokens that outlived their investigation.
    pub fn orphaned(&self) -> u64 {
        self.leases().orphaned + self.tokens().orphaned
    }

    /// Exposure of orphaned leases up to the last event: the mean over all orphans in seconds (0
    /// without any), and the maximum.
    pub fn exposure(&self) -> (f64, Span) {
        let (sum, max) = self.ledger.exposure(self.now);
        (sum.as_secs_f64() / self.leases().orphaned.max(1) as f64, max)
    }

    /// The same of orphaned tokens.
    pub fn token_exposure(&self) -> (f64, Span) {
        let (sum, max) = self.ledger.token_exposure(self.now);
        (sum.as_secs_f64() / self.tokens().orphaned.max(1) as f64, max)
    }

    /// Number of investigations that ended with this outcome.
    pub const fn outcome(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome.index()]
    }

    /// Investigations with a conclusion per second, from the first alert to the end of the last
    /// investigation, or to the end of the run if one is unfinished. `None` without alerts, or if no
    /// time passed.
    pub fn goodput(&self) -> Option<f64> {
        let (first, last) = self.span?;
        let last = if self.accounting.unfinished > 0 { self.now } else { last };
        let concluded = Outcome::ALL.iter().filter(|outcome| outcome.concluded());
        let concluded: u64 = concluded.map(|outcome| self.outcome(*outcome)).sum();
        let seconds = last.since(first).as_secs_f64();
        (seconds > 0.0).then(|| concluded as f64 / seconds)
    }

    /// Alerts that were not investigated, by reason.
    pub const fn not_investigated(&self) -> NotInvestigated {
        NotInvestigated {
            shed: self.accounting.shed,
            unfinished: self.accounting.unfinished,
            without_vault: self.outcome(Outcome::VaultUnavailable),
            evicted: self.outcome(Outcome::Evicted),
            never_started: self.never_started,
        }
    }

    /// The instant of the latest event.
    pub const fn now(&self) -> Time {
        self.now
    }

    /// Hex digest of the events so far.
    pub fn digest(&self) -> String {
        self.digest.hex()
    }

    /// Number of events so far.
    pub const fn events(&self) -> u64 {
        self.digest.events()
    }

    /// Sums over all agents: tool calls, and tokens read and written.
    pub const fn agent_work(&self) -> (u64, u64) {
        (self.tool_calls, self.tokens)
    }

    /// Cost of all agents in dollars, unfinished investigations included.
    pub fn cost_usd(&self) -> f64 {
        self.cost_sum_micro_usd as f64 / 1e6
    }
}
