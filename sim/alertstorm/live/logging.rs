//! Log events (`tracing`): which go to standard error, and the file `harness.log` of a live run.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use alertstorm_reports::printable::lines;
use anyhow::{Context, Result};
use tracing::subscriber::Interest;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::{FilterExt, LevelFilter, Targets, dynamic_filter_fn, filter_fn};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, uptime};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::{out, ui};

/// The log of the harness, in a live run's folder.
const FILE: &str = "harness.log";
/// Prefix of the targets of this program's crates.
const OURS: &str = "alertstorm";
/// The events of a run are kept in memory until its folder exists; no more than so many bytes.
const EARLY_BYTES_MAX: usize = 1 << 20;

/// Sends log events to standard error: warnings of this program's crates; with `verbose` 1 their
/// steps, with 2 also their details and other crates' warnings. RUST_LOG overrides this.
pub fn log_to_stderr(verbose: u8) {
    let shown = tracing_subscriber::fmt::layer()
        .with_timer(uptime())
        .with_ansi(false)
        .log_internal_errors(false)
        .with_writer(|| BesideBars)
        .with_filter(levels(verbose, std::env::var("RUST_LOG").ok()).and(filter_fn(is_safe)));
    let kept = tracing_subscriber::fmt::layer()
        .with_timer(SinceBegin)
        .with_ansi(false)
        .log_internal_errors(false)
        .with_writer(|| ToRunLog)
        .with_filter(
            dynamic_filter_fn(|of, _| is_of_a_run(of) && is_kept())
                .with_callsite_filter(interest)
                .with_max_level_hint(LevelFilter::DEBUG),
        );
    // Fails only if a subscriber is set already, which then stays.
    if let Err(error) = tracing_subscriber::registry().with(shown).with(kept).try_init() {
        out::note(format_args!("warning: no log events are printed: {error}"));
    }
}

/// The levels on standard error. An unusable RUST_LOG is reported and has no effect.
fn levels(verbose: u8, variable: Option<String>) -> Targets {
    if let Some(text) = variable.filter(|text| !text.is_empty()) {
        match text.parse() {
            Ok(targets) => return targets,
            Err(error) => out::note(format_args!("warning: RUST_LOG is ignored: {error}")),
        }
    }
    match verbose {
        0 => Targets::new().with_target(OURS, Level::WARN),
        1 => Targets::new().with_target(OURS, Level::INFO),
        _ => Targets::new().with_default(Level::WARN).with_target(OURS, Level::DEBUG),
    }
}

/// Whether a run keeps an event.
fn is_of_a_run(of: &Metadata<'_>) -> bool {
    is_ours(of) && *of.level() <= Level::DEBUG
}

/// Other crates' events are left out once for each place in their code. Otherwise the filter is asked
/// for each event and span, of which HTTP/2 has several a frame.
fn interest(of: &Metadata<'_>) -> Interest {
    if is_of_a_run(of) { Interest::sometimes() } else { Interest::never() }
}

fn is_ours(of: &Metadata<'_>) -> bool {
    of.target().starts_with(OURS)
}

/// Whether events and spans of this target contain no secrets, whatever RUST_LOG asks for. vaultrs
/// records the arguments of its functions, unseal keys among them; kube-client prints responses that
/// it cannot decode, tokens among them; HTTP crates may print headers and bodies at TRACE.
fn is_safe(of: &Metadata<'_>) -> bool {
    let target = of.target();
    let prints_secrets = ["vaultrs", "rustify", "kube_client"];
    let unsafe_target = prints_secrets.iter().any(|name| target.starts_with(name));
    is_ours(of) || (!unsafe_target && *of.level() <= Level::DEBUG)
}

/// Standard error, without the progress bars while it is written to.
struct BesideBars;

impl Write for BesideBars {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        ui::beside_bars(|| io::stderr().write_all(printable(line).as_bytes()))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Log events quote servers, whose text may have control characters.
fn printable(line: &[u8]) -> String {
    lines(&String::from_utf8_lossy(line), false)
}

/// Where the events of the current run go.
struct Kept {
    began: Instant,
    to: Destination,
    /// The first error of the file.
    failed: Option<io::Error>,
}

enum Destination {
    /// The run has no folder yet.
    Memory {
        lines: Vec<u8>,
        left_out: u64,
    },
    File(File),
}

/// The current run's log; `None` while there is no run.
static CURRENT: Mutex<Option<Kept>> = Mutex::new(None);

fn current() -> MutexGuard<'static, Option<Kept>> {
    CURRENT.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_kept() -> bool {
    current().is_some()
}

/// Keeps the log events of one live run until it is dropped. Runs follow one another, so there is one
/// at a time.
pub struct RunLog(());

impl RunLog {
    /// Begins to keep log events; times are counted from here.
    pub fn begin() -> Self {
        let to = Destination::Memory { lines: Vec::new(), left_out: 0 };
        *current() = Some(Kept { began: Instant::now(), to, failed: None });
        Self(())
    }

