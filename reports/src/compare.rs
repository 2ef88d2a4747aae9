//! Runs side by side: latencies, leases, requests and processor time, each with its ratio to the first
//! run.

use std::fmt::Write as _;

use alertstorm_analysis::measure::Reading;
use anstyle::Style;

use crate::report::{Report, World};
use crate::terminal::grouped;

const HEAD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
/// Width in columns of a row's name, and of each run's cell.
const NAME: usize = 34;
const CELL: usize = 22;

/// The runs as a table for the terminal, with a column for each.
pub fn table(runs: &[Report]) -> String {
    let mut table = Table { out: String::new() };
    table.heads(runs);
    table.section("latencies, p50 · p99");
    let Some(first) = runs.first() else { return table.out };
    let counted_from = ["alert", "job_sent"];
    for row in first.latencies.iter().filter(|row| counted_from.contains(&row.from.as_str())) {
        let same = |run: &Report| {
            let of = run.latencies.iter().find(|r| (&r.from, &r.to) == (&row.from, &row.to))?;
            Some((of.p50_s?, of.p99_s?))
        };
        let cells: Vec<Option<(Reading, Reading)>> = runs.iter().map(same).collect();
        if cells.iter().any(Option::is_some) {
            table.latency(&format!("{} → {}", row.from, row.to), &cells);
        }
    }
    table.section("leases");
    type Count = (&'static str, fn(&Report) -> u64);
    let leases: [Count; 6] = [
        ("issued", |run| run.leases.counts.issued),
        ("renewed", |run| run.leases.counts.renewed),
        ("revoked", |run| run.leases.counts.revoked),
        ("expired", |run| run.leases.counts.expired),
        ("orphaned", |run| run.leases.counts.orphaned),
        ("at peak", |run| run.leases.counts.active_peak),
    ];
    for (name, of) in leases {
        table.counts(name, &runs.iter().map(of).collect::<Vec<_>>());
    }
    table.section("vault tokens");
    let tokens: [Count; 4] = [
        ("issued", |run| run.vault_tokens.counts.issued),
        ("revoked", |run| run.vault_tokens.counts.revoked),
        ("expired", |run| run.vault_tokens.counts.expired),
        ("orphaned", |run| run.vault_tokens.counts.orphaned),
    ];
    for (name, of) in tokens {
        table.counts(name, &runs.iter().map(of).collect::<Vec<_>>());
    }
    table.section("calls to the API server");
    for (verb, resource) in calls(runs) {
        let of = |run: &Report| -> u64 {
            let same = run.api_calls.iter().filter(|c| c.verb == verb && c.resource == resource);
            same.map(|calls| calls.count).sum()
        };
        table.counts(&format!("{verb} {resource}"), &runs.iter().map(of).collect::<Vec<_>>());
    }
    table.section("processor time, seconds");
    for process in processes(runs) {
        let of = |run: &Report| -> f64 {
            let same = run.cpu.iter().filter(|cpu| cpu.process == process);
            same.map(|cpu| cpu.busy_ns as f64 / 1e9).sum()
        };
        table.seconds(&process, &runs.iter().map(of).collect::<Vec<_>>());
    }
    table.out
}

/// Verbs and resources of requests that belong to investigations, by resource. Both the twin and real
/// servers count these.
fn calls(runs: &[Report]) -> Vec<(String, String)> {
    let ours = [
        "jobs",
        "jobs/status",
        "pods",
        "pods/status",
        "pods/binding",
        "events",
        "serviceaccounts",
        "serviceaccounts/token",
        "rolebindings",
        "configmaps",
        "tokenreviews",
        "leases",
    ];
    let writes = ["create", "update", "patch", "delete", "get"];
    let mut all = Vec::new();
    for run in runs {
        for calls in &run.api_calls {
            let key = (calls.verb.clone(), calls.resource.clone());
            let wanted = ours.contains(&key.1.as_str()) && writes.contains(&key.0.as_str());
            if wanted && !all.contains(&key) {
                all.push(key);
            }
        }
    }
    all.sort_by(|a, b| (&a.1, &a.0).cmp(&(&b.1, &b.0)));
    all
}

fn processes(runs: &[Report]) -> Vec<String> {
    let mut all: Vec<String> =
        runs.iter().flat_map(|run| run.cpu.iter().map(|cpu| cpu.process.clone())).collect();
    all.sort();
    all.dedup();
    all
}

struct Table {
    out: String,
}

impl Table {
    fn line(&mut self, name: &str, cells: impl Iterator<Item = String>) {
        // Writing to a string does not fail.
        let _ = write!(self.out, "  {name:<NAME$}");
        for cell in cells {
            let _ = write!(self.out, " {cell:>CELL$}");
        }
        self.out.push('\n');
    }

    fn heads(&mut self, runs: &[Report]) {
        let world = |run: &Report| match run.world {
            World::Twin => "twin".to_owned(),
            World::Live => format!("live, {}", run.provider),
        };
        let names: Vec<String> = runs.iter().map(|run| run.name.clone()).collect();
        self.line("", names.into_iter());
        self.line("", runs.iter().map(world));
        let plans = runs.iter().all(|run| run.plan == runs[0].plan);
        if !plans {
            let _ = writeln!(self.out, "  {DIM}the plans differ: {DIM:#}");
            self.line("plan", runs.iter().map(|run| run.plan.chars().take(12).collect()));
        }
    }

    fn section(&mut self, name: &str) {
        let _ = writeln!(self.out, "\n{HEAD}{name}{HEAD:#}");
    }

    fn latency(&mut self, name: &str, cells: &[Option<(Reading, Reading)>]) {
        let first = cells.first().and_then(|first| first.as_ref()?.0.finite());
        let shown = |(n, cell): (usize, &Option<(Reading, Reading)>)| match cell {
            None => "–".to_owned(),
            Some((p50, p99)) => {
                let both = first.filter(|_| n > 0).zip(p50.finite());
                let ratio = both.map(|(first, own)| ratio(own, first));
                format!("{p50} · {p99}{}", ratio.unwrap_or_default())
            }
        };
        let cells: Vec<String> = cells.iter().enumerate().map(shown).collect();
        self.line(name, cells.into_iter());
    }

    fn counts(&mut self, name: &str, counts: &[u64]) {
        let shown = |(n, count): (usize, &u64)| {
            let known = n > 0 && *count > 0;
            let ratio = if known { ratio(*count as f64, counts[0] as f64) } else { String::new() };
            format!("{}{ratio}", grouped(*count))
        };
        let cells: Vec<String> = counts.iter().enumerate().map(shown).collect();
        self.line(name, cells.into_iter());
    }

    fn seconds(&mut self, name: &str, all: &[f64]) {
        let shown = |(n, s): (usize, &f64)| {
            if *s == 0.0 {
                return "–".to_owned();
            }
            let ratio = if n > 0 { ratio(*s, all[0]) } else { String::new() };
            format!("{s:.2}{ratio}")
        };
        let cells: Vec<String> = all.iter().enumerate().map(shown).collect();
        self.line(name, cells.into_iter());
    }
}

/// ` ×1.25`; empty if `first` is 0.
fn ratio(value: f64, first: f64) -> String {
    if first > 0.0 { format!(" ×{:.2}", value / first) } else { String::new() }
}
