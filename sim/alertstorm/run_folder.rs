//! The folder of a run: `NAME-SEED-N/` with the inputs, the event log and the reports. The event log is
//! complete on disk before a report is made from it, so no measurement is lost.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use alertstorm_analysis::measure::Measures;
use alertstorm_model::event::{Event, Fact, Sink};
use alertstorm_model::input::without_mark;
use alertstorm_model::scenario::raw::Agents;
use alertstorm_model::scenario::{Plan, Scenario};
use alertstorm_reports::{Report, SCHEMA};
use anyhow::{Context, Result, bail};

use crate::exit::WrongInput;

/// The scenario as it ran, with every default written out.
pub const SCENARIO: &str = "scenario.yaml";
/// The folder of the files that the scenario names.
const INPUTS: &str = "inputs";
/// The event log.
pub const EVENTS: &str = "events.jsonl";
/// The report for scripts.
pub const REPORT: &str = "report.json";
/// The report for people.
pub const PAGE: &str = "report.html";

/// Creates `base/NAME-N` with the smallest N that is free.
///
/// # Errors
/// Where the folder cannot be created.
pub fn create(base: &Path, name: &str) -> Result<PathBuf> {
    fs::create_dir_all(base).with_context(|| format!("could not create {}", base.display()))?;
    for n in 1_u32.. {
        let path = base.join(format!("{name}-{n}"));
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(error).with_context(|| format!("could not create {}", path.display()));
            }
        }
    }
    bail!("every run number is taken in {}", base.display())
}

/// Writes events as they occur. The first write error is returned by [`Self::finish`].
#[derive(Debug)]
pub struct EventLog {
    file: BufWriter<File>,
    failed: Option<io::Error>,
}

impl EventLog {
    /// Creates the log of a run.
    ///
    /// # Errors
    /// Where the file cannot be created.
    pub fn create(folder: &Path) -> Result<Self> {
        let path = folder.join(EVENTS);
        let file =
            File::create(&path).with_context(|| format!("could not create {}", path.display()))?;
        Ok(Self { file: BufWriter::with_capacity(1 << 16, file), failed: None })
    }

    /// Writes what is still buffered.
    ///
    /// # Errors
    /// The first write error.
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

/// Sorts the events of a live run by time: they are written in the order in which they become known.
#[derive(Default)]
struct InOrder {
    /// Whether this is a live run's log, by its first fact; `None` before it. A twin's log is in order.
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

/// Reads a log. An incomplete last line is skipped; returns whether there was one.
///
/// # Errors
/// Where the file cannot be read; [`WrongInput`] if a line other than the last is not an event.
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
        match serde_json::from_str::<Event>(without_mark(&line)) {
            Ok(event) => in_order.take(event, sink),
            Err(error) => cut_off = Some((number + 1, error)),
        }
    }
    in_order.end(sink);
    Ok(cut_off.is_some())
}

/// Reads the report of a run; `None` if it has none.
///
/// # Errors
/// [`WrongInput`] if it is not a report of this version.
pub fn read_report(folder: &Path) -> Result<Option<Report>> {
    let path = folder.join(REPORT);
    if !path.is_file() {
        return Ok(None);
    }
    let name = path.display().to_string();
    let text = fs::read_to_string(&path).with_context(|| format!("could not read {name}"))?;
    let value: serde_json::Value = serde_json::from_str(without_mark(&text))
        .map_err(|error| WrongInput::of(&name, format!("not JSON: {error}")))?;
    if value["schema"] != SCHEMA {
        let message = format!("expected `schema` {SCHEMA}, found {}", value["schema"]);
        return Err(WrongInput::of(&name, message));
    }
    let report = serde_json::from_value(value)
        .map_err(|error| WrongInput::of(&name, format!("not a report: {error}")))?;
    Ok(Some(report))
}

/// Writes a file atomically: to a temporary name first, then renamed.
///
/// # Errors
/// Where it cannot be written.
pub fn write(path: &Path, text: &str) -> Result<()> {
    let partial = path.with_extension("partial");
    fs::write(&partial, text)
        .and_then(|()| fs::rename(&partial, path))
        .with_context(|| format!("could not write {}", path.display()))
}

