//! `capacity.json`, version 1: the largest load that holds, for a scenario and for settings of its
//! knobs; its table and its page.

use std::fmt::Write as _;

use alertstorm_analysis::stats::{Interval, median_interval};
use alertstorm_analysis::verdict::capacity::{Axis, Knee};
use alertstorm_model::event::Component;
use anstyle::Style;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::charts::{self, Chart};
use crate::terminal::grouped;

/// Names this version of the format.
pub const SCHEMA: &str = "alertstorm/capacity/v1";
/// The confidence of a knee's interval.
pub const CONFIDENCE: f64 = 0.95;

const HEAD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();

/// What a capacity run found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Capacity {
    /// Always `alertstorm/capacity/v1`.
    pub schema: String,
    /// The scenario's name.
    pub name: String,
    /// Its question.
    pub question: String,
    /// Which world the knees come from.
    pub world: String,
    /// What is meant by load.
    pub axis: Axis,
    /// The scenario's own load.
    pub load: f64,
    /// The most that was tried.
    pub most: f64,
    /// Seeds.
    pub seeds: Vec<u64>,
    /// Each setting of the knobs, the scenario's own first where none was varied.
    pub settings: Vec<Setting>,
    /// Latency by load, for the first setting and its first objective that is a latency.
    pub curve: Option<Curve>,
    /// The question turned round: what holds a given load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// The steps that were run on real servers, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
}

/// A setting of the knobs and what it holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Setting {
    /// The knobs that were varied: path and value.
    pub knobs: Vec<(String, String)>,
    /// The load up to which every objective holds.
    pub all: Figure,
    /// The same for each objective by itself.
    pub slos: Vec<SloKnee>,
}

/// An objective's knee.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SloKnee {
    /// The objective.
    pub slo: String,
    /// The load up to which it holds.
    pub knee: Figure,
    /// What the platform waits for most at a load that holds.
    pub below: Option<Side>,
    /// The same at one that does not.
    pub above: Option<Side>,
}

/// A knee over seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Figure {
    /// The median over seeds; nothing where most seeds hold no load at all.
    pub median: Option<f64>,
    /// Its interval, at 95 %, by order statistics.
    pub interval: Option<Interval>,
    /// The least over seeds.
    pub least: Option<f64>,
    /// Seeds under which nothing that was tried broke it.
    pub unbroken: u64,
    /// Seeds under which not even the least load holds.
    pub never: u64,
}

impl Figure {
    /// The figure of one knee a seed.
    pub fn of(knees: &[Knee]) -> Self {
        let mut held: Vec<f64> = knees.iter().map(|knee| knee.held.unwrap_or(0.0)).collect();
        held.sort_by(f64::total_cmp);
        let found = median_interval(&held, CONFIDENCE);
        let some = |load: f64| (load > 0.0).then_some(load);
        Self {
            median: found.and_then(|(median, _)| some(median)),
            interval: found.map(|(_, interval)| interval),
            least: held.first().copied().and_then(some),
            unbroken: knees.iter().filter(|knee| knee.broke.is_none()).count() as u64,
            never: knees.iter().filter(|knee| knee.held.is_none()).count() as u64,
        }
    }

    fn words(&self, axis: Axis, seeds: usize) -> String {
        let Some(median) = self.median else { return "no load at all".to_owned() };
        if self.unbroken as usize > seeds / 2 {
            return format!("{} and more: nothing tried broke it", number(axis, median));
        }
        let mut words = format!("{:>8}", number(axis, median));
        if let (Some(interval), true) = (self.interval, seeds > 1) {
            let (low, high) = (number(axis, interval.low), number(axis, interval.high));
            let least = number(axis, self.least.unwrap_or(0.0));
            let _ = write!(words, "   95 %: {low} to {high}, least {least}");
        }
        words
    }
}

/// The bottleneck at a load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Side {
    /// The load.
    pub load: f64,
    /// What is waited for most.
    pub component: Component,
    /// Its share of the critical path.
    pub share: f64,
    /// The knob that moves it.
    pub knob: Option<String>,
}

/// Latency by load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Curve {
    /// The stage that the latency is to.
    pub to: String,
    /// The objective, and its limit in seconds.
    pub slo: String,
    /// The limit, in seconds.
    pub limit_s: f64,
    /// Load, median and 99th percentile in seconds.
    pub points: Vec<LoadPoint>,
}

/// Load, median and 99th percentile in seconds.
pub type LoadPoint = (f64, Option<f64>, Option<f64>);

/// What holds a load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Answer {
    /// The load that is to hold.
    pub load: f64,
    /// The cheapest settings that hold it: none costs less in one knob without costing more in
    /// another. Empty where none holds.
    pub settings: Vec<Vec<(String, String)>>,
    /// Why there is none, or what it does not say.
    pub remark: Option<String>,
    /// What was tried, in its order: the settings, and whether they held.
    pub tried: Vec<(Vec<(String, String)>, bool)>,
}

/// A step on real servers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// The load.
    pub load: f64,
    /// Whether every objective held.
    pub held: bool,
    /// Objectives and what they came to, in words.
    pub slos: Vec<String>,
    /// Why the run is invalid, where it is.
    pub invalid: Vec<String>,
    /// The folder of the run.
    pub folder: String,
}

fn number(axis: Axis, load: f64) -> String {
    match axis {
        Axis::Rate => format!("{load:.3}"),
        Axis::Flood | Axis::Concurrent => grouped(load.round() as u64),
    }
}

fn knob_words(knobs: &[(String, String)]) -> String {
    let last = |path: &str| path.rsplit('.').next().unwrap_or(path).to_owned();
    let words: Vec<String> =
        knobs.iter().map(|(path, value)| format!("{} {value}", last(path))).collect();
    words.join(", ")
}

