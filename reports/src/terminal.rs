//! The summary of a run in the terminal.

use std::fmt::{self, Write as _};

use alertstorm_analysis::ledger::TokenCounts;
use alertstorm_analysis::measure::{LatencyRow, PathShare, Reading};
use alertstorm_analysis::verdict::slo::SloResult;
use alertstorm_model::event::{Audited, Component};
use alertstorm_model::time::Span;
use anstyle::{AnsiColor, Style};

use crate::report::{Report, TwinOf, World};

/// How to print the summary.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Width of the terminal in columns.
    pub width: usize,
}

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();
const HEAD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
/// How many components of the critical path are shown.
const SHOWN: usize = 4;

/// The summary, with styles as escape codes; `anstream` strips them where there is no terminal.
pub fn summary(report: &Report, look: Look) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write_summary(&mut out, report, look);
    out
}

fn write_summary(out: &mut String, report: &Report, look: Look) -> fmt::Result {
    let Report { accounting, leases, .. } = report;
    if let Some(text) = not_investigated(report) {
        writeln!(out, "{BAD}{text}{BAD:#}")?;
    }
    writeln!(out, "{HEAD}{}{HEAD:#}   {}", report.name, report.question)?;
    let world = match report.world {
        World::Twin => "twin".to_owned(),
        World::Live => format!("live on {}", report.provider),
    };
    let over = match report.alerts_over_s {
        0.0 => "at once".to_owned(),
        s => format!("in {}", Span::from_secs_f64(s)),
    };
    let (finished, shed, unfinished) =
        (grouped(accounting.finished), grouped(accounting.shed), grouped(accounting.unfinished));
    let deduplicated = match accounting.deduplicated {
        0 => String::new(),
        n => format!("{} deduplicated, ", grouped(n)),
    };
    let alerts = grouped(accounting.alerts);
    writeln!(
        out,
        "{DIM}{world} · seed {} · {alerts} alerts {over} · {deduplicated}{finished} finished, \
         {shed} shed, {unfinished} unfinished{DIM:#}",
        report.seed
    )?;
    if report.interrupted {
        let at = Span::from_secs_f64(report.duration_s);
        writeln!(
            out,
            "{BAD}interrupted{BAD:#} after {at}: investigations still running count as unfinished"
        )?;
    }
    for why in &report.invalid {
        writeln!(out, "{BAD}invalid{BAD:#} {why}")?;
    }
    for remark in &report.remarks {
        writeln!(out, "{DIM}remark{DIM:#} {remark}")?;
    }
    writeln!(out)?;
    latencies(out, report)?;
    waits(out, report, look)?;
    if leases.counts.issued > 0 {
        let counts = &leases.counts;
        line(out, "leases", &lease_words(report))?;
        let (mean, max) = (leases.orphan_exposure_mean_s, leases.orphan_exposure_max_s);
        exposure(out, counts.orphaned, mean, max)?;
    }
    let tokens = &report.vault_tokens;
    if tokens.counts.issued > 0 {
        line(out, "vault tokens", &token_words(&tokens.counts))?;
        let (mean, max) = (tokens.orphan_exposure_mean_s, tokens.orphan_exposure_max_s);
        exposure(out, tokens.counts.orphaned, mean, max)?;
    }
    if let Some(share) = report.attribution.share {
        let (entries, identity) = (grouped(report.attribution.entries), report.identity);
        let percent = share * 100.0;
        line(
            out,
            "attribution",
            &format!(
                "{percent:.0} % of {entries} audit entries name one investigation ({identity})"
            ),
        )?;
    }
    outcomes(out, report)?;
    if let Some(audited) = &report.audited {
        audit(out, audited, report.accounting.finished)?;
    }
    bottleneck(out, report)?;
    slos(out, &report.slos)
}

/// How many alerts were not investigated, and why; `None` if all were.
pub(crate) fn not_investigated(report: &Report) -> Option<String> {
    let count = report.not_investigated.total();
    let wanted = report.accounting.wanted();
    let reasons = report.not_investigated.reasons();
    let words = reasons.map(|(why, count)| format!("{} {why}", grouped(count)));
    let words: Vec<String> = words.collect();
    (count > 0).then(|| {
        format!(
            "{} of {} alerts ({}) were not investigated: {}",
            grouped(count),
            grouped(wanted),
            share_words(count as f64 / wanted.max(1) as f64),
            words.join(", ")
        )
    })
}

/// A share (0 to 1) as a percentage with two significant digits below 10 %.
pub(crate) fn share_words(share: f64) -> String {
    match share * 100.0 {
        percent if percent >= 10.0 || percent == 0.0 => format!("{percent:.0} %"),
        percent if percent >= 1.0 => format!("{percent:.1} %"),
        percent => format!("{percent:.2} %"),
    }
}

