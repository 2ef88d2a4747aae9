//! `promotion.json` and `backtest.json`, version 1: their fields, tables and pages.

use std::fmt::Write as _;

use alertstorm_analysis::stats::Interval;
use alertstorm_analysis::verdict::promotion::backtest::Quality;
use alertstorm_analysis::verdict::promotion::{Judgement, Record, State, Verdict};
use anstyle::{AnsiColor, Style};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::charts::{self, Chart};
use crate::terminal::grouped;

/// Name of this version of a promotion's format.
pub const SCHEMA: &str = "alertstorm/promotion/v1";
/// Name of this version of a backtest's format.
pub const BACKTEST_SCHEMA: &str = "alertstorm/backtest/v1";

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();
const HEAD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();

/// The verdict of a policy on the evidence of runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Promotion {
    /// Always `alertstorm/promotion/v1`.
    pub schema: String,
    /// File of the policy.
    pub policy: String,
    /// Reason of the policy; may be empty.
    pub because: String,
    /// Runs used as evidence.
    pub evidence: Vec<EvidenceRun>,
    /// The result.
    #[serde(flatten)]
    pub judgement: Judgement,
}

/// A run used as evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EvidenceRun {
    /// Folder of the run.
    pub run: String,
    /// Provider of the platform: `embedded` for the twin.
    pub provider: String,
    /// Seed of the run.
    pub seed: u64,
    /// Digest of the event log.
    pub digest: String,
    /// Investigations with an outcome.
    pub investigations: u64,
    /// Investigations whose conclusion was reviewed.
    pub reviewed: u64,
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn between(interval: Interval) -> String {
    format!("{} to {}", percent(interval.low), percent(interval.high))
}

fn write_record(out: &mut String, record: &Record, meets: &str) -> std::fmt::Result {
    let (style, mark) = match record.state {
        State::Met => (GOOD, "✓"),
        State::Open => (DIM, "?"),
        State::Against => (BAD, "✗"),
    };
    write!(out, "  {style}{mark}{style:#} {:<44}", record.what)?;
    match record.interval {
        Some(interval) if record.n > 0 => {
            let rate = record.hits as f64 / record.n as f64;
            write!(out, " {:>7} of {}, {}", percent(rate), grouped(record.n), between(interval))?;
            if let Some(bound) = record.bound {
                write!(out, "; at any look {}", percent(bound))?;
            }
        }
        _ if record.n > 0 => write!(out, " {} of {}", grouped(record.hits), grouped(record.n))?,
        _ => {}
    }
    match (record.state, record.more) {
        (State::Met, _) => writeln!(out, "{meets}"),
        (State::Open, Some(more)) => writeln!(out, "; {} more would decide it", grouped(more)),
        (State::Open, None) => writeln!(out, "; more runs at this rate will not decide it"),
        (State::Against, _) => writeln!(out, "; the evidence shows that it is not met"),
    }
}

impl Promotion {
    /// The result as a table for the terminal.
    pub fn table(&self) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let judgement = &self.judgement;
        let (from, to) = (judgement.from, judgement.to);
        writeln!(out, "{HEAD}{from} → {to}{HEAD:#}   {}", self.because)?;
        let runs = self.evidence.len();
        writeln!(
            out,
            "{DIM}{} investigations of {runs} {} · {:.1} days of alerts · false promotion: at most {}, \
             however often it is judged{DIM:#}\n",
            grouped(judgement.investigations),
            if runs == 1 { "run" } else { "runs" },
            judgement.days,
            percent(1.0 - judgement.confidence),
        )?;
        for record in &judgement.records {
            write_record(out, record, "")?;
        }
        let ending: Vec<&Record> =
            judgement.demotions.iter().filter(|record| record.state == State::Met).collect();
        for record in ending {
            write_record(out, record, ": this ends the phase")?;
        }
        let style = if judgement.verdict == Verdict::Promote { GOOD.bold() } else { BAD };
        write!(out, "\n  {style}{}{style:#}", judgement.verdict)?;
        match (judgement.verdict, judgement.more) {
            (Verdict::Promote, _) => writeln!(out, ": {to} is earned"),
            (Verdict::Demote, _) => writeln!(out, ": back to {}", judgement.phase),
            (Verdict::Hold, Some(more)) => {
                writeln!(
                    out,
                    ": {} more investigations would decide it, at these rates",
                    grouped(more)
                )
            }
            (Verdict::Hold, None) => writeln!(out, ": more runs at these rates will not decide it"),
        }
    }
}

/// The result of applying a ladder of policies to simulated agents of known quality.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Backtest {
    /// Always `alertstorm/backtest/v1`.
    pub schema: String,
    /// Files of the policies, in the order of their phases.
    pub policies: Vec<String>,
    /// Seed of all random draws.
    pub seed: u64,
    /// Investigations per agent and day.
    pub per_day: f64,
    /// Largest number of investigations per agent.
    pub most: u64,
    /// Number of investigations between two judgements.
    pub look_every: u64,
    /// Results by quality, the best first.
    pub qualities: Vec<Quality>,
}

