//! Reads `report.json` of version 1. Its quantiles were over the investigations that reached a stage,
//! and shed alerts were not attempted.

use serde_json::{Value, json};

use crate::report::SCHEMA;

/// The text of a report of version 1 as one of version 2; `None` for another text. A quantile that
/// cannot be derived, because some investigations never reached the stage, is left out.
pub fn upgraded(text: &str) -> Option<String> {
    let mut report: Value = serde_json::from_str(text).ok()?;
    if report["schema"] != "alertstorm/report/v1" {
        return None;
    }
    report["schema"] = json!(SCHEMA);
    let shed = report["accounting"]["shed"].as_u64().unwrap_or(0);
    for row in report["latencies"].as_array_mut()? {
        upgrade_row(row, shed);
    }
    // The curves of those that arrived are none of all.
    let complete = |curve: &Value| {
        let name = curve[0].as_str().unwrap_or_default();
        let stage = match name {
            "job startup" => "pod_running",
            "agent ready" => "credentials_ready",
            _ => "job_finished",
        };
        let rows = report["latencies"].as_array().into_iter().flatten();
        rows.clone().any(|row| {
            row["from"] == "alert" && row["to"] == stage && row["count"] == row["attempted"]
        })
    };
    let curves = report["curves"].as_array()?.iter().filter(|curve| complete(curve)).cloned();
    report["curves"] = curves.collect();
    Some(report.to_string())
}

fn upgrade_row(row: &mut Value, shed: u64) {
    let of = |row: &Value, field: &str| row[field].as_u64().unwrap_or(0);
    if row["from"] == "alert" {
        row["failed"] = json!(of(row, "failed") + shed);
        row["attempted"] = json!(of(row, "attempted") + shed);
    }
    row["mean_arrived_s"] = row["mean_s"].take();
    row["last_arrived_s"] = row["max_s"].clone();
    let (count, attempted) = (of(row, "count"), of(row, "attempted"));
    if count == attempted {
        return;
    }
    for (field, q) in [("p50_s", 0.5), ("p95_s", 0.95), ("p99_s", 0.99), ("max_s", 1.0)] {
        let rank = (q * attempted as f64).ceil() as u64;
        row[field] = if rank > count { json!("never") } else { Value::Null };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_that_fell_on_what_never_arrived_was_one_of_the_others() {
        let row = |from: &str, count: u64| {
            json!({"from": from, "to": "pod_running", "count": count, "attempted": 100,
                   "failed": 100 - count, "censored": 0, "mean_s": 2.0, "p50_s": 1.0, "p95_s": 3.0,
                   "p99_s": 4.0, "max_s": 5.0})
        };
        let old = json!({
            "schema": "alertstorm/report/v1", "accounting": {"shed": 4},
            "latencies": [row("alert", 100), row("pod_created", 100), row("pod_created", 97)],
            "curves": [["job startup", [1.0]]],
        });
        let new: Value = serde_json::from_str(&upgraded(&old.to_string()).unwrap()).unwrap();
        let [alert, whole, partly] = [0, 1, 2].map(|n| new["latencies"][n].clone());
        assert_eq!((&alert["attempted"], &alert["failed"]), (&json!(104), &json!(4)));
        assert_eq!([&alert["p95_s"], &alert["p99_s"]], [&Value::Null, &json!("never")]);
        assert_eq!([&whole["p99_s"], &whole["max_s"]], [&json!(4.0), &json!(5.0)]);
        assert_eq!([&partly["p95_s"], &partly["max_s"]], [&Value::Null, &json!("never")]);
        assert_eq!(
            [&partly["mean_arrived_s"], &partly["last_arrived_s"]],
            [&json!(2.0), &json!(5.0)]
        );
        assert_eq!(new["curves"], json!([]));
        assert_eq!(upgraded(&new.to_string()), None);
    }
}
