//! Logs of Alertmanager's webhook: JSON Lines, one message of version 4 per line. Unknown fields are
//! ignored, because newer versions of Alertmanager add some.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

use crate::digest;
use crate::input::{JsonLine, Place, Problem, Text, json_lines};
use crate::investigation::{Domain, Severity};
use crate::time::Span;

/// A recorded alert that was firing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Time since the first alert of the log, divided by `speed`.
    pub after: Span,
    /// The label `domain`; `None` if it is missing or no domain.
    pub domain: Option<Domain>,
    /// The label `severity`, or a common alias such as `warning`; `None` if it is missing or unknown.
    pub severity: Option<Severity>,
    /// Alertmanager's fingerprint; a hash of the labels if the log has none.
    pub fingerprint: u64,
}

#[derive(Deserialize)]
struct Message {
    version: String,
    alerts: Vec<One>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct One {
    status: String,
    labels: BTreeMap<String, String>,
    starts_at: String,
    #[serde(default)]
    fingerprint: String,
}

/// Reads a log, to be replayed `speed` times faster than recorded. Resolved alerts are left out.
/// `source` is the file name in problems.
///
/// # Errors
/// All lines that are not a message of version 4; a log without a firing alert.
pub fn read(text: &str, source: &str, speed: f64) -> Result<Vec<Recorded>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut found: Vec<(Timestamp, One)> = Vec::new();
    for line in json_lines(&Text::new(text)) {
        match message(line) {
            Ok(alerts) => found.extend(alerts),
            Err((place, message)) => {
                let (source, place) = (source.to_owned(), Some(place));
                problems.push(Problem { source, place, message, help: None });
            }
        }
    }
    found.retain(|(_, alert)| alert.status == "firing");
    found.sort_by_key(|(at, _)| *at);
    if found.is_empty() && problems.is_empty() {
        let message = "expected at least one firing alert".to_owned();
        problems.push(Problem { source: source.into(), place: None, message, help: None });
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let first = found[0].0.as_nanosecond();
    let recorded = |(at, alert): &(Timestamp, One)| Recorded {
        after: Span::from_secs_f64((at.as_nanosecond() - first) as f64 / 1e9 / speed),
        domain: alert.labels.get("domain").and_then(|label| label.parse().ok()),
        severity: alert.labels.get("severity").and_then(|label| severity(label)),
        fingerprint: fingerprint(alert),
    };
    Ok(found.iter().map(recorded).collect())
}

fn message(line: JsonLine<'_>) -> Result<Vec<(Timestamp, One)>, (Place, String)> {
    let message: Message = line.parse().map_err(|(place, what)| {
        (place, format!("not a message of Alertmanager's webhook: {what}"))
    })?;
    if message.version != "4" {
        let found = message.version;
        let wrong = format!("expected version \"4\" of the webhook, found \"{found}\"");
        return Err((line.place(0), wrong));
    }
    let timed = |alert: One| match alert.starts_at.parse::<Timestamp>() {
        Ok(at) => Ok((at, alert)),
        Err(_) => {
            let found = &alert.starts_at;
            let at = line.place(line.as_str().find(found.as_str()).unwrap_or(0));
            Err((at, format!("expected `startsAt` as RFC 3339 writes it, found `{found}`")))
        }
    };
    message.alerts.into_iter().map(timed).collect()
}

/// A severity by its name or by a common alias.
fn severity(label: &str) -> Option<Severity> {
    match label {
        "page" | "error" => Some(Severity::High),
        "warning" => Some(Severity::Medium),
        "info" | "none" => Some(Severity::Low),
        other => other.parse().ok(),
    }
}

fn fingerprint(alert: &One) -> u64 {
    u64::from_str_radix(&alert.fingerprint, 16).unwrap_or_else(|_| {
        let labels = format!("{:?}{}", alert.labels, alert.fingerprint);
        u64::from_str_radix(&digest::of_text(&labels), 16).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"version":"4","groupKey":"{}","status":"firing","alerts":[
        {"status":"firing","labels":{"alertname":"A","domain":"database","severity":"warning"},
         "annotations":{},"startsAt":"2026-05-01T02:00:00Z","endsAt":"0001-01-01T00:00:00Z",
         "generatorURL":"","fingerprint":"00000000000000ff"},
        {"status":"firing","labels":{"alertname":"B"},"annotations":{},
         "startsAt":"2026-05-01T02:00:30Z","fingerprint":"0000000000000001"}]}"#;

    #[test]
    fn a_log_is_replayed_at_its_speed() {
        let line = LINE.replace('\n', " ");
        let read = read(&line, "log", 10.0).unwrap();
        assert_eq!(read[0].domain, Some(Domain::Database));
        assert_eq!(read[0].severity, Some(Severity::Medium));
        assert_eq!(read[0].fingerprint, 255);
        assert_eq!(read[1].after, Span::secs(3));
    }

    #[test]
    fn every_wrong_line_is_named_with_its_column() {
        let wrong = "{\"version\":\"3\",\"alerts\":[]}\nnonsense\n";
        let problems = read(wrong, "log.jsonl", 1.0).unwrap_err();
        let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(shown.len(), 2, "{shown:?}");
        assert!(shown[0].starts_with("log.jsonl:1:1: expected version \"4\""), "{shown:?}");
        assert!(shown[1].starts_with("log.jsonl:2:2: not a message"), "{shown:?}");
    }
}