/// A quantile of a latency; with the share that never arrived if it falls on that.
pub(crate) fn reading(row: &LatencyRow, reading: Option<Reading>) -> String {
    match reading {
        Some(Reading::Never) => format!("never ({})", share_words(row.never())),
        other => of_reading(other),
    }
}

/// A quantile of which the share that never arrived is not known.
pub(crate) fn of_reading(reading: Option<Reading>) -> String {
    reading.map_or_else(|| "–".to_owned(), |reading| reading.to_string())
}

/// The audit of a live run: leases, refusals, attribution and the harness itself.
fn audit(out: &mut String, audited: &Audited, finished: u64) -> fmt::Result {
    let leases = &audited.leases;
    let agrees = if leases.agrees() { "reconciled with" } else { "does not reconcile with" };
    let lost = match leases.lost {
        0 => String::new(),
        n => format!(" · {n} lost by vault"),
    };
    let text = format!(
        "{} in the ledger, {agrees} vault's list and trail · {} alive at the end{lost}",
        grouped(leases.booked),
        leases.alive,
    );
    line(out, "audited", &text)?;
    let tokens = &audited.tokens;
    let agrees = if tokens.agrees() { "reconciled with" } else { "does not reconcile with" };
    let text = format!(
        "{} Vault tokens in the ledger, {agrees} vault's list and trail · {} alive at the end, and \
         revoked by the harness",
        grouped(tokens.booked),
        tokens.alive,
    );
    line(out, "", &text)?;
    let denials = &audited.denials;
    let all = [denials.rbac, denials.vault_policy, denials.database_grant];
    let received: u64 = all.iter().map(|(received, _)| received).sum();
    let found: u64 = all.iter().filter_map(|(_, found)| *found).sum();
    let unread = all.iter().filter(|(_, found)| found.is_none()).count();
    let unread = match unread {
        0 => String::new(),
        n => format!("; {n} of 3 audit trails not readable"),
    };
    let text =
        format!("{received} refusals received, {found} found in the servers' audit trails{unread}");
    line(out, "", &text)?;
    for trail in audited.attribution.iter().filter(|trail| trail.asked > 0) {
        let share = |n: u64| format!("{:.0} %", n as f64 * 100.0 / trail.asked as f64);
        let text = format!(
            "{} {}: attributed to the right investigation {} by identity, {} by the Job's trail",
            grouped(trail.asked),
            trail.what,
            share(trail.by_identity_rightly),
            share(trail.by_job_rightly),
        );
        line(out, "", &text)?;
    }
    let (send, watch) = (Span(audited.send_lag.p99_ns), Span(audited.watch_lag.p99_ns));
    let cpu = Span(audited.harness_cpu_ns / finished.max(1));
    let own = audited.own_watch_lag.p99_ns.min(watch.0);
    let (server, own) = (Span(watch.0 - own), Span(own));
    let probe = match audited.probe_lag.count {
        0 => String::new(),
        _ => format!(" (a probe {})", Span(audited.probe_lag.p99_ns)),
    };
    let text = format!(
        "send lag p99 {send} · watch lag p99 {watch}: API server {server}{probe}, harness {own} · \
         {cpu} of CPU per investigation"
    );
    line(out, "harness", &text)
}

fn line(out: &mut String, name: &str, text: &str) -> fmt::Result {
    writeln!(out, "  {name:<17} {text}")
}

/// How long orphans outlived their investigation, in seconds.
fn exposure(out: &mut String, orphaned: u64, mean: f64, max: f64) -> fmt::Result {
    if orphaned == 0 {
        return Ok(());
    }
    let (mean, max) = (Span::from_secs_f64(mean), Span::from_secs_f64(max));
    line(out, "", &format!("orphans stayed alive {mean} on average, {max} at most"))
}

fn token_words(counts: &TokenCounts) -> String {
    let TokenCounts { issued, revoked, expired, active_peak, orphaned, active, .. } = *counts;
    ledger_words([issued, revoked, expired, active_peak, orphaned], &[("still active", active)])
}

fn lease_words(report: &Report) -> String {
    let counts = &report.leases.counts;
    ledger_words(
        [counts.issued, counts.revoked, counts.expired, counts.active_peak, counts.orphaned],
        &[("irrevocable", counts.irrevocable), ("still active", counts.active)],
    )
}

/// Totals of the ledger that are always printed, and others if they are not 0.
fn ledger_words(
    [issued, revoked, expired, peak, orphaned]: [u64; 5],
    others: &[(&str, u64)],
) -> String {
    let mut words = format!(
        "issued {} · revoked {} · expired {} · at peak {} · orphaned {}",
        grouped(issued),
        grouped(revoked),
        grouped(expired),
        grouped(peak),
        grouped(orphaned)
    );
    for (name, n) in others.iter().filter(|(_, n)| *n > 0) {
        words.push_str(&format!(" · {name} {}", grouped(*n)));
    }
    words
}