    /// Writes what was kept, and from now on each event as it occurs, to `harness.log` in the run's
    /// folder. Only its owner may read the file.
    ///
    /// # Errors
    /// Where the file cannot be created or written.
    pub fn write_to(&self, folder: &Path) -> Result<()> {
        let path = folder.join(FILE);
        let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let mut file = created.with_context(|| format!("could not create {}", path.display()))?;
        if let Some(kept) = &mut *current() {
            if let Destination::Memory { lines, left_out } = &kept.to {
                let mut written = file.write_all(lines);
                if *left_out > 0 {
                    written = written.and_then(|()| writeln!(file, "{left_out} lines left out"));
                }
                written.with_context(|| format!("could not write {}", path.display()))?;
            }
            kept.to = Destination::File(file);
        }
        Ok(())
    }
}

impl Drop for RunLog {
    fn drop(&mut self) {
        let kept = current().take();
        if let Some(error) = kept.and_then(|kept| kept.failed) {
            out::note(format_args!("warning: {FILE} is incomplete: {error}"));
        }
    }
}

/// The time since the run began.
struct SinceBegin;

impl FormatTime for SinceBegin {
    fn format_time(&self, to: &mut Writer<'_>) -> std::fmt::Result {
        let since = current().as_ref().map(|kept| kept.began.elapsed()).unwrap_or_default();
        write!(to, "{:12.6}s", since.as_secs_f64())
    }
}

/// The log of the current run.
struct ToRunLog;

impl Write for ToRunLog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let all = line.len();
        let line = printable(line);
        let line = line.as_bytes();
        if let Some(kept) = &mut *current() {
            match &mut kept.to {
                Destination::Memory { lines, left_out } => {
                    if lines.len() + line.len() > EARLY_BYTES_MAX {
                        *left_out += 1;
                    } else {
                        lines.extend_from_slice(line);
                    }
                }
                Destination::File(file) if kept.failed.is_none() => {
                    kept.failed = file.write_all(line).err();
                }
                Destination::File(_) => {}
            }
        }
        Ok(all)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn each_v_shows_more_and_rust_log_overrides_them() {
        let shows = |levels: &Targets, target, level| levels.would_enable(target, &level);
        let quiet = levels(0, None);
        assert!(shows(&quiet, "alertstorm_live::watch", Level::WARN));
        assert!(!shows(&quiet, "alertstorm_live::watch", Level::INFO));
        assert!(shows(&levels(1, None), "alertstorm_platform", Level::INFO));
        assert!(!shows(&levels(1, None), "kube_client", Level::WARN));
        assert!(shows(&levels(2, None), "alertstorm_agent", Level::DEBUG));
        assert!(shows(&levels(2, None), "kube_client", Level::WARN));
        let chosen = levels(2, Some("kube=info".to_owned()));
        assert!(shows(&chosen, "kube_runtime", Level::INFO));
        assert!(!shows(&chosen, "alertstorm_live", Level::ERROR));
        assert!(shows(&levels(0, Some(String::new())), "alertstorm_live", Level::WARN));
    }

    /// The place of an event of this crate, and of one of another crate.
    fn places() -> [&'static Metadata<'static>; 2] {
        struct Seen(Mutex<Vec<&'static Metadata<'static>>>);
        impl<S: tracing::Subscriber> Layer<S> for &'static Seen {
            fn register_callsite(&self, of: &'static Metadata<'static>) -> Interest {
                self.0.lock().expect("unpoisoned").push(of);
                Interest::sometimes()
            }
        }
        static SEEN: Seen = Seen(Mutex::new(Vec::new()));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(&SEEN), || {
            tracing::debug!(target: "alertstorm_live", "a frame");
            tracing::debug!(target: "h2::codec", "a frame");
        });
        let all = SEEN.0.lock().expect("unpoisoned");
        let of = |target| *all.iter().find(|of| of.target() == target).expect("registered");
        [of("alertstorm_live"), of("h2::codec")]
    }

    #[test]
    fn the_places_of_other_crates_events_are_left_out_once_and_for_all() {
        let [own, foreign] = places();
        assert!(interest(own).is_sometimes());
        assert!(interest(foreign).is_never());
        assert!(!is_of_a_run(foreign), "also where another filter wants it");
    }

    #[test]
    fn a_run_log_has_what_preceded_its_folder_and_only_its_owner_may_read_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = RunLog::begin();
        ToRunLog.write_all(b"before\n").expect("written");
        log.write_to(folder.path()).expect("created");
        ToRunLog.write_all(b"after\n").expect("written");
        let path = folder.path().join(FILE);
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "before\nafter\n");
        let mode = path.metadata().expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(log);
        ToRunLog.write_all(b"of no run\n").expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "before\nafter\n");
    }
}
