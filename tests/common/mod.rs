//! Shared by the tests: scenarios from text or from the repository, and a run of one.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use alertstorm_analysis::measure::Measures;
use alertstorm_model::event::{Event, Sink};
use alertstorm_model::scenario::{self, Files, Override, Plan};

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

struct Beside(PathBuf);

impl Files for Beside {
    fn read(&self, name: &str) -> Result<String, String> {
        let here = self.0.join(name);
        let own = root().join("tests/conformance").join(name);
        let path = if here.exists() { here } else { own };
        std::fs::read_to_string(path).map_err(|error| error.to_string())
    }
}

/// A plan from a text. Files that it names are taken from `scenarios/` or else from
/// `tests/conformance/`.
pub fn plan(text: &str, set: &[(&str, &str)]) -> Plan {
    let set: Vec<Override> = set
        .iter()
        .map(|(path, value)| Override { path: (*path).to_owned(), value: (*value).to_owned() })
        .collect();
    let files = Beside(root().join("scenarios"));
    match scenario::load(text, "test.yaml", &set, &files) {
        Ok(plan) => plan,
        Err(problems) => panic!("{problems:#?}\n{text}"),
    }
}

/// A shipped scenario.
pub fn shipped(name: &str, set: &[(&str, &str)]) -> Plan {
    let path = root().join("scenarios").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    plan(&text, set)
}

/// The measures of a plan's run; panics if the run is invalid.
pub fn measure(plan: &Plan) -> Measures {
    let mut measures = Measures::default();
    run(plan, &mut measures);
    measures.close();
    assert_eq!(measures.invalid, Vec::<String>::new());
    measures
}

/// Runs a plan; its events go to `sink`.
pub fn run(plan: &Plan, sink: &mut dyn Sink) {
    alertstorm_twin::run(plan, sink, &mut |_| ControlFlow::Continue(()));
}

/// Every event of a run.
pub fn events(plan: &Plan) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    run(plan, &mut events);
    events
}
