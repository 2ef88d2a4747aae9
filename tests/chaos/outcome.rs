//! How a run ended, from its exit code, its report and its standard error; and what is wrong with it.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::place::{ALERTS, Ended};

/// The report of a run; `None` if it has none.
pub fn report(folder: &Path) -> Option<Value> {
    let text = fs::read_to_string(folder.join("report.json")).ok()?;
    Some(serde_json::from_str(&text).expect("JSON"))
}

fn texts(report: &Value, field: &str) -> Vec<String> {
    let all = report[field].as_array().into_iter().flatten();
    all.filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

/// Why a run is invalid. A slow harness is due to the shared machine, and no fault's effect.
pub fn invalid(report: &Value) -> Vec<String> {
    let mut all = texts(report, "invalid");
    all.retain(|why| !why.starts_with("the harness was the bottleneck"));
    all
}

/// All that a run says of itself: remarks, reasons, standard error.
pub fn said(report: Option<&Value>, ended: &Ended) -> String {
    let report = report.map(|report| [texts(report, "remarks"), texts(report, "invalid")].concat());
    format!("{}\n{}", report.unwrap_or_default().join("\n"), ended.stderr)
}

/// The last error on standard error.
pub fn error(ended: &Ended) -> String {
    let line = ended.stderr.lines().rev().find(|line| line.starts_with("error: "));
    line.unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// Every violation of: each alert and each lease is accounted for, and the exit code says so.
pub fn violations(ended: &Ended, report: Option<&Value>) -> Vec<String> {
    let mut wrong = Vec::new();
    if ended.hangs {
        wrong.push(format!("it did not end within {:?}", ended.took));
    }
    if ended.stderr.contains("panicked at") {
        wrong.push("the harness panicked".to_owned());
    }
    if let Some(report) = report {
        wrong.extend(unbalanced(report));
    }
    let reasons = report.map(invalid).unwrap_or_default();
    let slow = report.is_some_and(|report| !texts(report, "invalid").is_empty());
    match (ended.code, report) {
        (Some(0 | 4), Some(report)) if reasons.is_empty() => {
            if ended.code == Some(4) && !slow {
                wrong.push("it is invalid without a reason".to_owned());
            }
            let (accounting, leases) = (&report["accounting"], &report["leases"]);
            if accounting["alerts"] != ALERTS || accounting["unfinished"] != 0 {
                wrong.push(format!("not every alert has ended: {accounting}"));
            }
            if leases["active"] != 0 {
                wrong.push(format!("not every lease has ended: {leases}"));
            }
            if report["interrupted"] != false {
                wrong.push("a complete run is marked as interrupted".to_owned());
            }
        }
        (Some(4), _) => {}
        (Some(3), _) if !error(ended).is_empty() => {}
        (Some(5), Some(report)) if report["interrupted"] == true => {}
        (None, _) => {}
        (code, report) => {
            let interrupted = report.map(|report| &report["interrupted"]);
            wrong.push(format!("exit code {code:?}, interrupted {interrupted:?}, {reasons:?}"));
        }
    }
    wrong
}

/// Sums of a report that do not balance.
pub fn unbalanced(report: &Value) -> Vec<String> {
    let sum = |of: &Value, parts: &[&str]| -> u64 {
        parts.iter().map(|part| of[part].as_u64().expect("a count")).sum()
    };
    let (accounting, leases) = (&report["accounting"], &report["leases"]);
    let mut wrong = Vec::new();
    let ends = ["deduplicated", "shed", "finished", "unfinished"];
    if accounting["alerts"].as_u64() != Some(sum(accounting, &ends)) {
        wrong.push(format!("alerts do not balance: {accounting}"));
    }
    let ends = ["active", "revoked", "expired", "irrevocable"];
    if leases["issued"].as_u64() != Some(sum(leases, &ends)) {
        wrong.push(format!("leases do not balance: {leases}"));
    }
    wrong
}

/// What the fault cost, for the table.
pub fn lost(report: Option<&Value>) -> String {
    let Some(report) = report else { return "no report".to_owned() };
    let mut lost = Vec::new();
    let count = |of: &Value| of.as_u64().unwrap_or(0);
    for outcome in report["outcomes"].as_array().into_iter().flatten() {
        let name = outcome["outcome"].as_str().unwrap_or_default();
        if !matches!(name, "resolved" | "inconclusive" | "escalated")
            && count(&outcome["count"]) > 0
        {
            lost.push(format!("{} {name}", count(&outcome["count"])));
        }
    }
    let (accounting, leases) = (&report["accounting"], &report["leases"]);
    for (what, number) in [
        ("alerts unfinished", count(&accounting["unfinished"])),
        ("leases orphaned", count(&leases["orphaned"])),
        ("leases irrevocable", count(&leases["irrevocable"])),
        ("leases active", count(&leases["active"])),
    ] {
        if number > 0 {
            lost.push(format!("{number} {what}"));
        }
    }
    if lost.is_empty() { "nothing".to_owned() } else { lost.join(", ") }
}
