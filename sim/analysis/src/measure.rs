//! Measures: what the event log comes to. Folding the same log gives the same measures, whether
//! the run is under way or long over.

mod latency;
mod paths;
mod reached;
mod series;

use rustc_hash::FxHashMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ledger::{LeaseCounts, Ledger};
use alertstorm_model::digest::Digest;
use alertstorm_model::event::{Audited, Event, Fact, Sample, Sink};
use alertstorm_model::investigation::{InvestigationId, Outcome, Stage};
use alertstorm_model::time::{Span, Time};

pub use latency::{Curve, From, Latencies, Latency, LatencyRow};
pub use paths::{PathShare, Paths};
pub use reached::Reached;
pub use series::{Point, Series};

/// Where every alert went. The last four add up to the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Accounting {
    /// Alerts that came.
    pub alerts: u64,
    /// Repeats of a known alert.
    pub deduplicated: u64,
    /// Alerts turned away.
    pub shed: u64,
    /// Investigations with an outcome.
    pub finished: u64,
    /// Investigations that had none when the run ended.
    pub unfinished: u64,
}

impl Accounting {
    /// Whether every alert is accounted for.
    pub const fn balances(&self) -> bool {
        self.alerts == self.deduplicated + self.shed + self.finished + self.unfinished
    }
}

/// What agents attempted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Actions {
    /// Reads done.
    pub reads: u64,
    /// Writes done.
    pub writes: u64,
    /// Reads and credentials refused.
    pub denied_reads: u64,
    /// Writes refused.
    pub denied_writes: u64,
}

/// An investigation that may still go on.
#[derive(Clone, Debug)]
pub(crate) struct Open {
    pub at: [Time; Stage::COUNT],
    pub sent: Time,
    pub outcome: Option<Outcome>,
    cost_micro_usd: u64,
}

impl Open {
    pub fn reached(&self, stage: Stage) -> Option<Time> {
        Some(self.at[stage.index()]).filter(|at| *at != Time::NEVER)
    }
}

/// What is left of an investigation until its Job is collected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Uncollected {
    pub alert: Time,
    pub finished: Time,
}

/// Folds events.
#[derive(Default)]
pub struct Measures {
    open: FxHashMap<InvestigationId, Open>,
    /// Investigations whose Job is finished and waits to be collected: most of those known at any
    /// time, so they are kept small.
    uncollected: FxHashMap<InvestigationId, Uncollected>,
    /// Stages, pair by pair.
    pub latencies: Latencies,
    /// Where the alerts went.
    pub accounting: Accounting,
    /// Leases.
    pub ledger: Ledger,
    /// Where time was spent waiting.
    pub paths: Paths,
    /// Actions attempted.
    pub actions: Actions,
    /// What the run looked like over time.
    pub series: Series,
    /// Millionths of a dollar for each investigation.
    pub cost_micro_usd: Curve,
    /// Time between a lease's end and its revocation by the expiration manager.
    pub revocation_lag: Curve,
    /// What the platform's counters said last.
    pub last_sample: Option<Sample>,
    /// Why the run is invalid, if it is.
    pub invalid: Vec<String>,
    /// Whether somebody ended the run early.
    pub interrupted: bool,
    /// Who made the platform of a live run; none for the twin.
    pub provider: Option<String>,
    /// What a reader must know besides.
    pub remarks: Vec<String>,
    /// What a live run found when it audited itself.
    pub audited: Option<Audited>,
    outcomes: [u64; Outcome::COUNT],
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
            self.invalidate(format!("time went back: {at:?} after {now:?}"));
        }
        self.now = self.now.max(event.at);
        if let Err(error) = self.ledger.fold(event) {
            self.invalidate(error.to_string());
        }
        match event.inv {
            Some(inv) => self.of_investigation(event.at, inv, &event.fact),
            None => self.of_platform(event.at, &event.fact),
        }
    }
}

impl Measures {
    fn invalidate(&mut self, why: String) {
        if self.invalid.len() < 10 {
            self.invalid.push(why);
        }
    }

    fn of_investigation(&mut self, at: Time, inv: InvestigationId, fact: &Fact) {
        match fact {
            &Fact::Alert { intended, .. } => {
                let mut stages = [Time::NEVER; Stage::COUNT];
                stages[Stage::Alert.index()] = intended;
                let open = Open { at: stages, sent: Time::NEVER, outcome: None, cost_micro_usd: 0 };
                if self.open.insert(inv, open).is_some() {
                    self.invalidate(format!("{inv} came twice"));
                }
                self.accounting.alerts += 1;
            }
            Fact::Deduplicated { .. } => {
                self.open.remove(&inv);
                self.accounting.deduplicated += 1;
            }
            Fact::Shed { .. } => {
                self.open.remove(&inv);
                self.accounting.shed += 1;
            }
            Fact::JobSent => self.with(inv, |open| open.sent = open.sent.min(at)),
            Fact::Stage { stage: Stage::JobCollected } => self.job_collected(at, inv),
            &Fact::Stage { stage } => self.stage(at, inv, stage),
            &Fact::Ended { outcome } => self.ended(inv, outcome),
            &Fact::Hypothesis { tool_calls, tokens, cost_micro_usd } => {
                self.tool_calls += u64::from(tool_calls);
                self.tokens += u64::from(tokens);
                self.cost_sum_micro_usd += cost_micro_usd;
                self.with(inv, |open| open.cost_micro_usd += cost_micro_usd);
            }
            Fact::Acted { action } if action.verb.writes() => self.actions.writes += 1,
            Fact::Acted { .. } => self.actions.reads += 1,
            Fact::Denied { action, .. } if action.verb.writes() => self.actions.denied_writes += 1,
            Fact::Denied { .. } => self.actions.denied_reads += 1,
            &Fact::LeaseExpired { lag, .. } => self.revocation_lag.record(lag),
            Fact::Waited { until, waits } => {
                let alert = self.open.get(&inv).and_then(|open| open.reached(Stage::Alert));
                self.paths.add(*until, at.since(alert.unwrap_or(at)), waits);
            }
            _ => {}
        }
    }

