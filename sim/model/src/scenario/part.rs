//! A shard's part of a plan: its alerts, and its share of the controller's budgets. Every alert
//! belongs to exactly one part, and the shares add up to the whole.

use std::num::NonZeroU32;

use super::knobs::{Positive, count};
use super::plan::Plan;
use crate::alert::Alert;

/// One of several parts, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    index: u32,
    of: NonZeroU32,
}

/// Why a plan cannot be divided.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("`{knob}` is {whole}: too little to divide among {parts} shards")]
pub struct Indivisible {
    /// The budget's path in the scenario.
    pub knob: &'static str,
    /// The budget of the whole plan.
    pub whole: f64,
    /// The number of parts.
    pub parts: u32,
}

impl Part {
    /// The whole plan as one part.
    pub const WHOLE: Self = Self { index: 0, of: NonZeroU32::MIN };

    /// Part `index` of `of`; none if `index` is not below `of`.
    pub fn new(index: u32, of: NonZeroU32) -> Option<Self> {
        (index < of.get()).then_some(Self { index, of })
    }

    /// Checks that every part gets at least one of every budget.
    ///
    /// # Errors
    /// The first budget that has nothing for some part.
    pub fn divides(of: NonZeroU32, plan: &Plan) -> Result<(), Indivisible> {
        Self { index: 0, of }.of_plan(plan).map(drop)
    }

    /// From 0.
    pub const fn index(self) -> u32 {
        self.index
    }

    /// How many parts there are.
    pub const fn of(self) -> NonZeroU32 {
        self.of
    }

    /// Whether an alert belongs to this part. Repeats of an alert belong to the same part, so that its
    /// controller can deduplicate them.
    pub fn has(self, alert: &Alert) -> bool {
        alert.fingerprint % u64::from(self.of.get()) == u64::from(self.index)
    }

    /// This part's share of `whole`; the remainder goes to the first parts, one each.
    fn share(self, whole: u32) -> u32 {
        whole / self.of + u32::from(self.index < whole % self.of)
    }

    /// The plan with this part's share of every budget of the controller. Its digest stays the whole
    /// plan's, and with it the names of Jobs.
    ///
    /// # Errors
    /// The first budget that has nothing for some part.
    pub fn of_plan(self, plan: &Plan) -> Result<Plan, Indivisible> {
        let mut part = plan.clone();
        let controller = &mut part.scenario.controller;
        let budgets = [
            ("controller.concurrency", &mut controller.concurrency),
            ("controller.queue.limit", &mut controller.queue.limit),
            ("controller.client.connections", &mut controller.client.connections),
            ("controller.client.kube_api_burst", &mut controller.client.kube_api_burst),
        ];
        for (knob, budget) in budgets {
            let whole = budget.get();
            if whole < self.of.get() {
                return Err(Indivisible { knob, whole: whole.into(), parts: self.of.get() });
            }
            *budget = count(self.share(whole));
        }
        let of = f64::from(self.of.get());
        if let Some(Positive(qps)) = &mut controller.client.kube_api_qps {
            *qps /= of;
        }
        if let Some(budget) = &mut controller.cost_budget {
            let whole = budget.usd.0;
            budget.usd.0 /= of;
            if budget.usd.0 < budget.reserve_usd.0 {
                let knob = "controller.cost_budget.usd";
                return Err(Indivisible { knob, whole, parts: self.of.get() });
            }
        }
        Ok(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{NoFiles, load};

    fn plan(text: &str) -> Plan {
        load(text, "plan", &[], &NoFiles).unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    fn parts(of: u32) -> Vec<Part> {
        (0..of).filter_map(|index| Part::new(index, count(of))).collect()
    }

    #[test]
    fn the_union_of_the_parts_is_the_plan_and_repeats_stay_together() {
        let text = "alerts: [{poisson: 5/s, for: 60s, fingerprints: 40}, {flood: 100, over: 10s}]";
        let plan = plan(text);
        let whole: Vec<Alert> = plan.alerts().collect();
        let mut union = Vec::new();
        for part in parts(3) {
            let own: Vec<Alert> = plan.alerts().filter(|alert| part.has(alert)).collect();
            assert!(own.len() > whole.len() / 5, "{} of {}", own.len(), whole.len());
            for alert in &own {
                let same = whole.iter().filter(|other| other.fingerprint == alert.fingerprint);
                assert!(same.clone().all(|other| part.has(other)));
            }
            union.extend(own);
        }
        union.sort_by_key(|alert| alert.id);
        assert_eq!(union, whole);
    }

    #[test]
    fn shares_add_up_and_an_indivisible_budget_is_named() {
        let plan = plan("alerts: [{flood: 1}]\ncontroller: {concurrency: 100}");
        let shares = parts(7).into_iter().map(|part| part.of_plan(&plan).unwrap());
        let concurrency = shares.map(|part| part.scenario.controller.concurrency.get());
        let shares: Vec<u32> = concurrency.collect();
        assert_eq!(shares, [15, 15, 14, 14, 14, 14, 14]);
        let error = Part::new(0, count(101)).unwrap().of_plan(&plan).unwrap_err();
        assert_eq!(error.knob, "controller.concurrency");
        let plan = plan.with_knob("controller.cost_budget", "{usd: 2, reserve_usd: 0.5}").unwrap();
        let error = Part::new(0, count(5)).unwrap().of_plan(&plan).unwrap_err();
        assert_eq!(error.knob, "controller.cost_budget.usd");
        assert_eq!(Part::new(3, count(3)), None);
    }
}
