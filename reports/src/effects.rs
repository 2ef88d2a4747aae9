//! `compare.json`, version 2: how much runs differ in each latency, whether that is more than chance,
//! and which knobs differ.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use alertstorm_analysis::measure::Reading;
use alertstorm_analysis::stats::{
    Effect, difference_of_quantiles, quantile, ratio_of_quantiles, welch,
};
use alertstorm_model::investigation::Stage;
use anstyle::Style;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::charts::{self, Chart};
use crate::report::Report;

/// Name of this version of the format.
pub const SCHEMA: &str = "alertstorm/compare/v2";
/// Confidence of every interval.
const CONFIDENCE: f64 = 0.95;
/// Quantiles that are compared.
const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)];
/// Stages with a shift plot.
const DRAWN: [Stage; 3] = [Stage::PodRunning, Stage::CredentialsReady, Stage::JobFinished];

const HEAD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();

/// A run to compare.
pub struct Compared {
    /// Folder of the run.
    pub folder: String,
    /// Report of the run.
    pub report: Report,
    /// Scenario of the run with every default; null if it cannot be read.
    pub scenario: serde_json::Value,
    /// Latencies in seconds from the alert, ascending, by stage; infinite for what never arrived. Empty
    /// without an event log.
    pub latencies: BTreeMap<Stage, Vec<f64>>,
}

/// The comparison of runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// Always `alertstorm/compare/v2`.
    pub schema: String,
    /// Groups of runs. Each is compared with the first.
    pub groups: Vec<Group>,
}

/// Runs with the same plan on the same provider, which are repeats or differ in their seeds. Two runs
/// of the same plan are two groups, if no others are compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Group {
    /// Folders of the runs.
    pub runs: Vec<String>,
    /// Provider of the platform: `embedded` for the twin.
    pub provider: String,
    /// Knobs that differ from the first group, with both values, as printed.
    pub plan: Vec<String>,
    /// Differences of latencies from the first group; empty for the first group, and without event
    /// logs.
    pub effects: Vec<StageEffect>,
    /// Variation that the intervals include, as printed; empty for the first group.
    pub how: String,
}

/// The difference of one quantile of a latency.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StageEffect {
    /// Stage and quantile, such as `pod_running.p95`, counted from the alert.
    pub metric: String,
    /// Value of the first group.
    pub before_s: Reading,
    /// Value of this group.
    pub after_s: Reading,
    /// Ratio of after to before, with a 95 % interval; empty if one of them, or an end of the interval,
    /// is infinite.
    pub effect: Option<Effect>,
}

fn pooled(runs: &[&Compared], stage: Stage) -> Vec<f64> {
    let mut all: Vec<f64> =
        runs.iter().filter_map(|run| run.latencies.get(&stage)).flatten().copied().collect();
    all.sort_by(f64::total_cmp);
    all
}

fn effects(first: &[&Compared], own: &[&Compared]) -> (Vec<StageEffect>, &'static str) {
    let repeated = first.len() > 1 && own.len() > 1;
    let mut effects = Vec::new();
    for &to in &Stage::ALL[1..] {
        let (before, after) = (pooled(first, to), pooled(own, to));
        for (name, q) in QUANTILES {
            let (Some(before_s), Some(after_s)) = (quantile(&before, q), quantile(&after, q))
            else {
                continue;
            };
            let of_each = |runs: &[&Compared]| -> Option<Vec<f64>> {
                runs.iter().map(|run| quantile(run.latencies.get(&to)?, q)).collect()
            };
            let effect = match repeated {
                true => of_each(first)
                    .zip(of_each(own))
                    .and_then(|(before, after)| welch(&before, &after, CONFIDENCE)),
                false => ratio_of_quantiles(&before, &after, q, CONFIDENCE),
            };
            let finite = |of: &Effect| {
                let Effect { ratio, interval } = of;
                let parts = [before_s, after_s, *ratio, interval.low, interval.high];
                parts.iter().all(|part| part.is_finite())
            };
            effects.push(StageEffect {
                metric: format!("{to}.{name}"),
                before_s: Reading::of(before_s),
                after_s: Reading::of(after_s),
                effect: effect.filter(finite),
            });
        }
    }
    let how = match repeated {
        true => "over runs: the variation between runs of the same plan is included",
        false => {
            "over the investigations of one run: the variation between runs of the same plan is not included"
        }
    };
    (effects, how)
}

