//! `spread.json`, version 2: the figures of one scenario under many seeds.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::report::Report;
use crate::terminal::grouped;
use alertstorm_analysis::measure::Reading;

/// Minimum, median and maximum of one figure over the seeds for which it could be measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SpreadRow {
    /// Name of the figure, with its unit unless it is a count.
    pub metric: String,
    /// Minimum over the seeds.
    pub min: Reading,
    /// Median over the seeds.
    pub median: Reading,
    /// Maximum over the seeds.
    pub max: Reading,
}

/// The figures of one scenario under many seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SeedSpread {
    /// Always `alertstorm/spread/v2`.
    pub schema: String,
    /// Name of the scenario.
    pub name: String,
    /// Seeds that were run, ascending.
    pub seeds: Vec<u64>,
    /// Digests of the event logs, in the order of the seeds.
    pub digests: Vec<String>,
    /// Figures; those that no seed measured are left out.
    pub rows: Vec<SpreadRow>,
    /// Number of seeds for which all objectives are met.
    pub held: u64,
}

/// A figure of a report.
type Figure = fn(&Report) -> Option<Reading>;

const FIGURES: [(&str, Figure); 10] = [
    ("job startup p50, s", |r| r.latency("pod_running")?.p50_s),
    ("job startup p99, s", |r| r.latency("pod_running")?.p99_s),
    ("agent ready p50, s", |r| r.latency("credentials_ready")?.p50_s),
    ("agent ready p99, s", |r| r.latency("credentials_ready")?.p99_s),
    ("job finished p99, s", |r| r.latency("job_finished")?.p99_s),
    ("leases at peak", |r| Some(Reading::At(r.leases.counts.active_peak as f64))),
    ("leases orphaned", |r| Some(Reading::At(r.leases.counts.orphaned as f64))),
    ("vault tokens orphaned", |r| Some(Reading::At(r.vault_tokens.counts.orphaned as f64))),
    ("alerts not investigated", |r| Some(Reading::At(r.not_investigated.total() as f64))),
    ("alerts shed", |r| Some(Reading::At(r.accounting.shed as f64))),
];

impl SeedSpread {
    /// The spread over reports of one scenario, in the order of their seeds.
    pub fn new(reports: &[Report]) -> Self {
        let row = |(metric, figure): &(&str, Figure)| {
            let values = reports.iter().filter_map(figure).map(Reading::or_infinite);
            let mut values: Vec<f64> = values.collect();
            values.sort_by(f64::total_cmp);
            let (min, max) = (values.first()?, values.last()?);
            let median = values[(values.len() - 1) / 2].midpoint(values[values.len() / 2]);
            let [min, median, max] = [*min, median, *max].map(Reading::of);
            Some(SpreadRow { metric: (*metric).to_owned(), min, median, max })
        };
        Self {
            schema: "alertstorm/spread/v2".to_owned(),
            name: reports.first().map(|r| r.name.clone()).unwrap_or_default(),
            seeds: reports.iter().map(|r| r.seed).collect(),
            digests: reports.iter().map(|r| r.digest.clone()).collect(),
            rows: FIGURES.iter().filter_map(row).collect(),
            held: reports.iter().filter(|r| r.held()).count() as u64,
        }
    }

    /// The result as a table for the terminal.
    pub fn table(&self) -> String {
        let show = |metric: &str, reading: Reading| match reading {
            Reading::At(n) if !metric.ends_with(", s") => grouped(n as u64),
            seconds => seconds.to_string(),
        };
        let mut out = format!("{} under {} seeds\n\n", self.name, self.seeds.len());
        out += &format!("  {:<22} {:>14} {:>14} {:>14}\n", "", "least", "median", "most");
        for row in &self.rows {
            let name = row.metric.trim_end_matches(", s");
            let [min, median, max] = [row.min, row.median, row.max].map(|n| show(&row.metric, n));
            out += &format!("  {name:<22} {min:>14} {median:>14} {max:>14}\n");
        }
        out + &format!("\n  objectives held under {} of {} seeds\n", self.held, self.seeds.len())
    }
}
