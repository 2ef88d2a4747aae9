//! `capacity.json`, version 1: the largest load at which the objectives are met (the knee), for a
//! scenario and for variations of its knobs; its table and its page.

use std::fmt::Write as _;

use alertstorm_analysis::stats::{Interval, median_interval};
use alertstorm_analysis::verdict::capacity::{Axis, Knee};
use alertstorm_model::event::Component;
use anstyle::Style;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::charts::{self, Chart};
use crate::terminal::grouped;

/// Name of this version of the format.
pub const SCHEMA: &str = "alertstorm/capacity/v1";
/// Confidence of the interval of a knee.
pub const CONFIDENCE: f64 = 0.95;

const HEAD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();

/// Result of a capacity search. The knee is the largest load at which the objectives are met.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Capacity {
    /// Always `alertstorm/capacity/v1`.
    pub schema: String,
    /// Name of the scenario.
    pub name: String,
    /// Question of the scenario; may be empty.
    pub question: String,
    /// Where the loads were run: `twin`, or `twin, then live on PROVIDER` if there are `steps`.
    pub world: String,
    /// The quantity that is varied as the load.
    pub axis: Axis,
    /// Load of the scenario, in the axis' unit.
    pub load: f64,
    /// Upper bound of the search.
    pub most: f64,
    /// Seeds that were run; each has its own knee.
    pub seeds: Vec<u64>,
    /// Knees for each combination of the varied knobs; without `--vary` only those of the scenario.
    pub settings: Vec<Setting>,
    /// Latency by load, for the first setting and the first objective that is a latency; empty if
    /// there is none.
    pub curve: Option<Curve>,
    /// Result of `--for`: the cheapest settings that hold a given load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// Runs on real servers at shares of the knee, in ascending order of the load.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
}

/// The knees of one combination of knobs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Setting {
    /// Varied knobs, as path and value; empty for the scenario as it is.
    pub knobs: Vec<(String, String)>,
    /// Knee of all objectives together: the smallest of their knees, for each seed.
    pub all: Figure,
    /// Knee of each objective.
    pub slos: Vec<SloKnee>,
}

/// The knee of one objective, with the bottleneck below and above it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SloKnee {
    /// The objective as written in the scenario.
    pub slo: String,
    /// The largest load at which it is met.
    pub knee: Figure,
    /// Bottleneck at the knee; empty if the objective is no latency.
    pub below: Option<Side>,
    /// Bottleneck at 1.1 times the knee; empty also if no seed missed the objective.
    pub above: Option<Side>,
}

/// Statistics of a knee over seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Figure {
    /// Median over seeds; empty if it is 0.
    pub median: Option<f64>,
    /// 95 % interval of the median, by order statistics; with too few seeds, their whole range.
    pub interval: Option<Interval>,
    /// Minimum over seeds; empty if it is 0.
    pub least: Option<f64>,
    /// Seeds for which the objectives are met at every load up to `most`.
    pub unbroken: u64,
    /// Seeds for which the objectives are missed at the smallest load.
    pub never: u64,
}

impl Figure {
    /// The statistics of the knees, one per seed.
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
        let Some(median) = self.median else { return "no load that was tried".to_owned() };
        if self.unbroken as usize > seeds / 2 {
            return format!("at least {} (the largest load tried)", number(axis, median));
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

/// The bottleneck at a load, under the first seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Side {
    /// The load, in the axis' unit.
    pub load: f64,
    /// The component with the largest share of the critical path.
    pub component: Component,
    /// Its share of the critical path; 0 to 1.
    pub share: f64,
    /// Path of the knob that moves it; empty if there is none.
    pub knob: Option<String>,
}

/// Latency by load, under the first seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Curve {
    /// Stage that the latency counts to, from the alert.
    pub to: String,
    /// The objective as written in the scenario.
    pub slo: String,
    /// Limit of the objective in seconds.
    pub limit_s: f64,
    /// Load, and median and 99th percentile in seconds, in ascending order of the load.
    pub points: Vec<LoadPoint>,
}

/// Load, and median and 99th percentile in seconds.
pub type LoadPoint = (f64, Option<f64>, Option<f64>);

/// Result of `--for`: settings that hold a given load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Answer {
    /// The load that must hold, in the axis' unit.
    pub load: f64,
    /// The cheapest settings that hold the load: no other one is at least as cheap in every knob.
    /// Empty if none was found.
    pub settings: Vec<Vec<(String, String)>>,
    /// Why no setting was found; empty if there is one.
    pub remark: Option<String>,
    /// Settings in the order in which they were tried, and whether each held the load.
    pub tried: Vec<(Vec<(String, String)>, bool)>,
}

/// A run on real servers at one load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// The load, in the axis' unit.
    pub load: f64,
    /// Whether all objectives were met.
    pub held: bool,
    /// Each objective with its measured value, as printed.
    pub slos: Vec<String>,
    /// Reasons why the figures cannot be trusted; empty for a valid run.
    pub invalid: Vec<String>,
    /// Folder of the run.
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
    /// The result as a table for the terminal.
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
            // The table of many settings is long enough; the bottlenecks are in the JSON.
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
            writeln!(out, "  {HEAD}{load}{HEAD:#} not held by any setting tried")?;
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

    /// The result as an HTML page.
    ///
    /// # Errors
    /// If the template cannot be rendered.
    pub fn page(&self) -> Result<String, askama::Error> {
        crate::html::plain(&self.name, &self.question, &self.table(), self.charts())
    }

    /// Latency by load with the objective's limit, and the knee by the varied knobs.
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
                "Seconds from the alert to {}, with the limit of the objective. A line ends where too \
                 many alerts never arrive.",
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
                "Largest load at which all objectives are met, by {first}. Where the line flattens, another component is the limit."
            ),
            svg: charts::lines(&first, self.axis.unit(), &lines, false),
            legend: lines.into_iter().map(|(name, _)| name).collect(),
        })
    }
}
