//! Reads `report.json` of version 1. Its quantiles were over the investigations that reached a stage,
//! and shed alerts were not attempted.

use serde_json::{Map, Value, json};

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
    let of = |wanted: &str| {
        let outcomes = report["outcomes"].as_array().into_iter().flatten();
        outcomes
            .filter(|of| of["outcome"] == wanted)
            .filter_map(|of| of["count"].as_u64())
            .sum::<u64>()
    };
    let (without_vault, evicted) = (of("vault_unavailable"), of("evicted"));
    // Which Jobs ended before their agents ran is not in it.
    report["not_investigated"] = json!({
        "shed": shed, "unfinished": report["accounting"]["unfinished"].as_u64().unwrap_or(0),
        "without_vault": without_vault, "evicted": evicted, "never_started": 0,
    });
    for row in report["latencies"].as_array_mut()? {
        // Those without Vault counted as if they had not needed it.
        upgrade_row(row.as_object_mut()?, shed, without_vault > 0);
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
            row["from"] == "alert"
                && row["to"] == stage
                && row["count"] == row["attempted"]
                && !row["p50_s"].is_null()
        })
    };
    let curves = report["curves"].as_array()?.iter().filter(|curve| complete(curve)).cloned();
    report["curves"] = curves.collect();
    Some(report.to_string())
}

fn upgrade_row(row: &mut Map<String, Value>, shed: u64, without_vault: bool) {
    let of = |row: &Map<String, Value>, field: &str| row.get(field).and_then(Value::as_u64);
    if row.get("from").is_some_and(|from| from == "alert") {
        for field in ["failed", "attempted"] {
            let all = of(row, field).unwrap_or(0).saturating_add(shed);
            row.insert(field.to_owned(), all.into());
        }
    }
    let mean = row.remove("mean_s").unwrap_or_default();
    row.insert("mean_arrived_s".to_owned(), mean);
    let last = row.get("max_s").cloned().unwrap_or_default();
    row.insert("last_arrived_s".to_owned(), last);
    let (count, attempted) = (of(row, "count").unwrap_or(0), of(row, "attempted").unwrap_or(0));
    let to = row.get("to").and_then(Value::as_str).unwrap_or_default();
    let of_vault = ["vault_login", "credentials_ready", "leases_released"].contains(&to);
    let incomplete = of_vault && without_vault;
    if count == attempted && !incomplete {
        return;
    }
    for (field, q) in [("p50_s", 0.5), ("p95_s", 0.95), ("p99_s", 0.99), ("max_s", 1.0)] {
        let rank = (q * attempted as f64).ceil() as u64;
        let known = if rank > count { json!("never") } else { Value::Null };
        row.insert(field.to_owned(), known);
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

    #[test]
    fn a_quantile_of_vaults_stages_is_left_out_if_some_had_no_vault() {
        let row = json!({"from": "alert", "to": "credentials_ready", "count": 15, "attempted": 15,
                         "failed": 0, "censored": 0, "p50_s": 1.0, "p99_s": 2.0, "max_s": 2.0});
        let old = json!({
            "schema": "alertstorm/report/v1", "accounting": {}, "latencies": [row],
            "outcomes": [{"outcome": "vault_unavailable", "count": 285}],
            "curves": [["agent ready", [1.0]]],
        });
        let new: Value = serde_json::from_str(&upgraded(&old.to_string()).unwrap()).unwrap();
        assert_eq!((&new["latencies"][0]["p99_s"], &new["curves"]), (&Value::Null, &json!([])));
        // What is no report is left to the reader, which says what is wrong.
        let wrong = json!({"schema": "alertstorm/report/v1", "latencies": [1], "curves": []});
        assert_eq!(upgraded(&wrong.to_string()), None);
    }
}