/// The inputs of a run: the scenario with every default, and the files that it names, each with its
/// path in the run's folder. With them the folder can be moved, and the run repeated or reported again.
///
/// # Errors
/// Where the scenario cannot be written as YAML.
pub fn inputs(plan: &Plan, files: &[(String, String)]) -> Result<Vec<(String, String)>> {
    let mut scenario = plan.scenario().clone();
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
    let mut all = vec![(SCENARIO.to_owned(), resolved(&scenario, plan.digest())?)];
    let named = files.iter().filter_map(|(name, text)| Some((inside(name)?, text.clone())));
    all.extend(named);
    Ok(all)
}

/// Writes the inputs of a run.
///
/// # Errors
/// Where it cannot be written.
pub fn write_inputs(folder: &Path, plan: &Plan, files: &[(String, String)]) -> Result<()> {
    for (name, text) in inputs(plan, files)? {
        let path = folder.join(name);
        if let Some(within) = path.parent() {
            let why = || format!("could not create {}", within.display());
            fs::create_dir_all(within).with_context(why)?;
        }
        write(&path, &text)?;
    }
    Ok(())
}

/// The scenario with every default, as a scenario file.
///
/// # Errors
/// Where it cannot be written as YAML.
pub fn resolved(scenario: &Scenario, digest: &str) -> Result<String> {
    // Through JSON values, to leave out fields that are not set.
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

/// The measures of a run, from its event log.
///
/// # Errors
/// As [`read_events`].
pub fn read_measures(folder: &Path) -> Result<Measures> {
    let mut measures = Measures::default();
    read_events(folder, &mut measures)?;
    measures.close();
    Ok(measures)
}

/// The report of a run, computed from its event log.
///
/// # Errors
/// As [`read_events`].
pub fn report_from_events(folder: &Path, plan: &Plan) -> Result<Report> {
    let mut measures = Measures::default();
    let cut_off = read_events(folder, &mut measures)?;
    // Only the last sample of a complete run has waits.
    let whole = measures.last_sample.as_ref().is_some_and(|sample| !sample.waits.is_empty());
    measures.interrupted |= cut_off || !whole;
    measures.close();
    Ok(Report::new(plan, &measures, 0.0))
}

/// Reads the report of a run.
///
/// # Errors
/// [`WrongInput`] if there is none, or one of another version.
pub fn expect_report(folder: &Path) -> Result<Report> {
    let why = "the folder has no report; `alertstorm report RUN` makes one";
    read_report(folder)?.ok_or_else(|| WrongInput::of(&folder.display().to_string(), why))
}

/// Writes a value as indented JSON.
///
/// # Errors
/// Where it cannot be written.
pub fn write_json<T: serde::Serialize>(path: &Path, thing: &T) -> Result<()> {
    write(path, &(serde_json::to_string_pretty(thing)? + "\n"))
}

/// Writes a result as `NAME.json` and as the page `NAME.html`.
///
/// # Errors
/// Where one of them cannot be written.
pub fn write_result<T: serde::Serialize>(
    folder: &Path,
    name: &str,
    result: &T,
    page: &str,
) -> Result<()> {
    write_json(&folder.join(format!("{name}.json")), result)?;
    write(&folder.join(format!("{name}.html")), page)
}

/// Writes `report.json` and `report.html`.
///
/// # Errors
/// Where one of them cannot be written.
pub fn write_report(folder: &Path, report: &Report) -> Result<()> {
    write_json(&folder.join(REPORT), report)?;
    let page = alertstorm_reports::html::page(report).context("could not render the page")?;
    write(&folder.join(PAGE), &page)
}

/// Writes the spread over seeds.
///
/// # Errors
/// Where it cannot be written.
pub fn write_spread(folder: &Path, spread: &alertstorm_reports::spread::SeedSpread) -> Result<()> {
    write_json(&folder.join("spread.json"), spread)
}
