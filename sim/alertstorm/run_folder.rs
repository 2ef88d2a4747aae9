//! The folder of a run: `NAME-SEED-N/` with the inputs, the event log and the reports. The event log is
//! complete on disk before a report is made from it, so no measurement is lost.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use alertstorm_analysis::measure::Measures;
use alertstorm_model::event::{Event, Fact, Sink};
use alertstorm_model::input::without_mark;
use alertstorm_model::scenario::raw::Agents;
use alertstorm_model::scenario::{Plan, Scenario};
use alertstorm_reports::{Report, SCHEMA, printable, report_v1};
use anyhow::{Context, Result, bail};

use crate::exit::WrongInput;
use crate::files::{self, FileError, Folder};
use crate::out;

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

/// Checks that runs can be written to a folder, before something is made for one: whether it can be
/// created, and whether the disk has space.
///
/// # Errors
/// Where it cannot.
pub fn check_writable(base: &Path) -> Result<()> {
    // A start that fails later leaves no folder that was not there before.
    let made: Vec<&Path> = base
        .ancestors()
        .take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists())
        .collect();
    let probe = create(base, ".alertstorm-probe")?;
    let within = Folder::open(&probe);
    let written = within.and_then(|within| within.write(Path::new("probe"), &" ".repeat(PROBE)));
    let removed =
        fs::remove_dir_all(&probe).and_then(|()| made.iter().try_for_each(fs::remove_dir));
    written.with_context(|| format!("could not write to {}", base.display()))?;
    removed.with_context(|| format!("could not remove {}", probe.display()))
}

/// The bytes of the probe: the reports of a small run.
const PROBE: usize = 1 << 20;

/// Writes events as they occur. After the first write error, further events are dropped; see
/// [`Self::failed`].
#[derive(Debug)]
pub struct EventLog<W: Write = File> {
    file: BufWriter<W>,
    failed: Option<io::Error>,
    /// Shared with the code that ends the run.
    has_failed: Rc<Cell<bool>>,
}

impl EventLog {
    /// Creates the log of a run.
    ///
    /// # Errors
    /// Where the file cannot be created.
    pub fn create(folder: &Path) -> Result<Self> {
        let path = folder.join(EVENTS);
        let file = Folder::open(folder).and_then(|folder| folder.create(EVENTS));
        let file = file.with_context(|| format!("could not create {}", path.display()))?;
        Ok(Self::new(file))
    }
}

impl<W: Write> EventLog<W> {
    fn new(to: W) -> Self {
        let file = BufWriter::with_capacity(1 << 16, to);
        Self { file, failed: None, has_failed: Rc::default() }
    }

    /// Set after the first write error: the run should end then, as its events are lost.
    pub fn failed(&self) -> Rc<Cell<bool>> {
        Rc::clone(&self.has_failed)
    }

    /// Writes what is still buffered; why the run is invalid, if events could not be written.
    pub fn finish(mut self) -> Option<String> {
        let error = self.failed.take().or_else(|| self.file.flush().err())?;
        Some(format!("the event log could not be written, and later events are missing: {error}"))
    }

    fn keep(&mut self, written: io::Result<()>) {
        self.failed = written.err();
        self.has_failed.set(self.failed.is_some());
    }
}

impl<W: Write> Sink for EventLog<W> {
    fn take(&mut self, event: &Event) {
        if self.failed.is_some() {
            return;
        }
        let line = serde_json::to_writer(&mut self.file, event).map_err(io::Error::from);
        let written = line.and_then(|()| self.file.write_all(b"\n"));
        self.keep(written);
    }

