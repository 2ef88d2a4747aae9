//! The committed schemas match the types, and everything shipped is valid by them.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use alertstorm_analysis::measure::Measures;
use alertstorm_reports::{Report, schema};
use common::{root, run, shipped};
use serde_json::Value;

fn committed(name: &str) -> Value {
    let path = root().join("reports/schema").join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    serde_json::from_str(&text).expect("JSON")
}

fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("one").path());
    entries.filter(|path| path.extension().is_some_and(|ending| ending == "yaml")).collect()
}

#[track_caller]
fn assert_valid(schema: &Value, value: &Value, what: &str) {
    let validator = jsonschema::validator_for(schema).expect("a valid schema");
    let errors: Vec<String> = validator
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{what}\n{}", errors.join("\n"));
}

#[test]
fn committed_schemas_match_the_types() {
    for (name, text) in schema::all() {
        let generated: Value = serde_json::from_str(&text).expect("JSON");
        assert!(generated == committed(name), "{name} is out of date; run `alertstorm schema`");
    }
}

#[test]
fn shipped_scenarios_profiles_and_policies_are_valid_by_their_schemas() {
    for (folder, name) in [
        ("scenarios", "scenario.v1.json"),
        ("benches/gate-noise", "scenario.v1.json"),
        ("scenarios/profiles", "profiles.v1.json"),
        ("scenarios/promotion", "policy.v1.json"),
    ] {
        let schema = committed(name);
        for path in yaml_files(&root().join(folder)) {
            let text = fs::read_to_string(&path).expect("a file");
            let value: Value = serde_saphyr::from_str(&text).expect("YAML");
            assert_valid(&schema, &value, &path.display().to_string());
        }
    }
}

#[test]
fn the_committed_baseline_is_valid_by_its_schema() {
    let path = root().join("reports/baselines/two-am-flood.json");
    let text = fs::read_to_string(path).expect("a baseline");
    let value: Value = serde_json::from_str(&text).expect("JSON");
    assert_valid(&committed("baseline.v1.json"), &value, "the baseline");
}

#[test]
fn malformed_fields_are_invalid_by_the_schema() {
    let schema = committed("scenario.v1.json");
    let validator = jsonschema::validator_for(&schema).expect("a valid schema");
    for name in
        ["unknown-field", "bare-duration", "phase-typo", "zero-nodes", "slo-metric", "no-alerts"]
    {
        let path = root().join("tests/malformed").join(format!("{name}.yaml"));
        let text = fs::read_to_string(&path).expect("a file");
        let value: Value = serde_saphyr::from_str(&text).expect("YAML");
        assert!(!validator.is_valid(&value), "{name} passes the schema");
    }
}

#[test]
fn a_report_is_valid_by_its_schema_and_can_be_read_back() {
    let plan = shipped("vault-outage.yaml", &[]);
    let mut measures = Measures::default();
    run(&plan, &mut measures);
    measures.close();
    let report = Report::new(&plan, &measures, 0.0);
    let value = serde_json::to_value(&report).expect("JSON");
    assert_valid(&committed("report.v2.json"), &value, "report.json");
    let back: Report = serde_json::from_value(value.clone()).expect("a report");
    assert_eq!(serde_json::to_value(&back).expect("JSON"), value);
}
