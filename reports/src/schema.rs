//! The JSON schemas that are committed beside the code: `reports/schema/`.

use alertstorm_model::agent::Profiles;
use alertstorm_model::scenario::Scenario;
use alertstorm_model::verdict::promotion::Policy;
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::Value;

use crate::capacity::Capacity;
use crate::promotion::{Backtest, Promotion};
use crate::report::Report;
use crate::spread::SeedSpread;

/// Every schema: its file, and its text as it is committed.
pub fn all() -> Vec<(&'static str, String)> {
    vec![
        ("scenario.v1.json", of::<Scenario>()),
        ("profiles.v1.json", of::<Profiles>()),
        ("report.v1.json", of::<Report>()),
        ("spread.v1.json", of::<SeedSpread>()),
        ("capacity.v1.json", of::<Capacity>()),
        ("policy.v1.json", of::<Policy>()),
        ("promotion.v1.json", of::<Promotion>()),
        ("backtest.v1.json", of::<Backtest>()),
    ]
}

fn of<T: JsonSchema>() -> String {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let schema = generator.into_root_schema_for::<T>();
    let mut text = serde_json::to_string_pretty(&sorted(schema.into())).unwrap_or_default();
    text.push('\n');
    text
}

/// Keys in their order, whether or not another crate of the build has asked serde_json to keep the
/// order in which they came.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(String, Value)> = map.into_iter().collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            entries.into_iter().map(|(key, value)| (key, sorted(value))).collect()
        }
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        scalar => scalar,
    }
}