    fn flush(&mut self) {
        if self.failed.is_none() {
            let written = self.file.flush();
            self.keep(written);
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

/// An event log without an end of line would otherwise be read into memory whole.
const LINE_BYTES_MAX: u64 = 16 << 20;

fn bytes_without_mark(line: &[u8]) -> &[u8] {
    line.strip_prefix("\u{FEFF}".as_bytes()).unwrap_or(line)
}

fn unreadable(path: &Path, error: &FileError) -> anyhow::Error {
    WrongInput::of(&path.display().to_string(), format!("could not be read: {error}"))
}

/// Whether the folder of a run has a file of this name, whatever it is.
pub fn has(folder: &Path, name: &str) -> bool {
    folder.join(name).symlink_metadata().is_ok()
}

/// Reads a JSON file that may be somebody else's: its texts are made printable, and its `schema` is
/// checked.
///
/// # Errors
/// [`WrongInput`] with what is wrong with it; `hint` is what to do about another schema.
pub fn parse_json<T: serde::de::DeserializeOwned>(
    name: &str,
    text: &str,
    (schema, kind, hint): (&str, &str, &str),
) -> Result<T> {
    let mut value: serde_json::Value = serde_json::from_str(without_mark(text))
        .map_err(|error| WrongInput::of(name, format!("not JSON: {error}")))?;
    if value["schema"] != schema {
        let message = format!("expected `schema` {schema}, found {}{hint}", value["schema"]);
        return Err(WrongInput::of(name, message));
    }
    make_printable(&mut value);
    serde_json::from_value(value)
        .map_err(|error| WrongInput::of(name, format!("not a {kind}: {error}")))
}

fn make_printable(value: &mut serde_json::Value) {
    use serde_json::Value;
    match value {
        Value::String(text) if text.chars().any(printable::is_control) => {
            *text = printable::one_line(text).into_owned();
        }
        Value::Array(items) => items.iter_mut().for_each(make_printable),
        Value::Object(map) => map.values_mut().for_each(make_printable),
        _ => {}
    }
}

/// Reads a log. An incomplete last line is skipped; returns whether there was one.
///
/// # Errors
/// Where the file cannot be read; [`WrongInput`] if a line other than the last is not an event.
pub fn read_events(folder: &Path, sink: &mut dyn Sink) -> Result<bool> {
    let path = folder.join(EVENTS);
    let file = Folder::open(folder)
        .and_then(|folder| folder.file(Path::new(EVENTS)))
        .map_err(|error| unreadable(&path, &error))?;
    let mut file = BufReader::new(file);
    let mut in_order = InOrder::default();
    let mut cut_off: Option<(usize, serde_json::Error)> = None;
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = file.by_ref().take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut line);
        let read = read.with_context(|| format!("could not read {}", path.display()))?;
        if read == 0 {
            break;
        }
        if let Some((number, error)) = cut_off {
            let source = format!("{}:{number}", path.display());
            return Err(WrongInput::of(&source, format!("not an event: {error}")));
        }
        if read as u64 > LINE_BYTES_MAX {
            let why = format!("a line longer than {} MiB is no event", LINE_BYTES_MAX >> 20);
            return Err(WrongInput::of(&format!("{}:{number}", path.display()), why));
        }
        match serde_json::from_slice::<Event>(bytes_without_mark(&line)) {
            Ok(event) => in_order.take(event, sink),
            Err(error) => cut_off = Some((number, error)),
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
    match Folder::open(folder).and_then(|folder| folder.text(Path::new(REPORT))) {
        Ok(text) => {
            let name = path.display().to_string();
            let version_1 = report_v1::upgraded(without_mark(&text));
            let text = version_1.as_deref().unwrap_or(&text);
            parse_json(&name, text, (SCHEMA, "report", "")).map(Some)
        }
        Err(FileError::Missing) => Ok(None),
        Err(error) => Err(unreadable(&path, &error)),
    }
}

/// Writes a file atomically: to a temporary name first, then renamed.
///
/// # Errors
/// Where it cannot be written.
pub fn write(path: &Path, text: &str) -> Result<()> {
    files::write(path, text).with_context(|| format!("could not write {}", path.display()))
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
        // Without a leading `./`: the copy's name must not be a hidden one.
        let parts: Vec<_> = Path::new(name).iter().filter(|part| *part != ".").collect();
        let flat =
            parts.join(std::ffi::OsStr::new("-")).to_string_lossy().replace(['\\', ':'], "-");
        known.then(|| format!("{INPUTS}/{flat}"))
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
    write_all(folder, inputs(plan, files)?)
}

/// Writes files below a folder, which is created. No link below it is followed.
///
/// # Errors
/// Where one of them cannot be written.
pub fn write_all<N: AsRef<Path>>(
    folder: &Path,
    all: impl IntoIterator<Item = (N, String)>,
) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("could not create {}", folder.display()))?;
    let within =
        Folder::open(folder).with_context(|| format!("could not open {}", folder.display()))?;
    for (name, text) in all {
        let why = || format!("could not write {}", folder.join(name.as_ref()).display());
        within.write(name.as_ref(), &text).with_context(why)?;
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

/// Writes the report of a run whose event log may have failed. `lost` is why, and makes the run
/// invalid; its report is then printed even if it cannot be written either.
///
/// # Errors
/// Where the report of a complete log cannot be written.
pub fn write_report_of(folder: &Path, report: &mut Report, lost: Option<String>) -> Result<()> {
    let Some(why) = lost else { return write_report(folder, report) };
    report.invalid.insert(0, why);
    if let Err(error) = write_report(folder, report) {
        out::note(format_args!("error: {error:#}"));
    }
    Ok(())
}

/// Writes the spread over seeds.
///
/// # Errors
/// Where it cannot be written.
pub fn write_spread(folder: &Path, spread: &alertstorm_reports::spread::SeedSpread) -> Result<()> {
    write_json(&folder.join("spread.json"), spread)
}

#[cfg(test)]
mod tests {
    use alertstorm_model::time::Time;

    use super::*;

    /// A disk with space for so many bytes.
    #[derive(Debug)]
    struct Disk(usize);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let fits = bytes.len().min(self.0);
            if fits == 0 && !bytes.is_empty() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0 -= fits;
            Ok(fits)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_is_noticed_with_the_next_flush_and_makes_the_run_invalid() {
        let remark = Event::platform(Time(1), Fact::Remark { text: "x".repeat(100).into() });
        let mut log = EventLog::new(Disk(150));
        let failed = log.failed();
        log.take(&remark);
        log.flush();
        assert!(!failed.get());
        log.take(&remark);
        log.flush();
        assert!(failed.get());
        log.take(&remark);
        let why = log.finish().expect("the log is incomplete");
        assert!(why.starts_with("the event log could not be written"), "{why}");
        let mut whole = EventLog::new(Disk(1_000));
        whole.take(&remark);
        assert_eq!(whole.finish(), None);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_found_by_the_probe_which_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let runs = folder.path().join("runs");
        check_writable(&runs.join("a")).expect("writable");
        assert!(!runs.exists());
        fs::create_dir(&runs).expect("created");
        check_writable(&runs).expect("writable");
        assert_eq!(fs::read_dir(&runs).expect("created").count(), 0);
        let file = folder.path().join("file");
        fs::write(&file, "").expect("written");
        assert!(check_writable(&file.join("runs")).is_err());
    }
}
