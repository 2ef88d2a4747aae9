//! The folder of a run: `NAME-SEED-N/` with the plan, the event log as it is written, and the
//! reports. What was measured is never lost: the log is on disk before the report is made of it.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use alertstorm_analysis::measure::Measures;
use alertstorm_model::event::{Event, Fact, Sink};
use alertstorm_model::input::Text;
use alertstorm_model::scenario::raw::Agents;
use alertstorm_model::scenario::{Plan, Scenario};
use alertstorm_reports::{Report, SCHEMA};
use anyhow::{Context, Result, bail};

use crate::exit::WrongInput;

/// The scenario as it was run, with every default written out.
pub const SCENARIO: &str = "scenario.yaml";
/// The files that the scenario names.
const INPUTS: &str = "inputs";
/// The event log.
pub const EVENTS: &str = "events.jsonl";
/// The report for scripts.
pub const REPORT: &str = "report.json";
/// The report for people.
pub const PAGE: &str = "report.html";

/// Makes `base/NAME-N` for the least N that is free.
///
/// # Errors
/// Where the folder cannot be made.
pub fn create(base: &Path, name: &str) -> Result<PathBuf> {
    fs::create_dir_all(base).with_context(|| format!("could not make {}", base.display()))?;
    for n in 1_u32.. {
        let path = base.join(format!("{name}-{n}"));
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(error).with_context(|| format!("could not make {}", path.display()));
            }
        }
    }
    bail!("no number is free below {}", base.display())
}

/// Writes events as they happen. The first failure is kept and told at the end.
#[derive(Debug)]
pub struct EventLog {
    file: BufWriter<File>,
    failed: Option<io::Error>,
}

impl EventLog {
    /// Begins the log of a run.
    ///
    /// # Errors
    /// Where the file cannot be made.
    pub fn create(folder: &Path) -> Result<Self> {
        let path = folder.join(EVENTS);
        let file =
            File::create(&path).with_context(|| format!("could not make {}", path.display()))?;
        Ok(Self { file: BufWriter::with_capacity(1 << 16, file), failed: None })
    }

    /// Ends the log.
    ///
    /// # Errors
    /// The first failure to write it.
    pub fn finish(mut self) -> Result<()> {
        match self.failed.take() {
            Some(error) => Err(error).context("could not write the event log"),
            None => self.file.flush().context("could not write the event log"),
        }
    }
}

impl Sink for EventLog {
    fn take(&mut self, event: &Event) {
        if self.failed.is_some() {
            return;
        }
        let line = serde_json::to_writer(&mut self.file, event).map_err(io::Error::from);
        let written = line.and_then(|()| self.file.write_all(b"\n"));
        self.failed = written.err();
    }

    fn flush(&mut self) {
        if self.failed.is_none() {
            self.failed = self.file.flush().err();
        }
    }
}

/// The events of a live run, which become known late, in the order of their instants.
#[derive(Default)]
struct InOrder {
    /// Whether the log is a live run's: that is its first fact. A twin's log is in order.
    live: Option<bool>,
    events: Vec<Event>,
}

impl InOrder {
    fn take(&mut self, event: Event, sink: &mut dyn Sink) {
        let live = *self.live.get_or_insert(matches!(event.fact, Fact::Began { .. }));
        if live { self.events.push(event) } else { sink.take(&event) }
    }

    fn end(mut self, sink: &mut dyn Sink) {
        self.events.sort_by_key(|event| event.at);
        self.events.iter().for_each(|event| sink.take(event));
    }
}

/// Reads a log. A last line that was cut off is left out; it returns whether one was.
///
/// # Errors
/// Where the file cannot be read; [`WrongInput`] where a line in its middle is no event.
pub fn read_events(folder: &Path, sink: &mut dyn Sink) -> Result<bool> {
    let path = folder.join(EVENTS);
    let file = File::open(&path).with_context(|| format!("could not read {}", path.display()))?;
    let mut in_order = InOrder::default();
    let mut cut_off: Option<(usize, serde_json::Error)> = None;
    for (number, line) in BufReader::new(file).lines().enumerate() {
        let line = line.with_context(|| format!("could not read {}", path.display()))?;
        if let Some((number, error)) = cut_off {
            let source = format!("{}:{number}", path.display());
            return Err(WrongInput::of(&source, format!("not an event: {error}")));
        }
        match serde_json::from_str::<Event>(Text::new(&line).as_str()) {
            Ok(event) => in_order.take(event, sink),
            Err(error) => cut_off = Some((number + 1, error)),
        }
    }
    in_order.end(sink);
    Ok(cut_off.is_some())
}