fn latencies(out: &mut String, report: &Report) -> fmt::Result {
    for (name, stage) in [
        ("job startup", "pod_running"),
        ("agent ready", "credentials_ready"),
        ("job finished", "job_finished"),
    ] {
        let Some(row) = report.latency(stage).filter(|row| row.attempted > 0) else {
            continue;
        };
        let cell = |of: Option<Reading>| format!("{:<12}", reading(row, of));
        let mut missing = String::new();
        for (n, word) in [(row.failed, "never arrived"), (row.censored, "still running at the end")]
        {
            if n > 0 {
                let _ = write!(missing, "  {} {word}", grouped(n));
            }
        }
        let (p50, p95, p99) = (cell(row.p50_s), cell(row.p95_s), cell(row.p99_s));
        let last = row.last_arrived_s.map(Reading::At);
        let text = format!("p50 {p50} p95 {p95} p99 {p99} last {}", cell(last));
        line(out, name, format!("{}{missing}", text.trim_end()).trim_end())?;
    }
    Ok(())
}

fn waits(out: &mut String, report: &Report, look: Look) -> fmt::Result {
    let path = &report.critical_path;
    let shown = path.iter().filter(|share| share.share >= 0.005).take(SHOWN);
    let rest = &path[shown.clone().count()..];
    let rest_share: f64 = rest.iter().map(|share| share.share).sum();
    let others = format!("{} others", rest.len());
    let names = shown.clone().map(|share| named(share).chars().count()).max();
    let room = look.width.saturating_sub(20 + names.unwrap_or(0) + 6).min(24);
    for (i, share) in shown.enumerate() {
        let word = named(share);
        let name = match i {
            0 => "where it waits",
            _ => "",
        };
        let percent = share.share * 100.0;
        let bar = bar(share.share, room);
        line(out, name, &format!("{word:<0$} {percent:3.0} %  {bar}", names.unwrap_or(0)))?;
    }
    if rest_share >= 0.005 {
        let (percent, bar) = (rest_share * 100.0, bar(rest_share, room));
        line(out, "", &format!("{others:<0$} {percent:3.0} %  {bar}", names.unwrap_or(0)))?;
    }
    Ok(())
}

/// A wait by its cause or, if no counter of real servers shows it, by its gap.
fn named(share: &PathShare) -> &str {
    match (&share.gap, &share.evidence) {
        (Some(gap), None) => gap,
        _ => share.component.word(),
    }
}

/// A bar of eighths of a column.
fn bar(share: f64, room: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (share.clamp(0.0, 1.0) * room as f64 * 8.0) as usize;
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

fn outcomes(out: &mut String, report: &Report) -> fmt::Result {
    let words = report.outcomes.iter().map(|o| format!("{} {}", o.outcome, grouped(o.count)));
    let words: Vec<String> = words.collect();
    if !words.is_empty() {
        line(out, "outcomes", &words.join(" · "))?;
    }
    let actions = &report.actions;
    if actions.writes + actions.denied_writes + actions.denied_reads > 0 {
        let (writes, denied) = (grouped(actions.writes), grouped(actions.denied_writes));
        let reads = grouped(actions.denied_reads);
        let phase = report.phase;
        line(
            out,
            "actions",
            &format!("{writes} writes · refused {denied} writes, {reads} reads ({phase})"),
        )?;
    }
    if report.cost.total_usd > 0.0 {
        let dollars = |usd: Option<f64>| usd.map_or_else(|| "–".into(), |usd| format!("${usd:.2}"));
        let (p50, p99) = (dollars(report.cost.p50_usd), dollars(report.cost.p99_usd));
        let total = report.cost.total_usd;
        line(out, "llm cost", &format!("${total:.2} in all · p50 {p50} · p99 {p99}"))?;
    }
    Ok(())
}

fn bottleneck(out: &mut String, report: &Report) -> fmt::Result {
    let Some(bottleneck) = &report.bottleneck else {
        return Ok(());
    };
    writeln!(out)?;
    let (component, percent) = (bottleneck.component, bottleneck.share * 100.0);
    let (head, what) = match (&bottleneck.gap, &bottleneck.evidence) {
        (Some(gap), None) => ("largest gap", gap.as_str()),
        _ => ("bottleneck", component.word()),
    };
    let path = critical_path(report, &bottleneck.until);
    line(out, head, &format!("{HEAD}{what}{HEAD:#}, {percent:.0} % of the time {path}"))?;
    line(out, "", &bottleneck.detail)?;
    match (&bottleneck.gap, &bottleneck.evidence) {
        (Some(gap), Some(evidence)) => {
            line(out, "", evidence)?;
            line(out, "", &format!("while investigations were between: {gap}"))?;
        }
        (Some(_), None) => {
            line(out, "", &format!("ends with: {component}; no counter shows the cause"))?;
        }
        (None, _) => {}
    }
    match (&bottleneck.tried, &bottleneck.knob) {
        (Some(tried), _) => {
            let knob = tried.knob.rsplit('.').next().unwrap_or(&tried.knob);
            let next = match tried.next {
                Some(next) if next == component => "and it is still the bottleneck".to_owned(),
                Some(next) => format!("and then {next} is next"),
                None => "and then nothing waits".to_owned(),
            };
            let tried_in = match &tried.twin {
                Some(twin) => of_twin(out, twin, component)?,
                None => "tried",
            };
            line(
                out,
                "",
                &format!(
                    "{tried_in}: {knob} {} → {} gives {} p99 {} (was {}), {next}",
                    tried.from,
                    tried.to,
                    tried.latency,
                    of_reading(tried.after_p99_s),
                    of_reading(tried.before_p99_s)
                ),
            )
        }
        (None, Some(knob)) => line(out, "", &format!("the knob that moves it: {knob}")),
        (None, None) if component == Component::Unexplained => {
            line(out, "", "no stage or component accounts for this time")
        }
        (None, None) => line(out, "", "no knob moves it"),
    }
}

/// What the twin of a live run was given, and whether it has the same bottleneck.
fn of_twin(out: &mut String, twin: &TwinOf, live: Component) -> Result<&'static str, fmt::Error> {
    let given = match twin.cores {
        Some(cores) => format!("the twin of this plan, on one machine of {cores} cores,"),
        None => "the twin of this plan".to_owned(),
    };
    let agrees = match twin.bottleneck {
        Some(same) if same == live => "has the same bottleneck".to_owned(),
        Some(other) => format!("has another bottleneck: {other}"),
        None => "has no waits".to_owned(),
    };
    line(out, "", &format!("{given} {agrees}"))?;
    Ok("tried in the twin")
}

