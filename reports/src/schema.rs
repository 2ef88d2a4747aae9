//! The JSON schemas, committed in `reports/schema/`.

use alertstorm_analysis::verdict::promotion::Policy;
use alertstorm_model::agent::Profiles;
use alertstorm_model::digest::canonical;
use alertstorm_model::scenario::Scenario;
use schemars::{JsonSchema, generate::SchemaSettings};

use crate::capacity::Capacity;
use crate::effects::Comparison;
use crate::gate::{Baseline, Gate};
use crate::promotion::{Backtest, Promotion};
use crate::report::Report;
use crate::spread::SeedSpread;

/// All schemas: file name and text, as committed.
pub fn all() -> Vec<(&'static str, String)> {
    vec![
        ("scenario.v1.json", of::<Scenario>()),
        ("profiles.v1.json", of::<Profiles>()),
        ("report.v2.json", of::<Report>()),
        ("spread.v2.json", of::<SeedSpread>()),
        ("capacity.v1.json", of::<Capacity>()),
        ("baseline.v1.json", of::<Baseline>()),
        ("gate.v2.json", of::<Gate>()),
        ("compare.v2.json", of::<Comparison>()),
        ("policy.v1.json", of::<Policy>()),
        ("promotion.v1.json", of::<Promotion>()),
        ("backtest.v1.json", of::<Backtest>()),
    ]
}

fn of<T: JsonSchema>() -> String {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let schema = generator.into_root_schema_for::<T>();
    let mut text = serde_json::to_string_pretty(&canonical(schema.into())).unwrap_or_default();
    text.push('\n');
    text
}