    fn of_platform(&mut self, at: Time, fact: &Fact) {
        match fact {
            Fact::Sample { sample } => {
                self.series.push(at, sample, &self.accounting, &self.ledger.counts());
                self.last_sample = Some((**sample).clone());
            }
            Fact::Fault { kind, began } => self.series.mark(at, *kind, *began),
            Fact::Interrupted => self.interrupted = true,
            Fact::Began { provider } => self.provider = Some(provider.to_string()),
            // The first are the causes, and a thousand more say no more.
            Fact::Remark { text } if self.remarks.len() < 100 => {
                self.remarks.push(text.to_string())
            }
            Fact::Invalid { why } => self.invalidate(why.to_string()),
            Fact::Audited { audited } => self.audited = Some((**audited).clone()),
            _ => {}
        }
    }

    fn with(&mut self, inv: InvestigationId, change: impl FnOnce(&mut Open)) {
        match self.open.get_mut(&inv) {
            Some(open) => change(open),
            None => self.invalidate(format!("{inv} did something, and is not under way")),
        }
    }

    fn stage(&mut self, at: Time, inv: InvestigationId, stage: Stage) {
        let mut twice = false;
        self.with(inv, |open| {
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
            return self.invalidate(format!("the Job of {inv} finished before the investigation"));
        }
        if let Some(open) = self.open.remove(&inv) {
            self.latencies.record(&open, false);
            let alert = open.at[Stage::Alert.index()];
            self.uncollected.insert(inv, Uncollected { alert, finished: at });
        }
    }

    fn job_collected(&mut self, at: Time, inv: InvestigationId) {
        match self.uncollected.remove(&inv) {
            Some(job) => self.latencies.record_collected(job, Some(at)),
            None => self.invalidate(format!("the Job of {inv} was collected before its end")),
        }
    }

    fn ended(&mut self, inv: InvestigationId, outcome: Outcome) {
        let mut cost = None;
        self.with(inv, |open| {
            if open.outcome.replace(outcome).is_none() {
                cost = Some(open.cost_micro_usd);
            }
        });
        match cost {
            Some(cost) => {
                self.outcomes[outcome.index()] += 1;
                self.accounting.finished += 1;
                self.cost_micro_usd.record_raw(cost);
            }
            None => self.invalidate(format!("{inv} ended twice")),
        }
    }

    /// Closes the books: what is still open is unfinished, and its stages are censored.
    pub fn close(&mut self) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        let mut open: Vec<(InvestigationId, Open)> =
            std::mem::take(&mut self.open).into_iter().collect();
        open.sort_unstable_by_key(|(inv, _)| *inv);
        for (_, open) in &open {
            self.latencies.record(open, true);
            self.accounting.unfinished += u64::from(open.outcome.is_none());
        }
        let mut uncollected: Vec<_> = std::mem::take(&mut self.uncollected).into_iter().collect();
        uncollected.sort_unstable_by_key(|(inv, _)| *inv);
        for (_, job) in uncollected {
            self.latencies.record_collected(job, None);
        }
        if !self.accounting.balances() {
            self.invalidate(format!("alerts do not add up: {:?}", self.accounting));
        }
        if !self.ledger.counts().balances() {
            self.invalidate(format!("leases do not add up: {:?}", self.ledger.counts()));
        }
    }

    /// Shares of the critical path; of a live run they are gaps between stages.
    pub fn critical_path(&self) -> Vec<PathShare> {
        self.paths.shares(self.provider.is_some())
    }

    /// The sums of the ledger.
    pub const fn leases(&self) -> LeaseCounts {
        self.ledger.counts()
    }

    /// Mean and largest exposure of orphans: the mean over orphans, in seconds.
    pub fn exposure(&self) -> (f64, Span) {
        let (sum, max) = self.ledger.exposure(self.now);
        (sum.as_secs_f64() / self.leases().orphaned.max(1) as f64, max)
    }

    /// How many investigations ended so.
    pub const fn outcome(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome.index()]
    }

    /// The instant of the last event.
    pub const fn now(&self) -> Time {
        self.now
    }

    /// The digest of the log so far.
    pub fn digest(&self) -> String {
        self.digest.hex()
    }

    /// Events folded so far.
    pub const fn events(&self) -> u64 {
        self.digest.events()
    }

    /// Tool calls and tokens of all agents.
    pub const fn agent_work(&self) -> (u64, u64) {
        (self.tool_calls, self.tokens)
    }

    /// What all agents cost, in dollars.
    pub fn cost_usd(&self) -> f64 {
        self.cost_sum_micro_usd as f64 / 1e6
    }
}