/// Groups the runs and compares each group with the first.
pub fn compare(runs: &[Compared]) -> Comparison {
    let mut groups: Vec<Vec<&Compared>> = Vec::new();
    for run in runs {
        let same = |group: &&mut Vec<&Compared>| {
            let first = &group[0].report;
            (&first.plan, &first.provider) == (&run.report.plan, &run.report.provider)
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push(run),
            None => groups.push(vec![run]),
        }
    }
    // Two runs of the same plan are compared with each other.
    if groups.len() == 1 && groups[0].len() == 2 {
        groups = runs.iter().map(|run| vec![run]).collect();
    }
    let first = groups.first().cloned().unwrap_or_default();
    let group = |(n, own): (usize, &Vec<&Compared>)| {
        let (effects, how) = if n == 0 { (Vec::new(), "") } else { effects(&first, own) };
        let plan = crate::plan_diff::between(&first[0].scenario, &own[0].scenario);
        Group {
            runs: own.iter().map(|run| run.folder.clone()).collect(),
            provider: own[0].report.provider.clone(),
            plan: plan.iter().map(ToString::to_string).collect(),
            effects,
            how: how.to_owned(),
        }
    };
    let groups = groups.iter().enumerate().map(group).collect();
    Comparison { schema: SCHEMA.to_owned(), groups }
}

impl Comparison {
    /// The comparison as a table for the terminal.
    pub fn table(&self) -> String {
        let mut out = String::new();
        for group in self.groups.iter().skip(1) {
            // Writing to a string does not fail.
            let _ = self.write(&mut out, group);
        }
        out
    }

    fn write(&self, out: &mut String, group: &Group) -> std::fmt::Result {
        let names = |group: &Group| group.runs.join(", ");
        let before = self.groups.first().map(names).unwrap_or_default();
        writeln!(out, "\n{HEAD}{} against {before}{HEAD:#}", names(group))?;
        for difference in &group.plan {
            writeln!(out, "  {DIM}plan: {difference}{DIM:#}")?;
        }
        if group.effects.is_empty() {
            return writeln!(out, "  no intervals: a run has no event log");
        }
        writeln!(out, "  {DIM}95 % intervals {}{DIM:#}", group.how)?;
        for StageEffect { metric, before_s, after_s, effect } in &group.effects {
            let Some(Effect { ratio, interval }) = effect else {
                writeln!(out, "  {metric:<24} {before_s:>12} → {after_s:<12}")?;
                continue;
            };
            let sure = interval.low > 1.0 || interval.high < 1.0;
            let style = if sure { HEAD } else { Style::new() };
            writeln!(
                out,
                "  {metric:<24} {before_s:>12} → {after_s:<12} {style}×{ratio:.2}{style:#} ({:.2} to {:.2})",
                interval.low, interval.high,
            )?;
        }
        Ok(())
    }

    /// The comparison as an HTML page, with shift plots. `tables` is what the terminal shows first.
    ///
    /// # Errors
    /// If the template cannot be rendered.
    pub fn page(&self, tables: &str, runs: &[Compared]) -> Result<String, askama::Error> {
        let names: Vec<&str> = runs.iter().map(|run| run.report.name.as_str()).collect();
        let question = "How do these runs differ, and is it more than chance?";
        let text = format!("{tables}{}", self.table());
        crate::html::plain(&names.join(" · "), question, &text, self.shifts(runs))
    }

    fn shifts(&self, runs: &[Compared]) -> Vec<Chart> {
        let of = |group: &Group| -> Vec<&Compared> {
            runs.iter().filter(|run| group.runs.contains(&run.folder)).collect()
        };
        let Some((first, others)) = self.groups.split_first() else { return Vec::new() };
        let Some(other) = others.first() else { return Vec::new() };
        let (before, after) = (of(first), of(other));
        let chart = |to: Stage| {
            let (a, b) = (pooled(&before, to), pooled(&after, to));
            let mut lines: [Vec<(f64, f64)>; 3] = Default::default();
            for percent in (5..=95).step_by(5) {
                let x = f64::from(percent);
                let (shift, interval) = difference_of_quantiles(&a, &b, x / 100.0, CONFIDENCE)?;
                let ends = [shift, interval.low, interval.high];
                for (line, y) in lines.iter_mut().zip(ends).filter(|(_, y)| y.is_finite()) {
                    line.push((x, y));
                }
            }
            let [shift, low, high] = lines;
            let lines =
                [("shift".to_owned(), shift), ("from".to_owned(), low), ("to".to_owned(), high)];
            let title = match to {
                Stage::PodRunning => "Shift of job startup",
                Stage::CredentialsReady => "Shift of agent readiness",
                _ => "Shift of the Job's end",
            };
            Some(Chart {
                title,
                reading:
                    "How many seconds longer the second run takes than the first, by percentile, \
                          with a 95 % interval. Above zero, it is slower."
                        .to_owned(),
                svg: charts::lines("percentile", "seconds", &lines, false),
                legend: lines.into_iter().map(|(name, _)| name).collect(),
            })
        };
        DRAWN.into_iter().filter_map(chart).collect()
    }
}
