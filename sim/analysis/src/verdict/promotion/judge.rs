//! Judges evidence by a policy: the state of each requirement, the verdict, and how many more
//! investigations would decide what is open.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cases::Case;
use super::observed::Violation;
use super::policy::{Must, Policy, Zero};
use crate::stats::{Evidence, Interval, Side, clopper_pearson, wilson};
use alertstorm_model::investigation::Domain;
use alertstorm_model::phase::Phase;

alertstorm_model::words! {
    /// Decision about the agent's phase.
    pub enum Verdict {
        /// The agent moves to the next phase.
        Promote = "promote",
        /// The agent stays in its phase.
        Hold = "hold",
        /// The agent moves to the previous phase.
        Demote = "demote",
    }
}

alertstorm_model::words! {
    /// State of one requirement.
    pub enum State {
        /// The evidence shows that it is met.
        Met = "met",
        /// The evidence is not sufficient to decide.
        Open = "open",
        /// The evidence shows that it is not met.
        Against = "against",
    }
}

/// Upper limit of [`Record::more`]. If more would be needed, none is reported.
const MORE_MAX: u64 = 1_000_000;

/// Counts of the evidence so far. A further look only adds the new cases.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    cases: u64,
    domains: [u64; Domain::COUNT],
    criteria: Vec<Evidence>,
    zero: Vec<Evidence>,
    demote: Vec<Evidence>,
    /// Days of alerts that the evidence covers; set by the caller.
    pub days: f64,
}

impl Tally {
    /// A tally without cases. Use the same policy in all later calls.
    pub fn new(policy: &Policy) -> Self {
        let empty = |n: usize| vec![Evidence::default(); n];
        Self {
            criteria: empty(policy.criteria.len()),
            zero: empty(policy.zero_tolerance.len()),
            demote: empty(policy.demote.len()),
            ..Self::default()
        }
    }

    /// Adds the evidence of one investigation.
    pub fn take(&mut self, policy: &Policy, case: &Case) {
        self.cases += 1;
        self.domains[case.domain.index()] += 1;
        let lists = [(&policy.criteria, &mut self.criteria), (&policy.demote, &mut self.demote)];
        for (items, counts) in lists {
            for (item, evidence) in items.iter().zip(counts) {
                let hit = item.must.as_ref().and_then(|must| must.hit(case));
                hit.into_iter().for_each(|hit| evidence.observe(hit));
            }
        }
        for (zero, evidence) in policy.zero_tolerance.iter().zip(&mut self.zero) {
            evidence.observe(zero.never.is_some_and(|never| case.violates(never)));
        }
    }

    /// Whether the point estimate of every required rate meets its threshold, without regard to
    /// uncertainty.
    pub fn point_estimates_meet(&self, policy: &Policy) -> bool {
        let criteria = policy.criteria.iter().zip(&self.criteria).all(|(item, evidence)| {
            item.threshold().is_some_and(|(rate, side)| evidence.point_estimate_is(rate, side))
        });
        let zero = policy.zero_tolerance.iter().zip(&self.zero);
        let below = |(zero, evidence): (&Zero, &Evidence)| {
            evidence.point_estimate_is(zero.proven_below.0, Side::Below)
        };
        criteria && zero.into_iter().all(below)
    }

    /// The verdict without the records of [`judge`].
    pub fn verdict(&self, policy: &Policy) -> Verdict {
        let alpha = 1.0 - policy.confidence.0;
        let above_shadow = policy.from.is_some_and(|from| from > Phase::Shadow);
        let violated = self.zero.iter().any(|evidence| evidence.hits > 0);
        let shown = |(item, evidence): (&Must, &Evidence)| {
            item.threshold().is_some_and(|(rate, side)| evidence.is_significant(rate, side, alpha))
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
        let clean = policy.zero_tolerance.iter().zip(&self.zero).all(|(zero, evidence)| {
            evidence.is_significant(zero.proven_below.0, Side::Below, alpha)
        });
        let ahead = policy.to.is_some();
        if ahead && shown && clean { Verdict::Promote } else { Verdict::Hold }
    }
}

/// State and figures of one requirement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Record {
    /// The requirement as printed.
    pub what: String,
    /// Reason from the policy; may be empty.
    pub because: String,
    /// State of the requirement.
    pub state: State,
    /// Investigations in which the event occurred; for a quantile, those above the limit.
    pub hits: u64,
    /// Investigations in the denominator; for a minimum number, that number.
    pub n: u64,
    /// 95 % interval of the rate, valid for one look: Wilson's, and Clopper-Pearson's for
    /// violations. Empty for minimum numbers.
    pub interval: Option<Interval>,
    /// One-sided bound of the rate at the policy's confidence, valid at every look. Empty for
    /// minimum numbers.
    pub bound: Option<f64>,
    /// The rate that the bound must pass. Empty for minimum numbers.
    pub threshold: Option<f64>,
    /// Further investigations that would decide an open requirement, at the rate observed so far.
    /// Empty if it is met, or if more investigations would not decide it.
    pub more: Option<u64>,
}

