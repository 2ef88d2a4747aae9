//! The knobs that differ between two scenarios.

use std::fmt;

use serde_json::Value;

/// A knob that differs.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Path of the knob in the scenario.
    pub path: String,
    /// Value in the first scenario; `None` if it is not set.
    pub before: Option<Value>,
    /// Value in the second scenario; `None` if it is not set.
    pub after: Option<Value>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<Value>| match value {
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => "not set".to_owned(),
        };
        write!(f, "{} {} → {}", self.path, shown(&self.before), shown(&self.after))
    }
}

/// All knobs that differ, in the order of their paths.
pub fn between(before: &Value, after: &Value) -> Vec<Difference> {
    let mut all = Vec::new();
    compare("", Some(before), Some(after), &mut all);
    all.sort_by(|a, b| a.path.cmp(&b.path));
    all
}

fn compare(path: &str, before: Option<&Value>, after: Option<&Value>, all: &mut Vec<Difference>) {
    let under = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match (before, after) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
            keys.sort();
            keys.dedup();
            keys.into_iter().for_each(|key| compare(&under(key), a.get(key), b.get(key), all));
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            for i in 0..a.len().max(b.len()) {
                compare(&under(&i.to_string()), a.get(i), b.get(i), all);
            }
        }
        (a, b) if a.filter(|v| !v.is_null()) == b.filter(|v| !v.is_null()) => {}
        (before, after) => all.push(Difference {
            path: path.to_owned(),
            before: before.cloned(),
            after: after.cloned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_knob_that_differs_is_named_with_both_values() {
        let a = json!({"seed": 1, "alerts": [{"flood": 3, "over": null}], "phase": "shadow"});
        let b = json!({"seed": 1, "alerts": [{"flood": 4}, {"flood": 1}], "phase": "shadow"});
        let printed: Vec<String> = between(&a, &b).iter().map(ToString::to_string).collect();
        assert_eq!(printed, ["alerts.0.flood 3 → 4", "alerts.1 not set → {\"flood\":1}"]);
    }
}
