//! What a run's report accounts for, and what is wrong with it.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::place::{ALERTS, Ended};

/// The report of a run; `None` if it has none.
pub fn report(folder: &Path) -> Option<Value> {
    let text = fs::read_to_string(folder.join("report.json")).ok()?;
    Some(serde_json::from_str(&text).expect("JSON"))
}

/// The texts of a list of the report.
pub fn texts(report: &Value, field: &str) -> Vec<String> {
    let all = report[field].as_array().into_iter().flatten();
    all.filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

/// Why a run is invalid. A slow harness is due to the shared machine, and no fault's effect.
pub fn invalid(report: &Value) -> Vec<String> {
    let mut all = texts(report, "invalid");
    all.retain(|why| !why.starts_with("the harness was the bottleneck"));
    all
}

/// The last error on standard error.
pub fn error(ended: &Ended) -> String {
    let line = ended.stderr.lines().rev().find(|line| line.starts_with("error: "));
    line.unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// Every violation of: a run ends by itself, and its report accounts for each alert, lease and token.
pub fn violations(ended: &Ended, report: Option<&Value>) -> Vec<String> {
    let mut wrong = Vec::new();
    if ended.hangs {
        wrong.push(format!("it did not end within {:?}", ended.took));
    }
    if ended.stderr.contains("panicked at") {
        wrong.push("the harness panicked".to_owned());
    }
    let Some(report) = report else { return wrong };
    wrong.extend(unbalanced(report));
    let is_complete = report["interrupted"] == false && invalid(report).is_empty();
    if !is_complete {
        return wrong;
    }
    let accounting = &report["accounting"];
    if accounting["alerts"] != ALERTS || accounting["unfinished"] != 0 {
        wrong.push(format!("not every alert has ended: {accounting}"));
    }
    for (what, of) in [("lease", &report["leases"]), ("token", &report["vault_tokens"])] {
        if of["active"] != 0 {
            wrong.push(format!("not every {what} has ended: {of}"));
        }
    }
    if report["vault_tokens"]["issued"] == 0 {
        wrong.push("no agent logged in".to_owned());
    }
    wrong
}

/// Sums of a report that do not balance.
pub fn unbalanced(report: &Value) -> Vec<String> {
    let sum = |of: &Value, parts: &[&str]| -> u64 {
        parts.iter().map(|part| of[part].as_u64().expect("a count")).sum()
    };
    let mut wrong = Vec::new();
    for (what, whole, ends) in [
        ("accounting", "alerts", &["deduplicated", "shed", "finished", "unfinished"][..]),
        ("leases", "issued", &["active", "revoked", "expired", "irrevocable"]),
        ("vault_tokens", "issued", &["active", "revoked", "expired"]),
    ] {
        let of = &report[what];
        if of[whole].as_u64() != Some(sum(of, ends)) {
            wrong.push(format!("{what} does not balance: {of}"));
        }
    }
    // A token or a lease of an investigation that has ended is an orphan, and one of those issued.
    for what in ["leases", "vault_tokens"] {
        let of = &report[what];
        if of["orphaned"].as_u64() > of["issued"].as_u64() {
            wrong.push(format!("more orphans than {what}: {of}"));
        }
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
    let tokens = &report["vault_tokens"];
    for (what, number) in [
        ("alerts unfinished", count(&accounting["unfinished"])),
        ("leases orphaned", count(&leases["orphaned"])),
        ("leases irrevocable", count(&leases["irrevocable"])),
        ("leases active", count(&leases["active"])),
        ("tokens orphaned", count(&tokens["orphaned"])),
        ("tokens active", count(&tokens["active"])),
    ] {
        if number > 0 {
            lost.push(format!("{number} {what}"));
        }
    }
    if lost.is_empty() { "nothing".to_owned() } else { lost.join(", ") }
}
