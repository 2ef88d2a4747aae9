//! `report.html`: a single file without references to the network, for light and dark mode.

use alertstorm_analysis::measure::{LatencyRow, Reading};
use alertstorm_analysis::verdict::slo::SloResult;
use alertstorm_model::time::Span;
use anstream::adapter::strip_str;
use askama::Template;

use crate::charts::{self, Chart};
use crate::report::{Report, World};
use crate::terminal::{self, grouped};

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    report: &'a Report,
    charts: Vec<Chart>,
    facts: Vec<(&'static str, String)>,
    world: &'static str,
    not_investigated: Option<String>,
}

impl Page<'_> {
    fn reading(&self, row: &LatencyRow, reading: &Option<Reading>) -> String {
        terminal::reading(row, *reading)
    }

    fn tried(&self, reading: &Option<Reading>) -> String {
        terminal::of_reading(*reading)
    }

    fn seconds(&self, seconds: &f64) -> String {
        Span::from_secs_f64(*seconds).to_string()
    }

    fn ns(&self, ns: &u64) -> String {
        Span(*ns).to_string()
    }

    fn n(&self, n: &u64) -> String {
        grouped(*n)
    }

    fn percent(&self, share: &f64) -> String {
        format!("{:.1} %", share * 100.0)
    }

    fn path_to(&self, until: &str) -> String {
        terminal::critical_path(self.report, until)
    }

    fn value(&self, slo: &SloResult) -> String {
        terminal::slo_value(slo)
    }

    fn margin(&self, slo: &SloResult) -> String {
        terminal::slo_margin(slo)
    }
}

/// A page with a table as in the terminal, and charts.
#[derive(Template)]
#[template(path = "plain.html")]
struct Plain<'a> {
    name: &'a str,
    question: &'a str,
    text: String,
    charts: Vec<Chart>,
}

/// A page with `text` as in the terminal, and charts.
///
/// # Errors
/// As [`page`].
pub(crate) fn plain(
    name: &str,
    question: &str,
    text: &str,
    charts: Vec<Chart>,
) -> Result<String, askama::Error> {
    let text = strip_str(text).to_string();
    Plain { name, question, text, charts }.render()
}

/// The page of a report.
///
/// # Errors
/// If the template cannot be rendered.
pub fn page(report: &Report) -> Result<String, askama::Error> {
    let world = match report.world {
        World::Twin => "twin, in virtual time",
        World::Live => "live",
    };
    let not_investigated = terminal::not_investigated(report);
    Page { report, charts: charts::all(report), facts: facts(report), world, not_investigated }
        .render()
}

fn facts(report: &Report) -> Vec<(&'static str, String)> {
    let leases = &report.leases;
    let (counts, tokens) = (&leases.counts, &report.vault_tokens);
    let mut facts = vec![
        ("Leases issued", grouped(counts.issued)),
        ("… renewed (times)", grouped(counts.renewed)),
        ("… revoked", grouped(counts.revoked)),
        ("… expired", grouped(counts.expired)),
        ("… irrevocable", grouped(counts.irrevocable)),
        ("… alive at the end", grouped(counts.active)),
        ("… alive at peak", grouped(counts.active_peak)),
        ("… orphaned", grouped(counts.orphaned)),
        (
            "Orphans' exposure, longest",
            Span::from_secs_f64(leases.orphan_exposure_max_s).to_string(),
        ),
        ("Lease churn, mean", format!("{:.2} /s", leases.churn_mean_per_s)),
        ("Failed revocations", grouped(counts.revoke_failures)),
        ("Vault tokens issued", grouped(tokens.counts.issued)),
        ("… revoked", grouped(tokens.counts.revoked)),
        ("… expired", grouped(tokens.counts.expired)),
        ("… alive at the end", grouped(tokens.counts.active)),
        ("… orphaned", grouped(tokens.counts.orphaned)),
        (
            "Orphaned tokens' exposure, longest",
            Span::from_secs_f64(tokens.orphan_exposure_max_s).to_string(),
        ),
        ("TokenReviews", grouped(report.token_reviews)),
        ("Reads", grouped(report.actions.reads)),
        ("Writes", grouped(report.actions.writes)),
        ("Reads refused", grouped(report.actions.denied_reads)),
        ("Writes refused", grouped(report.actions.denied_writes)),
        ("LLM cost", format!("${:.2}", report.cost.total_usd)),
        ("Tool calls", grouped(report.cost.tool_calls)),
        ("etcd writes", grouped(report.etcd.writes)),
        ("etcd syncs", grouped(report.etcd.fsyncs)),
        ("etcd size at most", format!("{:.1} MiB", report.etcd.db_bytes_max as f64 / 1_048_576.0)),
    ];
    let percent = |share: Option<f64>| share.map(|share| format!("{:.1} %", share * 100.0));
    let attribution = &report.attribution;
    for (name, share) in [
        ("Attribution, shared-agent", attribution.share_shared_agent),
        ("Attribution, per-investigation", attribution.share_per_investigation),
    ] {
        facts.extend(percent(share).map(|share| (name, share)));
    }
    facts
}
