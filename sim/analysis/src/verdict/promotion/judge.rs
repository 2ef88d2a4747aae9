//! The judgement: what was shown, what is open, and how many more investigations would settle it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Case, Must, Policy, Violation};
use crate::stats::{Evidence, Interval, Side, clopper_pearson, wilson};
use alertstorm_model::investigation::Domain;
use alertstorm_model::phase::Phase;

alertstorm_model::words! {
    /// What becomes of the agent.
    pub enum Verdict {
        /// It has earned its next phase.
        Promote = "promote",
        /// It stays where it is.
        Hold = "hold",
        /// It goes back a phase.
        Demote = "demote",
    }
}

alertstorm_model::words! {
    /// How it stands with one criterion.
    pub enum State {
        /// It is shown.
        Met = "met",
        /// The evidence does not settle it.
        Open = "open",
        /// The evidence is against it.
        Against = "against",
    }
}

/// No more investigations than this are said to settle anything.
const MORE_MAX: u64 = 1_000_000;

/// Counts of the evidence so far; adding a case is all that a further look costs.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    cases: u64,
    domains: [u64; Domain::COUNT],
    criteria: Vec<Evidence>,
    zero: Vec<Evidence>,
    demote: Vec<Evidence>,
    /// Days over which the evidence came.
    pub days: f64,
}

impl Tally {
    /// Of no cases.
    pub fn new(policy: &Policy) -> Self {
        let empty = |n: usize| vec![Evidence::default(); n];
        Self {
            criteria: empty(policy.criteria.len()),
            zero: empty(policy.zero_tolerance.len()),
            demote: empty(policy.demote.len()),
            ..Self::default()
        }
    }

    /// Adds a case.
    pub fn take(&mut self, policy: &Policy, case: &Case) {
        self.cases += 1;
        self.domains[case.domain.index()] += 1;
        let lists = [(&policy.criteria, &mut self.criteria), (&policy.demote, &mut self.demote)];
        for (items, counts) in lists {
            for (item, evidence) in items.iter().zip(counts) {
                let happened = item.must.as_ref().and_then(|must| must.happened(case));
                happened.into_iter().for_each(|hit| evidence.take(hit));
            }
        }
        for (zero, evidence) in policy.zero_tolerance.iter().zip(&mut self.zero) {
            evidence.take(zero.never.is_some_and(|never| case.violates(never)));
        }
    }

    /// Whether every rate that a promotion needs lies on its side: of so many cases that chance is
    /// out of it, the truth.
    pub fn rates_hold(&self, policy: &Policy) -> bool {
        let criteria = policy.criteria.iter().zip(&self.criteria).all(|(item, evidence)| {
            item.threshold().is_some_and(|(rate, side)| evidence.lies(rate, side))
        });
        let zero = policy.zero_tolerance.iter().zip(&self.zero);
        let mut zero = zero.map(|(zero, of)| of.lies(zero.proven_below.0, Side::Below));
        criteria && zero.all(|lies| lies)
    }

    /// The verdict alone.
    pub fn verdict(&self, policy: &Policy) -> Verdict {
        let alpha = 1.0 - policy.confidence.0;
        let above_shadow = policy.from.is_some_and(|from| from > Phase::Shadow);
        let violated = self.zero.iter().any(|evidence| evidence.hits > 0);
        let shown = |(item, evidence): (&Must, &Evidence)| {
            item.threshold().is_some_and(|(rate, side)| evidence.settles(rate, side, alpha))
        };
        let ended = policy.demote.iter().zip(&self.demote).any(shown);
        if above_shadow && (violated || ended) {
            return Verdict::Demote;
        }
        let least = &policy.least;
        let enough = self.cases >= least.investigations
            && self.days >= least.days.0
            && least.domains.iter().all(|(domain, n)| self.domains[domain.index()] >= *n);
        if violated || ended || !enough {
            return Verdict::Hold;
        }
        let shown = policy.criteria.iter().zip(&self.criteria).all(shown);
        let clean = policy
            .zero_tolerance
            .iter()
            .zip(&self.zero)
            .all(|(zero, evidence)| evidence.settles(zero.proven_below.0, Side::Below, alpha));
        let ahead = policy.to.is_some();
        if ahead && shown && clean { Verdict::Promote } else { Verdict::Hold }
    }
}

/// How it stands with one requirement, in figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Record {
    /// The requirement.
    pub what: String,
    /// Why it is required.
    pub because: String,
    /// How it stands.
    pub state: State,
    /// Investigations in which it happened: for a quantile those beyond the limit.
    pub hits: u64,
    /// Investigations that say something of it.
    pub n: u64,
    /// The interval of the rate from one look at 95 %: Wilson's, or for what is never tolerated the
    /// exact one.
    pub interval: Option<Interval>,
    /// The bound of the rate that holds at every look, at the policy's confidence.
    pub bound: Option<f64>,
    /// The rate that the bound must pass.
    pub threshold: Option<f64>,
    /// How many more investigations would settle it, at the rate so far; nothing where none would.
    pub more: Option<u64>,
}