impl Capacity {
    /// What a person reads.
    pub fn table(&self) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let (axis, seeds) = (self.axis, self.seeds.len());
        let unit = axis.unit();
        writeln!(out, "{HEAD}{}{HEAD:#}   {}", self.name, self.question)?;
        let own = number(axis, self.load);
        writeln!(
            out,
            "{DIM}{} · {seeds} seeds · load: {axis}, the scenario's own {own} {unit}; tried up to {}\
             {DIM:#}\n",
            self.world,
            number(axis, self.most)
        )?;
        for setting in &self.settings {
            let knobs = match setting.knobs.is_empty() {
                true => "holds up to".to_owned(),
                false => knob_words(&setting.knobs),
            };
            writeln!(out, "  {HEAD}{knobs:<34}{HEAD:#} {} {unit}", setting.all.words(axis, seeds))?;
            // Of many settings the sides are in the JSON; a person looks for the frontier.
            let many = self.settings.len() > 1;
            for slo in &setting.slos {
                writeln!(out, "    {:<32} {}", slo.slo, slo.knee.words(axis, seeds))?;
                for (name, side) in [("below", &slo.below), ("above", &slo.above)] {
                    if let (Some(side), false) = (side, many) {
                        let moved = side.knob.as_ref().map(|knob| format!("; moved by {knob}"));
                        writeln!(
                            out,
                            "{DIM}      {name} it, at {}: {}, {:.0} % of the time{}{DIM:#}",
                            number(axis, side.load),
                            side.component,
                            side.share * 100.0,
                            moved.unwrap_or_default(),
                        )?;
                    }
                }
            }
        }
        if let Some(answer) = &self.answer {
            self.write_answer(out, answer)?;
        }
        for step in &self.steps {
            let mark = if step.held { "✓" } else { "✗" };
            let load = number(axis, step.load);
            writeln!(out, "  {mark} {load} {unit}: {}   {}", step.slos.join(" · "), step.folder)?;
            for why in &step.invalid {
                writeln!(out, "    invalid: {why}")?;
            }
        }
        Ok(())
    }

    fn write_answer(&self, out: &mut String, answer: &Answer) -> std::fmt::Result {
        let load = format!("{} {}", number(self.axis, answer.load), self.axis.unit());
        writeln!(out)?;
        for settings in &answer.settings {
            let what = match settings.is_empty() {
                true => "the scenario as it is".to_owned(),
                false => knob_words(settings),
            };
            writeln!(out, "  {HEAD}{load}{HEAD:#} held by {what}")?;
        }
        if answer.settings.is_empty() {
            writeln!(out, "  {HEAD}{load}{HEAD:#} held by nothing that was tried")?;
        }
        for (settings, held) in &answer.tried {
            let mark = if *held { "✓" } else { "✗" };
            let what = if settings.is_empty() { "as it is".into() } else { knob_words(settings) };
            writeln!(out, "{DIM}    {mark} {what}{DIM:#}")?;
        }
        match &answer.remark {
            Some(remark) => writeln!(out, "    {remark}"),
            None => Ok(()),
        }
    }

    /// The page.
    ///
    /// # Errors
    /// Where the template cannot be filled; it is checked when the program is compiled.
    pub fn page(&self) -> Result<String, askama::Error> {
        crate::html::plain(&self.name, &self.question, &self.table(), self.charts())
    }

    /// The charts: latency against load with the objective's line, and the knee by the knobs.
    fn charts(&self) -> Vec<Chart> {
        [self.latency_chart(), self.frontier()].into_iter().flatten().collect()
    }

    fn latency_chart(&self) -> Option<Chart> {
        let curve = self.curve.as_ref()?;
        let of = |pick: fn(&LoadPoint) -> Option<f64>| -> Vec<(f64, f64)> {
            let points = curve.points.iter();
            points.filter_map(|point| Some((point.0, pick(point)?))).collect()
        };
        let (first, last) = (curve.points.first()?.0, curve.points.last()?.0);
        let limit = vec![(first, curve.limit_s), (last, curve.limit_s)];
        let lines = [
            ("median".to_owned(), of(|point| point.1)),
            ("99th percentile".to_owned(), of(|point| point.2)),
            (curve.slo.clone(), limit),
        ];
        Some(Chart {
            title: "Latency by load",
            reading: format!(
                "Seconds from the alert to {}. Where the 99th percentile crosses the objective's line, \
                 the objective no longer holds.",
                curve.to.replace('_', " ")
            ),
            svg: charts::lines(self.axis.unit(), "seconds", &lines, false),
            legend: lines.into_iter().map(|(name, _)| name).collect(),
        })
    }

    fn frontier(&self) -> Option<Chart> {
        let first = self.settings.first()?.knobs.first()?.0.clone();
        let mut lines: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
        for setting in &self.settings {
            let x: f64 = setting.knobs.first()?.1.parse().ok()?;
            let name = match setting.knobs.get(1..) {
                Some(rest) if !rest.is_empty() => knob_words(rest),
                _ => "holds up to".to_owned(),
            };
            let point = (x, setting.all.median.unwrap_or(0.0));
            match lines.iter_mut().find(|(known, _)| *known == name) {
                Some((_, points)) => points.push(point),
                None => lines.push((name, vec![point])),
            }
        }
        Some(Chart {
            title: "The frontier",
            reading: format!(
                "The largest load that holds, by {first}. Where the line flattens, something else is the limit."
            ),
            svg: charts::lines(&first, self.axis.unit(), &lines, false),
            legend: lines.into_iter().map(|(name, _)| name).collect(),
        })
    }
}
