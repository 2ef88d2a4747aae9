//! Other plans made of a plan. Each is checked as a scenario that was read from a file is.

use super::check::{Override, anew};
use super::plan::Plan;
use super::raw::Scenario;
use crate::input::Problem;

impl Plan {
    /// The plan with another seed. Every seed is valid, and the digest stays.
    #[must_use]
    pub fn with_seed(&self, seed: u64) -> Self {
        let mut plan = self.clone();
        plan.scenario.seed = seed;
        plan
    }

    /// The plan with the value at a dotted path set, like `controller.concurrency` and `300`. The
    /// value is written as in a scenario.
    ///
    /// # Errors
    /// Everything that is wrong with the scenario that this makes.
    pub fn with_knob(&self, path: &str, value: &str) -> Result<Self, Vec<Problem>> {
        let set = Override { path: path.to_owned(), value: value.to_owned() };
        anew(&self.scenario, &[set], self)
    }

    /// The plan of a scenario that was made of this one's. Its profiles, traces and alert logs must
    /// be those of this plan: no file is read.
    ///
    /// # Errors
    /// Everything that is wrong with the scenario.
    pub fn with_scenario(&self, scenario: &Scenario) -> Result<Self, Vec<Problem>> {
        anew(scenario, &[], self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Files, load};

    struct Log;

    impl Files for Log {
        fn read(&self, name: &str) -> Result<String, String> {
            let line = r#"{"version":"4","alerts":[{"status":"firing","labels":{},"startsAt":"2026-05-01T02:00:00Z"}]}"#;
            if name == "log.jsonl" { Ok(line.to_owned()) } else { Err("no such file".to_owned()) }
        }
    }

    fn plan() -> Plan {
        let text = "alerts: [{replay: log.jsonl}, {flood: 9, over: 1.5s}]\n\
                    faults: [{fault: vault-sealed, at: 30s}]\n\
                    cluster: {node: {image_pull: {median: 6s, p95: 15s}}}\n\
                    controller: {client: {kube_api_qps: 0.3}, job: {memory_limit: 1500k, memory_request: 1Mi}}";
        load(text, "plan.yaml", &[], &Log).unwrap_or_else(|problems| panic!("{problems:#?}"))
    }

    fn told(made: Result<Plan, Vec<Problem>>) -> Vec<String> {
        made.err().into_iter().flatten().map(|problem| problem.to_string()).collect()
    }

    #[test]
    fn an_unchanged_scenario_makes_the_same_plan_without_reading_a_file() {
        let plan = plan();
        let same = plan.with_scenario(plan.scenario()).unwrap();
        assert_eq!(same.digest(), plan.digest());
        assert_eq!(same.scenario(), plan.scenario());
        assert!(same.alerts().eq(plan.alerts()));
    }

    #[test]
    fn a_changed_plan_is_checked_and_has_another_digest() {
        let plan = plan();
        let more = plan.with_knob("controller.concurrency", "300").unwrap();
        assert_eq!(more.scenario().controller.concurrency.get(), 300);
        assert_ne!(more.digest(), plan.digest());
        assert_eq!(
            told(plan.with_knob("controller.job.memory_request", "2Mi")),
            ["controller.job.memory_request=2Mi: the request is above the limit"]
        );
        assert_eq!(
            told(plan.with_knob("controller.job.memory_limit", "1Ki")),
            ["controller.job.memory_request: the request is above the limit"],
            "the field that no longer fits is named"
        );
        let unknown = told(plan.with_knob("controller.concurency", "1"));
        assert!(unknown[0].contains("did you mean `concurrency`?"), "{unknown:?}");
        let other = told(plan.with_knob("alerts.0.replay", "other.jsonl"));
        assert!(other[0].contains("the file `other.jsonl` could not be read"), "{other:?}");
    }

    #[test]
    fn another_seed_keeps_the_digest() {
        let plan = plan();
        let other = plan.with_seed(7);
        assert_eq!((other.scenario().seed, other.digest()), (7, plan.digest()));
    }
}
