//! Charts as SVG. Their colours are placeholders that the page's style sheet replaces, so that the
//! same file works in light and dark mode.

use alertstorm_analysis::measure::Reading;
use alertstorm_model::event::ApiCalls;
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::report::{CURVE, Report};
use crate::terminal::share_words;

/// Placeholders for the style sheet's `--ink`, `--grid` and `--s0` … `--s5`.
const INK: RGBColor = RGBColor(1, 1, 1);
const GRID: RGBColor = RGBColor(2, 2, 2);
const SERIES: [RGBColor; 6] = [
    RGBColor(10, 0, 0),
    RGBColor(11, 0, 0),
    RGBColor(12, 0, 0),
    RGBColor(13, 0, 0),
    RGBColor(14, 0, 0),
    RGBColor(15, 0, 0),
];
const SIZE: (u32, u32) = (760, 300);

/// A chart that cannot be drawn is a defect of the program, not of the run.
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// A chart with its heading.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    pub title: &'static str,
    /// How to read the chart, in a line.
    pub reading: String,
    pub svg: String,
    /// Names of the series, for the legend.
    pub legend: Vec<String>,
}

fn draw(
    size: (u32, u32),
    paint: impl FnOnce(&DrawingArea<SVGBackend<'_>, Shift>) -> Drawn,
) -> String {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        if let Err(error) = paint(&area).and_then(|()| Ok(area.present()?)) {
            return format!("<p>This chart could not be drawn: {error}</p>");
        }
    }
    svg
}

fn ink(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

/// A line for the chart's x and y in their units.
pub(crate) type Line = (String, Vec<(f64, f64)>);

/// Lines over one pair of axes; as steps where a value holds until the next.
pub(crate) fn lines(x: &str, y: &str, lines: &[Line], steps: bool) -> String {
    let points = lines.iter().flat_map(|(_, points)| points);
    let x_max = points.clone().map(|p| p.0).fold(1e-9, f64::max);
    let y_min = points.clone().map(|p| p.1).fold(0.0, f64::min) * 1.06;
    let y_max = points.map(|p| p.1).fold(1e-9, f64::max) * 1.06;
    draw(SIZE, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .x_label_area_size(40)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..x_max, y_min..y_max)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(GRID)
            .label_style(ink(12))
            .axis_desc_style(ink(12))
            .x_desc(x)
            .y_desc(y)
            .x_labels(8)
            .y_labels(5)
            .x_label_formatter(&|v| short(*v))
            .y_label_formatter(&|v| short(*v))
            .draw()?;
        for ((_, points), colour) in lines.iter().zip(SERIES) {
            let stepped = |points: &[(f64, f64)]| -> Vec<(f64, f64)> {
                let pairs = points.windows(2);
                let corners = pairs.flat_map(|two| [two[0], (two[1].0, two[0].1)]);
                corners.chain(points.last().copied()).collect()
            };
            let points = if steps { stepped(points) } else { points.clone() };
            chart.draw_series(LineSeries::new(points, colour.stroke_width(2)))?;
        }
        Ok(())
    })
}

/// 1500000 as `1.5M`.
fn short(n: f64) -> String {
    let trim = |s: String| match s.contains('.') {
        true => s.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => s,
    };
    match n {
        n if n >= 1e6 => trim(format!("{:.2}", n / 1e6)) + "M",
        n if n >= 1e4 => trim(format!("{:.1}", n / 1e3)) + "k",
        n if n >= 10.0 || n == 0.0 => format!("{n:.0}"),
        n => trim(format!("{n:.2}")),
    }
}

