//! What a promotion and a backtest read like: tables, pages, and their JSON.

use std::fmt::Write as _;

use alertstorm_analysis::stats::Interval;
use alertstorm_analysis::verdict::promotion::backtest::Quality;
use alertstorm_analysis::verdict::promotion::{Judgement, Record, State, Verdict};
use anstyle::{AnsiColor, Style};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::charts::{self, Chart};
use crate::terminal::grouped;

/// Names this version of a promotion's format.
pub const SCHEMA: &str = "alertstorm/promotion/v1";
/// Names this version of a backtest's format.
pub const BACKTEST_SCHEMA: &str = "alertstorm/backtest/v1";

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();
const HEAD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();

/// A promotion: the policy, the evidence and the judgement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Promotion {
    /// Always `alertstorm/promotion/v1`.
    pub schema: String,
    /// The policy's file.
    pub policy: String,
    /// What the step is about.
    pub because: String,
    /// The runs that are the evidence.
    pub evidence: Vec<EvidenceRun>,
    /// The judgement.
    #[serde(flatten)]
    pub judgement: Judgement,
}

/// A run that counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EvidenceRun {
    /// Its folder.
    pub run: String,
    /// Twin, or the provider of its real servers.
    pub provider: String,
    /// Its seed.
    pub seed: u64,
    /// The digest of its event log.
    pub digest: String,
    /// Investigations that count.
    pub investigations: u64,
    /// Conclusions that somebody reviewed.
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
        (State::Open, Some(more)) => writeln!(out, "; {} more would settle it", grouped(more)),
        (State::Open, None) => writeln!(out, "; at this rate no number settles it"),
        (State::Against, _) => writeln!(out, "; the evidence is against it"),
    }
}

impl Promotion {
    /// What a person reads.
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
            "{DIM}{} investigations of {runs} {} · {:.1} days of alerts · at most {} of promotions \
             by chance, at any number of looks{DIM:#}\n",
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
                    ": {} more investigations would settle it, at these rates",
                    grouped(more)
                )
            }
            (Verdict::Hold, None) => writeln!(out, ": at these rates no number of them earns {to}"),
        }
    }
}

/// A backtest: what a ladder of policies does to agents of known quality.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Backtest {
    /// Always `alertstorm/backtest/v1`.
    pub schema: String,
    /// The policies' files.
    pub policies: Vec<String>,
    /// The seed of every draw.
    pub seed: u64,
    /// Investigations a day.
    pub per_day: f64,
    /// Investigations, after which an agent is watched no more.
    pub most: u64,
    /// Investigations between two looks.
    pub look_every: u64,
    /// Each quality, the best first.
    pub qualities: Vec<Quality>,
}

impl Backtest {
    /// Agents that had the chance of a step that they did, or did not, deserve; and those that took it.
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

    /// What a person reads.
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
            "{DIM}up to {} investigations each, {} a day, a look after every {}; errors ×1 is the \
             profile{DIM:#}\n",
            grouped(self.most),
            self.per_day,
            grouped(self.look_every)
        )?;
        writeln!(
            out,
            "{HEAD}  {:<8} {:<18} {:>8} {:>8} {:>10} {:>9} {:>11} {:>9}{HEAD:#}",
            "errors", "phase", "came", "deserve", "promoted", "days", "violations", "harm"
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
                    "{DIM}           {:.2} demotions an agent; {flapping} promoted again after one{DIM:#}",
                    quality.demotions
                )?;
            }
        }
        let ((unfit, falsely), (fit, rightly)) = (self.promotions(false), self.promotions(true));
        let share = |taken: f64, of: f64| if of > 0.0 { percent(taken / of) } else { "–".into() };
        writeln!(out, "\n  of steps that were not deserved {} were taken", share(falsely, unfit))?;
        writeln!(out, "  of steps that were deserved {} were taken", share(rightly, fit))?;
        writeln!(
            out,
            "{DIM}  harm: violations times the minutes that they stayed open, an agent; days: until half \
             had come{DIM:#}"
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
                "The share of agents in a phase that earn the next one, by their error rate. It should fall \
                 steeply where they stop deserving it.",
                "promoted",
                of(|phase| phase.promoted),
            ),
            chart(
                "Harm",
                "Violations times the minutes that they stayed open, per agent that reached the phase.",
                "violations × minutes",
                of(|phase| (phase.reached > 0.0).then_some(phase.harm)),
            ),
        ]
    }

    /// The page.
    ///
    /// # Errors
    /// Where the template cannot be filled; it is checked when the program is compiled.
    pub fn page(&self) -> Result<String, askama::Error> {
        let question = "What do these policies do to agents of known quality?";
        crate::html::plain("backtest", question, &self.table(), self.charts())
    }
}