/// Reads the report of a run, where it has one.
///
/// # Errors
/// [`WrongInput`] where it is no report of this version.
pub fn read_report(folder: &Path) -> Result<Option<Report>> {
    let path = folder.join(REPORT);
    if !path.is_file() {
        return Ok(None);
    }
    let name = path.display().to_string();
    let text = fs::read_to_string(&path).with_context(|| format!("could not read {name}"))?;
    let value: serde_json::Value = serde_json::from_str(Text::new(&text).as_str())
        .map_err(|error| WrongInput::of(&name, format!("not JSON: {error}")))?;
    if value["schema"] != SCHEMA {
        let message = format!("expected `schema` {SCHEMA}, found {}", value["schema"]);
        return Err(WrongInput::of(&name, message));
    }
    let report = serde_json::from_value(value)
        .map_err(|error| WrongInput::of(&name, format!("not a report: {error}")))?;
    Ok(Some(report))
}

/// Writes a file whole: beside its place first, so that nobody sees half of it.
///
/// # Errors
/// Where it cannot be written.
pub fn write(path: &Path, text: &str) -> Result<()> {
    let beside = path.with_extension("partial");
    fs::write(&beside, text)
        .and_then(|()| fs::rename(&beside, path))
        .with_context(|| format!("could not write {}", path.display()))
}

/// What a run is made of: the scenario with every default, and the files that it names, each by its
/// path in the run's folder; with them the run can be made or reported again by itself.
///
/// # Errors
/// Where the scenario cannot be written as YAML.
pub fn inputs(plan: &Plan, files: &[(String, String)]) -> Result<Vec<(String, String)>> {
    let mut scenario = plan.scenario.clone();
    let inside = |name: &str| {
        let known = files.iter().any(|(read, _)| read == name);
        known.then(|| format!("{INPUTS}/{}", name.replace(['/', '\\', ':'], "-")))
    };
    match &mut scenario.agents {
        Agents::Profiles(name) | Agents::Traces { traces: name } => {
            *name = inside(name).unwrap_or_else(|| name.clone());
        }
    }
    for name in scenario.alerts.iter_mut().filter_map(|alerts| alerts.replay.as_mut()) {
        *name = inside(name).unwrap_or_else(|| name.clone());
    }
    let mut all = vec![(SCENARIO.to_owned(), resolved(&scenario, &plan.digest)?)];
    let named = files.iter().filter_map(|(name, text)| Some((inside(name)?, text.clone())));
    all.extend(named);
    Ok(all)
}

/// Writes what the run was made of, so that the folder can be moved.
///
/// # Errors
/// Where it cannot be written.
pub fn write_inputs(folder: &Path, plan: &Plan, files: &[(String, String)]) -> Result<()> {
    for (name, text) in inputs(plan, files)? {
        let path = folder.join(name);
        if let Some(within) = path.parent() {
            let why = || format!("could not make {}", within.display());
            fs::create_dir_all(within).with_context(why)?;
        }
        write(&path, &text)?;
    }
    Ok(())
}

/// The scenario with every default, in its own format: it can be run again as it is.
///
/// # Errors
/// Where it cannot be written as YAML.
pub fn resolved(scenario: &Scenario, digest: &str) -> Result<String> {
    // By way of JSON values, which leaves out what is not set.
    let mut value = serde_json::to_value(scenario)?;
    drop_nulls(&mut value);
    let yaml = serde_saphyr::to_string(&value).context("could not write the scenario as YAML")?;
    Ok(format!("# plan {digest}\n{yaml}"))
}

fn drop_nulls(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// What a run's event log comes to.
///
/// # Errors
/// As [`read_events`].
pub fn read_measures(folder: &Path) -> Result<Measures> {
    let mut measures = Measures::default();
    read_events(folder, &mut measures)?;
    measures.close();
    Ok(measures)
}

/// Reads the report of what must be a run with one.
///
/// # Errors
/// [`WrongInput`] where there is none of this version.
pub fn expect_report(folder: &Path) -> Result<Report> {
    let why = "it is no run with a report; `alertstorm report RUN` makes one";
    read_report(folder)?.ok_or_else(|| WrongInput::of(&folder.display().to_string(), why))
}

/// Writes a thing as JSON for people and scripts.
///
/// # Errors
/// Where it cannot be written.
pub fn write_json<T: serde::Serialize>(path: &Path, thing: &T) -> Result<()> {
    write(path, &(serde_json::to_string_pretty(thing)? + "\n"))
}

/// Writes `report.json` and `report.html`.
///
/// # Errors
/// Where one of them cannot be written.
pub fn write_report(folder: &Path, report: &Report) -> Result<()> {
    write_json(&folder.join(REPORT), report)?;
    let page = alertstorm_reports::html::page(report).context("could not make the page")?;
    write(&folder.join(PAGE), &page)
}

/// Writes the spread over seeds.
///
/// # Errors
/// Where it cannot be written.
pub fn write_spread(folder: &Path, spread: &alertstorm_reports::spread::SeedSpread) -> Result<()> {
    write_json(&folder.join("spread.json"), spread)
}