/// Horizontal bars: name, where the bar begins and ends, a mark behind it. A mark at infinity is drawn
/// to the edge.
fn bars(x: &str, rows: &[(String, f64, f64, Option<f64>)]) -> String {
    let mark = |row: &(String, f64, f64, Option<f64>)| row.3.filter(|x| x.is_finite());
    let x_max =
        rows.iter().map(|row| mark(row).unwrap_or(0.0).max(row.2)).fold(1e-9, f64::max) * 1.12;
    let height = 60 + 26 * rows.len() as u32;
    let count = rows.len() as f64;
    draw((SIZE.0, height), |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .x_label_area_size(40)
            .y_label_area_size(8)
            .margin_left(200)
            .build_cartesian_2d(0.0..x_max, 0.0..count)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(GRID)
            .label_style(ink(12))
            .axis_desc_style(ink(12))
            .x_desc(x)
            .x_labels(8)
            .x_label_formatter(&|v| short(*v))
            .draw()?;
        for (i, (name, from, to, mark)) in rows.iter().enumerate() {
            let (low, high) = (count - i as f64 - 0.82, count - i as f64 - 0.18);
            let style = SERIES[0].filled();
            chart.draw_series([Rectangle::new([(*from, low), (*to, high)], style)])?;
            if let Some(mark) = mark {
                let middle = low.midpoint(high);
                let path = [(*to, middle), (mark.min(x_max), middle)];
                chart.draw_series([PathElement::new(path, SERIES[1].stroke_width(2))])?;
            }
            let y = 8 + 26 * i as i32 + 10;
            area.draw(&Text::new(name.clone(), (8, y), ink(12)))?;
        }
        Ok(())
    })
}

/// The charts of a report; those without data are left out.
pub(crate) fn all(report: &Report) -> Vec<Chart> {
    let end = horizon(report);
    let charts = [
        waterfall(report),
        percentiles(report),
        arrivals(report, end),
        depths(report, end),
        leases(report, end),
        api_calls(report),
        cores(report, end),
    ];
    charts.into_iter().flatten().collect()
}

/// End of the time axis: shortly after the last investigation ended.
fn horizon(report: &Report) -> f64 {
    let finished = report.accounting.finished;
    let points = &report.series.points;
    let last = points.iter().find(|point| point.finished >= finished && point.leases_active == 0);
    last.or(points.last()).map_or(1.0, |point| point.t_s.max(1.0) * 1.05)
}

fn waterfall(report: &Report) -> Option<Chart> {
    let mut from = 0.0;
    let mut rows = Vec::new();
    // The minutes that an agent works, and the hour until its Job is deleted, would dwarf the rest.
    let last = report.bottleneck.as_ref().map_or("job_finished", |b| b.until.as_str());
    let to_last = report.latencies.iter().position(|row| row.to == last).unwrap_or(0);
    let stages = report.latencies.iter().take(to_last + 1);
    for row in stages.filter(|row| row.from == "alert") {
        let Some(p99) = row.p99_s else { continue };
        let mean = row.mean_arrived_s.unwrap_or(from);
        let mut name = row.to.replace('_', " ");
        if row.never() > 0.0 {
            name += &format!(", never: {}", share_words(row.never()));
        }
        rows.push((name, from, mean.max(from), Some(p99.or_infinite())));
        from = f64::max(from, mean);
    }
    (!rows.is_empty()).then(|| Chart {
        title: "Where the time goes",
        reading:
            "Mean seconds from the alert to each stage, of those that reached it. The bar is the time that \
                  the stage adds; the thin line ends at the 99th percentile, which is over all alerts: \
                  it reaches the edge if more than 1 % never arrived."
                .to_owned(),
        svg: bars("seconds since the alert", &rows),
        legend: vec!["mean".into(), "to the 99th percentile".into()],
    })
}

fn percentiles(report: &Report) -> Option<Chart> {
    let line = |(name, values): &(String, Vec<Reading>)| {
        let points = CURVE.iter().zip(values);
        let points = points.filter_map(|(q, v)| Some((q * 100.0, v.finite()?)));
        (name.clone(), points.collect())
    };
    let curves: Vec<Line> = report.curves.iter().map(line).collect();
    (!curves.is_empty()).then(|| Chart {
        title: "Latency by percentile",
        reading:
            "Latency from the alert for each percentile of all alerts. A steep end is a tail that affects \
                  few of them; where a line ends, the rest never arrived."
                .to_owned(),
        svg: lines("percentile", "seconds", &curves, false),
        legend: curves.into_iter().map(|(name, _)| name).collect(),
    })
}

