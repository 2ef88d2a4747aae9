//! What a person reads in the terminal: summaries, progress, questions, and errors with an excerpt of
//! the file.

use std::io::IsTerminal;
use std::ops::Range;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use alertstorm_model::input::{self, Place};
use alertstorm_model::scenario::Problem;
use alertstorm_model::time::Time;
use alertstorm_reports::Report;
use alertstorm_reports::printable::one_line;
use alertstorm_reports::terminal::{self, Look};
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use anyhow::Result;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::exit::WrongInput;
use crate::{out, run_folder};

/// The most problems that are printed; the rest are counted.
const PROBLEMS_SHOWN: usize = 20;
/// The most characters of a message that are printed.
const MESSAGE_CHARACTERS: usize = 1_000;

/// Prints the summary of a run, or its report as JSON.
pub fn summary(report: &Report, folder: &Path, json: bool) -> Result<()> {
    if json {
        out::json(report)?;
    } else {
        let look = Look { width: columns() };
        out::text(&terminal::summary(report, look))?;
        out::line(format_args!("  {}", folder.join(run_folder::PAGE).display()))?;
    }
    Ok(())
}

/// Prints the error that ended the program, on standard error.
pub fn fail(error: &anyhow::Error) {
    match error.downcast_ref::<WrongInput>() {
        Some(wrong) => problems(wrong),
        None => beside_bars(|| out::note(format_args!("error: {error:#}"))),
    }
}

fn problems(wrong: &WrongInput) {
    let renderer = match std::io::stderr().is_terminal() {
        true => Renderer::styled(),
        false => Renderer::plain(),
    };
    let count = wrong.problems.len();
    for problem in wrong.problems.iter().take(PROBLEMS_SHOWN) {
        let shown = printable_problem(problem);
        out::styled_note(&(rendered(&renderer, &shown, &wrong.files) + "\n\n"));
    }
    if count > PROBLEMS_SHOWN {
        out::note(format_args!("and {} more\n", count - PROBLEMS_SHOWN));
    }
    let plural = if count == 1 { "problem" } else { "problems" };
    out::note(format_args!("{count} {plural}; nothing was run and nothing was written"));
}

/// A problem whose texts have no control characters and a limited length. Its excerpt is rendered by
/// `annotate_snippets`, which replaces those of the file.
fn printable_problem(problem: &Problem) -> Problem {
    Problem {
        source: problem.source.clone(),
        place: problem.place,
        message: short(&problem.message),
        help: problem.help.as_deref().map(short),
    }
}

/// The beginning of a message: it may quote a value of any length.
fn short(text: &str) -> String {
    let mut characters = text.chars();
    let begin: String = characters.by_ref().take(MESSAGE_CHARACTERS).collect();
    let line = one_line(&begin).into_owned();
    if characters.next().is_some() { line + "…" } else { line }
}

/// A problem with its excerpt, where `files` has the file that it is in.
fn rendered(renderer: &Renderer, problem: &Problem, files: &[(String, String)]) -> String {
    let text = files.iter().find(|(name, _)| *name == problem.source);
    let path = one_line(&problem.source);
    renderer.render(&groups(problem, &path, text.map(|(_, text)| text.as_str())))
}

/// The bytes to underline: the first line of a place, without blanks at its end, and at least one
/// character. None where the place is not in the text, or behind its end.
fn underlined(text: &str, place: Place) -> Option<Range<usize>> {
    let rest = text.get(place.start..).filter(|rest| !rest.is_empty())?;
    let whole = text.get(place.start..place.end)?;
    let line = whole.split(['\n', '\r']).next().unwrap_or_default().trim_end();
    let least = rest.chars().next().map_or(0, char::len_utf8);
    Some(place.start..place.start + line.len().max(least))
}

fn groups<'a>(problem: &'a Problem, path: &'a str, text: Option<&'a str>) -> Vec<Group<'a>> {
    let title = Level::ERROR.primary_title(problem.message.as_str());
    // Places count from behind a byte order mark.
    let text = text.map(input::without_mark);
    let span = problem.place.zip(text).and_then(|(place, text)| underlined(text, place));
    let mut group = match (problem.place, text, span) {
        (_, Some(text), Some(span)) => {
            let annotation = AnnotationKind::Primary.span(span);
            title.element(Snippet::source(text).path(path).annotation(annotation))
        }
        (Some(place), ..) => {
            title.element(Origin::path(path).line(place.line).char_column(place.column))
        }
        (None, ..) => title.element(Origin::path(path)),
    };
    if let Some(help) = &problem.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    vec![group]
}

/// Every bar and spinner on standard error: they are drawn one below the other, and are removed while
/// something else is written there.
static BARS: LazyLock<MultiProgress> = LazyLock::new(|| {
    MultiProgress::with_draw_target(match draws() {
        true => ProgressDrawTarget::stderr_with_hz(5),
        false => ProgressDrawTarget::hidden(),
    })
});

/// Shows a bar or a spinner on standard error; hidden if that is no terminal.
pub fn shown(bar: ProgressBar) -> ProgressBar {
    BARS.add(bar)
}

/// Removes the bars, writes to standard error, and draws them again.
pub fn beside_bars<T>(write: impl FnOnce() -> T) -> T {
    BARS.suspend(write)
}

/// A progress bar up to `count`; hidden if standard error is no terminal.
pub fn progress(count: u64) -> ProgressBar {
    let bar = shown(ProgressBar::new(count));
    let template = "{msg} [{bar:30}] {human_pos}/{human_len} finished, {eta} to go";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

/// A run's time as hours, minutes and seconds.
pub fn clock(now: Time) -> String {
    let s = now.as_secs_f64() as u64;
    format!("{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
}

/// Whether standard error is a terminal that can show a progress bar.
pub fn draws() -> bool {
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    std::io::stderr().is_terminal() && !dumb
}

/// Width of the terminal in columns; 100 without a terminal.
fn columns() -> usize {
    terminal_size::terminal_size().map_or(100, |(width, _)| usize::from(width.0))
}

#[cfg(test)]
mod tests;