impl Backtest {
    /// Agents that could take a step which they deserve (or do not), and those promoted; expected
    /// numbers.
    fn promotions(&self, deserved: bool) -> (f64, f64) {
        let mut sums = (0.0, 0.0);
        for quality in &self.qualities {
            for phase in quality.phases.iter().filter(|phase| phase.deserves == Some(deserved)) {
                let came = phase.reached * quality.agents as f64;
                sums.0 += came;
                sums.1 += came * phase.promoted.unwrap_or(0.0);
            }
        }
        sums
    }

    /// The result as a table for the terminal.
    pub fn table(&self) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let agents: u64 = self.qualities.iter().map(|quality| quality.agents).sum();
        writeln!(
            out,
            "{HEAD}backtest{HEAD:#}   {} agents on the ladder of {}",
            grouped(agents),
            self.policies.join(", ")
        )?;
        writeln!(
            out,
            "{DIM}up to {} investigations each, {} per day, judged after every {}; errors ×1 is the \
             profile{DIM:#}\n",
            grouped(self.most),
            self.per_day,
            grouped(self.look_every)
        )?;
        writeln!(
            out,
            "{HEAD}  {:<8} {:<18} {:>8} {:>8} {:>10} {:>9} {:>11} {:>9}{HEAD:#}",
            "errors", "phase", "reached", "deserve", "promoted", "days", "violations", "harm"
        )?;
        for quality in &self.qualities {
            for (n, phase) in quality.phases.iter().enumerate() {
                if phase.reached == 0.0 {
                    continue;
                }
                let errors = if n == 0 { format!("×{}", quality.errors) } else { String::new() };
                let deserves = match phase.deserves {
                    Some(true) => "yes",
                    Some(false) => "no",
                    None => "",
                };
                let wrong =
                    phase.deserves == Some(false) && phase.promoted.is_some_and(|p| p > 0.0);
                let style = if wrong { BAD } else { Style::new() };
                let promoted = phase.promoted.map_or_else(String::new, percent);
                let days = phase.days_median.map_or_else(String::new, |days| format!("{days:.0}"));
                writeln!(
                    out,
                    "  {errors:<8} {:<18} {:>8} {deserves:>8} {style}{promoted:>10}{style:#} {days:>9} {:>11.2} {:>9.2}",
                    phase.phase.word(),
                    percent(phase.reached),
                    phase.violations,
                    phase.harm,
                )?;
            }
            if quality.demotions > 0.0 {
                let flapping = percent(quality.flapping);
                writeln!(
                    out,
                    "{DIM}           {:.2} demotions per agent; {flapping} promoted again after one{DIM:#}",
                    quality.demotions
                )?;
            }
        }
        let ((unfit, falsely), (fit, rightly)) = (self.promotions(false), self.promotions(true));
        let share = |taken: f64, of: f64| if of > 0.0 { percent(taken / of) } else { "–".into() };
        writeln!(
            out,
            "\n  of agents that did not deserve it, {} were promoted",
            share(falsely, unfit)
        )?;
        writeln!(out, "  of agents that deserved it, {} were promoted", share(rightly, fit))?;
        writeln!(
            out,
            "{DIM}  harm: violations × minutes of exposure, per agent; days: median until the phase is \
             reached{DIM:#}"
        )
    }

    fn charts(&self) -> Vec<Chart> {
        let of = |pick: fn(
            &alertstorm_analysis::verdict::promotion::backtest::InPhase,
        ) -> Option<f64>| {
            let phases = self.qualities.first().map_or(0, |quality| quality.phases.len());
            let line = |at: usize| {
                let point = |quality: &Quality| Some((quality.errors, pick(&quality.phases[at])?));
                let name = self.qualities[0].phases[at].phase.to_string();
                let points: Vec<(f64, f64)> = self.qualities.iter().filter_map(point).collect();
                (name, points)
            };
            (0..phases).map(line).filter(|(_, points)| points.len() > 1).collect::<Vec<_>>()
        };
        let chart = |title, reading: &str, y, lines: Vec<(String, Vec<(f64, f64)>)>| Chart {
            title,
            reading: reading.to_owned(),
            svg: charts::lines("errors, as a multiple of the profile's", y, &lines, false),
            legend: lines.into_iter().map(|(name, _)| name).collect(),
        };
        vec![
            chart(
                "Who is promoted",
                "Share of the agents in a phase that are promoted, by error rate. It should fall steeply where \
                 agents no longer meet the criteria.",
                "promoted",
                of(|phase| phase.promoted),
            ),
            chart(
                "Harm",
                "Violations × minutes of exposure, per agent that reached the phase.",
                "violations × minutes",
                of(|phase| (phase.reached > 0.0).then_some(phase.harm)),
            ),
        ]
    }

    /// The result as an HTML page.
    ///
    /// # Errors
    /// If the template cannot be rendered.
    pub fn page(&self) -> Result<String, askama::Error> {
        let question = "What do these policies do to agents of known quality?";
        crate::html::plain("backtest", question, &self.table(), self.charts())
    }
}