/// A line of the series, up to the horizon.
fn over_time(
    report: &Report,
    end: f64,
    name: &str,
    value: impl Fn(&alertstorm_analysis::measure::Point) -> Option<f64>,
) -> Line {
    let points = report.series.points.iter().take_while(|point| point.t_s <= end);
    let at =
        |point: &alertstorm_analysis::measure::Point| value(point).map(|value| (point.t_s, value));
    (name.to_owned(), points.filter_map(at).collect())
}

fn arrivals(report: &Report, end: f64) -> Option<Chart> {
    let both = [
        over_time(report, end, "alerts", |point| Some(point.alerts as f64)),
        over_time(report, end, "investigations ended", |point| Some(point.finished as f64)),
    ];
    (report.accounting.alerts > 0).then(|| Chart {
        title: "Arrivals against completions",
        reading:
            "Alerts and finished investigations so far. The distance is work in progress; where \
                  it grows, the platform does not keep up."
                .to_owned(),
        svg: lines("seconds", "count", &both, true),
        legend: both.iter().map(|(name, _)| name.clone()).collect(),
    })
}

fn depths(report: &Report, end: f64) -> Option<Chart> {
    let names = report.series.depths.iter().enumerate();
    let all = names.map(|(i, name)| {
        over_time(report, end, name, |point| point.depths.get(i).map(|depth| *depth as f64))
    });
    let peak = |line: &Line| line.1.iter().map(|point| point.1).fold(0.0, f64::max);
    let mut busy: Vec<Line> = all.filter(|line| peak(line) > 0.0).collect();
    busy.sort_by(|a, b| peak(b).total_cmp(&peak(a)));
    busy.truncate(SERIES.len());
    (!busy.is_empty()).then(|| Chart {
        title: "Queues",
        reading: "Length of each queue at each sample. Look first at the queue that stays longest."
            .to_owned(),
        svg: lines("seconds", "waiting", &busy, true),
        legend: busy.into_iter().map(|(name, _)| name).collect(),
    })
}

fn leases(report: &Report, end: f64) -> Option<Chart> {
    let alive = [over_time(report, end, "leases alive", |point| Some(point.leases_active as f64))];
    (report.leases.counts.issued > 0).then(|| Chart {
        title: "Leases alive",
        reading: format!(
            "Leases that are active at each sample. At the peak, {:.1} per second were issued or ended.",
            report.leases.churn_peak_per_s
        ),
        svg: lines("seconds", "leases", &alive, true),
        legend: vec!["leases alive".into()],
    })
}

fn api_calls(report: &Report) -> Option<Chart> {
    let mut kinds: Vec<(String, f64)> = Vec::new();
    for calls in ApiCalls::by_resource(&report.api_calls) {
        let name = format!("{} {}", calls.verb, calls.resource);
        match kinds.iter_mut().find(|(known, _)| *known == name) {
            Some((_, n)) => *n += calls.count as f64,
            None => kinds.push((name, calls.count as f64)),
        }
    }
    kinds.sort_by(|a, b| b.1.total_cmp(&a.1));
    kinds.truncate(14);
    let each = ApiCalls::total(&report.api_calls) as f64 / report.accounting.finished.max(1) as f64;
    let rows: Vec<_> = kinds.into_iter().map(|(name, n)| (name, 0.0, n, None)).collect();
    (!rows.is_empty()).then(|| Chart {
        title: "Calls to the API server",
        reading: format!(
            "Calls by verb and resource: {each:.1} per investigation, including node leases."
        ),
        svg: bars("calls", &rows),
        legend: Vec::new(),
    })
}

fn cores(report: &Report, end: f64) -> Option<Chart> {
    let hosts = report.series.hosts.iter().enumerate();
    let busy: Vec<Line> = hosts
        .map(|(i, (host, cores))| {
            let name = format!("{host} (of {cores})");
            over_time(report, end, &name, |point| point.cores_busy.get(i).copied())
        })
        .collect();
    (!busy.is_empty()).then(|| Chart {
        title: "Cores",
        reading: "Cores busy between two samples. A host that uses all of its cores is the limit."
            .to_owned(),
        svg: lines("seconds", "cores busy", &busy, true),
        legend: busy.into_iter().map(|(name, _)| name).collect(),
    })
}