/// The critical path that ends with a stage, as a phrase; with the number of investigations if some did
/// not reach the stage.
pub(crate) fn critical_path(report: &Report, until: &str) -> String {
    let path = path_to(until);
    match report.latency(until).filter(|row| row.never() > 0.0) {
        Some(row) => format!("{path}, of {} that arrived", grouped(row.count)),
        None => path,
    }
}

/// The critical path that ends with a stage, as a phrase.
pub(crate) fn path_to(until: &str) -> String {
    match until {
        "credentials_ready" => "from alert to agent ready".to_owned(),
        other => format!("from alert to {}", other.replace('_', " ")),
    }
}

fn slos(out: &mut String, slos: &[SloResult]) -> fmt::Result {
    if slos.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let width = slos.iter().map(|slo| slo.slo.chars().count()).max().unwrap_or(0);
    for slo in slos {
        let (style, mark) = if slo.held { (GOOD, "✓") } else { (BAD, "✗") };
        let (value, margin) = (slo_value(slo), slo_margin(slo));
        let text = format!("{:<width$}   {value:<12} {margin}", slo.slo);
        writeln!(out, "  {style}{mark}{style:#} {}", text.trim_end())?;
    }
    Ok(())
}

fn in_unit(slo: &SloResult, n: f64) -> String {
    match slo.unit.as_str() {
        "s" => Span::from_secs_f64(n.abs()).to_string(),
        "usd" => format!("${:.2}", n.abs()),
        "share" => format!("{:.1} %", n.abs() * 100.0),
        "per_s" => format!("{:.2}/s", n.abs()),
        _ => grouped(n.abs() as u64),
    }
}

/// What was measured for an objective, in its unit.
pub fn slo_value(slo: &SloResult) -> String {
    match slo.value {
        Some(value) => in_unit(slo, value),
        None if slo.not_arrived > 0 => {
            format!("too many never arrived ({})", grouped(slo.not_arrived))
        }
        None => "no data".to_owned(),
    }
}

/// The distance between an objective and its measured value.
pub(crate) fn slo_margin(slo: &SloResult) -> String {
    match slo.margin {
        Some(margin) if margin < 0.0 && slo.slo.contains('>') => {
            format!("{} short", in_unit(slo, margin))
        }
        Some(margin) if margin < 0.0 => format!("{} over", in_unit(slo, margin)),
        Some(margin) if margin > 0.0 => format!("{} to spare", in_unit(slo, margin)),
        _ => String::new(),
    }
}

/// 1234567 as `1,234,567`.
pub(crate) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_bars_are_to_scale() {
        assert_eq!(grouped(1_000_605), "1,000,605");
        assert_eq!(grouped(12), "12");
        assert_eq!(bar(0.5, 8), "████");
        assert_eq!(bar(0.0, 8), "");
    }
}