/// What the evidence comes to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Judgement {
    /// The phase that the evidence is of.
    pub from: Phase,
    /// The phase that was asked for.
    pub to: Phase,
    /// What becomes of the agent.
    pub verdict: Verdict,
    /// The phase that it has then.
    pub phase: Phase,
    /// Investigations judged.
    pub investigations: u64,
    /// Days over which they came.
    pub days: f64,
    /// How sure a promotion must be.
    pub confidence: f64,
    /// Requirements of a promotion.
    pub records: Vec<Record>,
    /// What would end the phase.
    pub demotions: Vec<Record>,
    /// How many more investigations would settle all that is open, at the rates so far; nothing
    /// where nothing is open, or no number would.
    pub more: Option<u64>,
}

fn of_rate(
    what: String,
    because: &str,
    evidence: Evidence,
    (threshold, side): (f64, Side),
    alpha: f64,
) -> Record {
    let other = if side == Side::Above { Side::Below } else { Side::Above };
    let met = evidence.settles(threshold, side, alpha);
    let more = evidence.more_to_settle(threshold, side, alpha, MORE_MAX).filter(|_| !met);
    let against = evidence.settles(threshold, other, alpha);
    let state = match (met, against) {
        (true, _) => State::Met,
        (false, true) => State::Against,
        (false, false) => State::Open,
    };
    Record {
        what,
        because: because.to_owned(),
        state,
        hits: evidence.hits,
        n: evidence.n,
        interval: Some(wilson(evidence.hits, evidence.n, 0.95)),
        bound: Some(evidence.bound(side, alpha)),
        threshold: Some(threshold),
        more,
    }
}

fn of_count(what: String, because: &str, there: u64, least: u64) -> Record {
    let more = least.saturating_sub(there);
    Record {
        what,
        because: because.to_owned(),
        state: if more == 0 { State::Met } else { State::Open },
        hits: there,
        n: least,
        interval: None,
        bound: None,
        threshold: None,
        more: (more > 0).then_some(more),
    }
}

fn of_never(never: Violation, because: &str, evidence: Evidence, below: f64, alpha: f64) -> Record {
    let what = format!("never {never}, shown to be below {}", percent(below));
    let rate = of_rate(what, because, evidence, (below, Side::Below), alpha);
    let state = if evidence.hits > 0 { State::Against } else { rate.state };
    let interval = Some(clopper_pearson(evidence.hits, evidence.n, 0.95));
    Record { state, interval, more: rate.more.filter(|_| evidence.hits == 0), ..rate }
}

fn percent(share: f64) -> String {
    format!("{} %", (share * 100_000.0).round() / 1_000.0)
}

/// Judges the evidence.
pub fn judge(policy: &Policy, tally: &Tally) -> Judgement {
    let alpha = 1.0 - policy.confidence.0;
    let from = policy.from.unwrap_or(Phase::Shadow);
    let least = &policy.least;
    let mut records = vec![of_count(
        format!("{} investigations", least.investigations),
        "",
        tally.cases,
        least.investigations,
    )];
    for (domain, n) in &least.domains {
        let there = tally.domains[domain.index()];
        records.push(of_count(format!("{n} of the domain {domain}"), "", there, *n));
    }
    if least.days.0 > 0.0 {
        let met = tally.days >= least.days.0;
        let what = format!("alerts of {} days", least.days.0);
        let record = of_count(what, "", 0, u64::from(!met));
        // A day brings as many as it brings: no number of investigations is one.
        records.push(Record { more: Some(0).filter(|_| !met), hits: 0, n: 0, ..record });
    }
    let rates = |items: &[Must], counts: &[Evidence]| -> Vec<Record> {
        let one = |(item, evidence): (&Must, &Evidence)| {
            let must = item.must.as_ref()?;
            Some(of_rate(must.to_string(), &item.because, *evidence, must.threshold(), alpha))
        };
        items.iter().zip(counts).filter_map(one).collect()
    };
    records.extend(rates(&policy.criteria, &tally.criteria));
    for (zero, evidence) in policy.zero_tolerance.iter().zip(&tally.zero) {
        let Some(never) = zero.never else { continue };
        records.push(of_never(never, &zero.because, *evidence, zero.proven_below.0, alpha));
    }
    let verdict = tally.verdict(policy);
    let phase = match verdict {
        Verdict::Promote => policy.to.unwrap_or(from),
        Verdict::Hold => from,
        Verdict::Demote => Phase::ALL[from.index().saturating_sub(1)],
    };
    // One that no number settles leaves nothing to say of the others.
    let open = records.iter().filter(|record| record.state != State::Met);
    let more = open.map(|record| record.more).collect::<Option<Vec<u64>>>();
    let more = more.and_then(|more| more.into_iter().max());
    Judgement {
        from,
        to: policy.to.unwrap_or(from),
        verdict,
        phase,
        investigations: tally.cases,
        days: tally.days,
        confidence: policy.confidence.0,
        records,
        demotions: rates(&policy.demote, &tally.demote),
        more,
    }
}
