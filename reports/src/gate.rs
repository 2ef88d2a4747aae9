//! The baseline of a gate, and its verdict: as JSON, for the terminal, as Markdown and as JUnit XML.

use std::fmt::Write as _;

use alertstorm_analysis::measure::Reading;
use alertstorm_analysis::verdict::gate::{Judged, Rule, Sample, Verdict};
use anstyle::{AnsiColor, Style};
use quick_junit::{NonSuccessKind, Report as Junit, TestCase, TestCaseStatus, TestSuite};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::printable::{annotation, annotation_property, markdown, markdown_code};

/// Name of this version of a baseline's format.
pub const BASELINE_SCHEMA: &str = "alertstorm/baseline/v1";
/// Name of this version of a verdict's format.
pub const SCHEMA: &str = "alertstorm/gate/v2";

/// Runs of a known version, to compare later ones with. Written with `gate --update`, and
/// meant to be committed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// Always `alertstorm/baseline/v1`.
    pub schema: String,
    /// Name of the scenario.
    pub name: String,
    /// Version of the program that wrote the baseline.
    pub version: String,
    /// Provider of the platform: `embedded` for the twin.
    pub provider: String,
    /// Machine on which the runs were made. For real servers, the verdict on another machine is
    /// inconclusive without `--any-machine`.
    pub machine: Machine,
    /// Digest of the plan.
    pub plan: String,
    /// Scenario with every default, to name the knobs that differ if the plan does.
    pub scenario: serde_json::Value,
    /// One sample per run.
    pub runs: Vec<Sample>,
    /// Four hex digits for each event of the twin's run, to find the first event that differs; empty
    /// for real servers.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trail: String,
}

/// The hardware of a machine, as far as it affects its speed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Machine {
    /// Model of the processor.
    pub cpu: String,
    /// Number of logical cores.
    pub cores: u32,
    /// Memory in GiB.
    pub memory_gib: u32,
}

/// The verdict of a gate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Gate {
    /// Always `alertstorm/gate/v2`.
    pub schema: String,
    /// Name of the scenario.
    pub name: String,
    /// Provider of the platform: `embedded` for the twin.
    pub provider: String,
    /// What the runs were compared with: a baseline's file, or a program.
    pub against: String,
    /// Number of runs before, and after.
    pub repeats: (u64, u64),
    /// Parameters of the test.
    pub rule: Rule,
    /// Verdict on all figures together.
    pub verdict: Verdict,
    /// Verdict on each figure.
    pub judged: Vec<Judged>,
    /// Twin only: the first event that differs, as printed; empty if none does.
    pub first_difference: Option<String>,
    /// Remarks for readers, such as that the baseline was made on another machine.
    pub remarks: Vec<String>,
}

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();
const HEAD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();

/// The verdict on all figures together: the worst verdict on one of them; inconclusive without any.
pub fn of_all(judged: &[Judged]) -> Verdict {
    let any = |verdict: Verdict| judged.iter().any(|judged| judged.verdict == verdict);
    match judged.is_empty() {
        true => Verdict::Inconclusive,
        false if any(Verdict::Regressed) => Verdict::Regressed,
        false if any(Verdict::Inconclusive) => Verdict::Inconclusive,
        false if any(Verdict::Improved) => Verdict::Improved,
        false => Verdict::Held,
    }
}

fn change(judged: &Judged) -> String {
    let percent = |ratio: f64| format!("{:+.1} %", (ratio - 1.0) * 100.0);
    match judged.effect {
        Some(effect) if effect.interval.low == effect.interval.high => percent(effect.ratio),
        Some(effect) => {
            let (low, high) = (percent(effect.interval.low), percent(effect.interval.high));
            format!("{} ({low} to {high})", percent(effect.ratio))
        }
        None if [judged.before_s, judged.after_s].contains(&Reading::Never) => {
            "some runs have too many that never arrived".to_owned()
        }
        None => "too few repeats".to_owned(),
    }
}

impl Gate {
    fn heading(&self) -> String {
        let (before, after) = self.repeats;
        format!("{} runs on {} against {before} of {}", after, self.provider, self.against)
    }