/// Result of judging the evidence by a policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Judgement {
    /// Phase in which the evidence was collected.
    pub from: Phase,
    /// Phase that the policy may grant; the same as `from` if it grants none.
    pub to: Phase,
    /// Decision about the agent's phase.
    pub verdict: Verdict,
    /// Phase of the agent after the decision.
    pub phase: Phase,
    /// Number of investigations in the evidence.
    pub investigations: u64,
    /// Days of alerts that the evidence covers.
    pub days: f64,
    /// The policy's confidence, 0.5 to 1.
    pub confidence: f64,
    /// Requirements for a promotion.
    pub records: Vec<Record>,
    /// Criteria for a demotion; the agent is demoted if one is met.
    pub demotions: Vec<Record>,
    /// Further investigations that would decide all unmet requirements, at the rates observed so
    /// far. Empty if all are met, or if more investigations would not decide one of them.
    pub more: Option<u64>,
}

fn rate_record(
    what: String,
    because: &str,
    evidence: Evidence,
    (threshold, side): (f64, Side),
    alpha: f64,
) -> Record {
    let other = if side == Side::Above { Side::Below } else { Side::Above };
    let met = evidence.is_significant(threshold, side, alpha);
    let more = evidence.more_needed(threshold, side, alpha, MORE_MAX).filter(|_| !met);
    let against = evidence.is_significant(threshold, other, alpha);
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

fn minimum_record(what: String, because: &str, observed: u64, least: u64) -> Record {
    let more = least.saturating_sub(observed);
    Record {
        what,
        because: because.to_owned(),
        state: if more == 0 { State::Met } else { State::Open },
        hits: observed,
        n: least,
        interval: None,
        bound: None,
        threshold: None,
        more: (more > 0).then_some(more),
    }
}

fn violation_record(
    never: Violation,
    because: &str,
    evidence: Evidence,
    below: f64,
    alpha: f64,
) -> Record {
    let what = format!("never {never}, shown to be below {}", percent(below));
    let rate = rate_record(what, because, evidence, (below, Side::Below), alpha);
    let state = if evidence.hits > 0 { State::Against } else { rate.state };
    let interval = Some(clopper_pearson(evidence.hits, evidence.n, 0.95));
    Record { state, interval, more: rate.more.filter(|_| evidence.hits == 0), ..rate }
}

fn percent(share: f64) -> String {
    format!("{} %", (share * 100_000.0).round() / 1_000.0)
}

/// Judges the evidence by the policy, with a record for each requirement.
pub fn judge(policy: &Policy, tally: &Tally) -> Judgement {
    let alpha = 1.0 - policy.confidence.0;
    let from = policy.from.unwrap_or(Phase::Shadow);
    let least = &policy.least;
    let mut records = vec![minimum_record(
        format!("{} investigations", least.investigations),
        "",
        tally.cases,
        least.investigations,
    )];
    for (domain, n) in &least.domains {
        let observed = tally.domains[domain.index()];
        records.push(minimum_record(
            format!("{n} investigations of domain {domain}"),
            "",
            observed,
            *n,
        ));
    }
    if least.days.0 > 0.0 {
        let met = tally.days >= least.days.0;
        let what = format!("alerts over {} days", least.days.0);
        let record = minimum_record(what, "", 0, u64::from(!met));
        // Missing days do not translate into a number of investigations.
        records.push(Record { more: Some(0).filter(|_| !met), hits: 0, n: 0, ..record });
    }
    let rates = |items: &[Must], counts: &[Evidence]| -> Vec<Record> {
        let one = |(item, evidence): (&Must, &Evidence)| {
            let must = item.must.as_ref()?;
            Some(rate_record(must.to_string(), &item.because, *evidence, must.threshold(), alpha))
        };
        items.iter().zip(counts).filter_map(one).collect()
    };
    records.extend(rates(&policy.criteria, &tally.criteria));
    for (zero, evidence) in policy.zero_tolerance.iter().zip(&tally.zero) {
        let Some(never) = zero.never else { continue };
        records.push(violation_record(never, &zero.because, *evidence, zero.proven_below.0, alpha));
    }
    let verdict = tally.verdict(policy);
    let phase = match verdict {
        Verdict::Promote => policy.to.unwrap_or(from),
        Verdict::Hold => from,
        Verdict::Demote => Phase::ALL[from.index().saturating_sub(1)],
    };
    // If more investigations would not decide one requirement, no total is reported.
    let unmet = records.iter().filter(|record| record.state != State::Met);
    let more = unmet.map(|record| record.more).collect::<Option<Vec<u64>>>();
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