    /// The verdict as a table for the terminal.
    pub fn table(&self) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "{HEAD}gate {}{HEAD:#}   {}", self.name, self.heading())?;
        let rule = &self.rule;
        writeln!(
            out,
            "{DIM}false alarm: at most {:.0} % of gates; changes below {:.0} % are ignored{}{DIM:#}\n",
            rule.false_alarms * 100.0,
            rule.least_effect * 100.0,
            if rule.paired { "; runs made alternately" } else { "" }
        )?;
        for judged in &self.judged {
            let style = style(judged.verdict);
            let (before, after) = (judged.before_s, judged.after_s);
            writeln!(
                out,
                "  {style}{:<13}{style:#} {:<24} {before:>12} → {after:<12} {}",
                judged.verdict.word(),
                judged.metric,
                change(judged)
            )?;
        }
        if let Some(difference) = &self.first_difference {
            writeln!(out, "\n  {BAD}the event log differs{BAD:#}: {difference}")?;
        }
        for remark in &self.remarks {
            writeln!(out, "  {DIM}{remark}{DIM:#}")?;
        }
        let style = style(self.verdict);
        writeln!(out, "\n  {style}{}{style:#}", self.verdict)
    }

    /// The verdict as Markdown, for a pull request.
    pub fn markdown(&self) -> String {
        let mut out = format!(
            "### Gate {}: {}\n\n{}.\n\n",
            markdown_code(&self.name),
            self.verdict,
            markdown(&self.heading())
        );
        out += "| | figure | before | after | change |\n| --- | --- | ---: | ---: | --- |\n";
        for judged in &self.judged {
            let (before, after) = (judged.before_s, judged.after_s);
            let (verdict, metric) = (judged.verdict, markdown_code(&judged.metric));
            // Writing to a string does not fail.
            let _ =
                writeln!(out, "| {verdict} | {metric} | {before} | {after} | {} |", change(judged));
        }
        for line in self.first_difference.iter().chain(&self.remarks) {
            let _ = write!(out, "\n{}\n", markdown(line));
        }
        out
    }

    /// Annotations of a GitHub workflow: one for each regressed figure.
    pub fn annotations(&self) -> Vec<String> {
        let title = annotation_property(&format!("gate {}", self.name));
        let mut lines: Vec<String> = self
            .judged
            .iter()
            .filter(|judged| judged.verdict == Verdict::Regressed)
            .map(|judged| {
                let (before, after) = (judged.before_s, judged.after_s);
                let metric = &judged.metric;
                let message = format!("{metric} {before} → {after}, {}", change(judged));
                format!("::error title={title}::{}", annotation(&message))
            })
            .collect();
        if let Some(difference) = &self.first_difference {
            let message = format!("the event log differs: {difference}");
            lines.push(format!("::error title={title}::{}", annotation(&message)));
        }
        lines
    }

    /// The verdict as JUnit XML, with a test case for each figure.
    ///
    /// # Errors
    /// If it cannot be serialized.
    pub fn junit(&self) -> Result<String, quick_junit::SerializeError> {
        let mut suite = TestSuite::new(format!("gate {}", self.name));
        for judged in &self.judged {
            let mut status = match judged.verdict {
                Verdict::Held | Verdict::Improved => TestCaseStatus::success(),
                Verdict::Regressed => TestCaseStatus::non_success(NonSuccessKind::Failure),
                Verdict::Inconclusive => TestCaseStatus::skipped(),
            };
            status.set_message(format!("{}: {}", judged.verdict, change(judged)));
            suite.add_test_case(TestCase::new(judged.metric.clone(), status));
        }
        if let Some(difference) = &self.first_difference {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(difference.clone());
            suite.add_test_case(TestCase::new("event log", status));
        }
        let mut junit = Junit::new("alertstorm gate");
        junit.add_test_suite(suite);
        junit.to_string()
    }
}

const fn style(verdict: Verdict) -> Style {
    match verdict {
        Verdict::Held | Verdict::Improved => GOOD,
        Verdict::Regressed => BAD,
        Verdict::Inconclusive => HEAD,
    }
}
