//! What a person sees besides the summary: errors with their place in the file, progress.

use std::io::IsTerminal;
use std::time::Duration;

use alertstorm_model::scenario::{Place, Problem};
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::exit::WrongInput;

/// Shows what will be done and asks whether it shall; without a terminal nobody can say yes.
#[cfg(feature = "live")]
pub fn confirm(text: &str) -> bool {
    anstream::eprint!("{text}");
    if !std::io::stdin().is_terminal() {
        anstream::eprintln!("nobody can be asked here; --yes says yes beforehand");
        return false;
    }
    anstream::eprint!("Go on? [y/N] ");
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

/// Tells why the program failed, on standard error.
pub fn fail(error: &anyhow::Error) {
    match error.downcast_ref::<WrongInput>() {
        Some(wrong) => problems(wrong),
        None => {
            anstream::eprintln!("error: {error:#}");
        }
    }
}

fn problems(wrong: &WrongInput) {
    let renderer = match std::io::stderr().is_terminal() {
        true => Renderer::styled(),
        false => Renderer::plain(),
    };
    for problem in &wrong.problems {
        let text = wrong.files.iter().find(|(name, _)| *name == problem.source);
        let shown = renderer.render(&groups(problem, text.map(|(_, text)| text.as_str())));
        anstream::eprintln!("{shown}\n");
    }
    let count = wrong.problems.len();
    let plural = if count == 1 { "problem" } else { "problems" };
    anstream::eprintln!("{count} {plural}; nothing was run and nothing was written");
}

/// A place known by line and column alone, in bytes.
fn in_bytes(place: Place, text: Option<&str>) -> Place {
    if place.end > 0 || place.start > 0 {
        return place;
    }
    let before: usize =
        text.unwrap_or_default().split_inclusive('\n').take(place.line - 1).map(str::len).sum();
    Place { start: before + place.column - 1, end: before + place.column, ..place }
}

fn groups<'a>(problem: &'a Problem, text: Option<&'a str>) -> Vec<Group<'a>> {
    let title = Level::ERROR.primary_title(problem.message.as_str());
    let mut group = match (problem.place.map(|place| in_bytes(place, text)), text) {
        (Some(place), Some(text)) if place.start < text.len() => {
            let end = place.end.max(place.start + 1).min(text.len());
            // An excerpt of one line says more than one of a whole mapping.
            let line = text
                .get(place.start..end)
                .unwrap_or_default()
                .split('\n')
                .next()
                .unwrap_or_default();
            let span = place.start..place.start + line.trim_end().len().max(1);
            let annotation = AnnotationKind::Primary.span(span);
            let snippet =
                Snippet::source(text).path(problem.source.as_str()).annotation(annotation);
            title.element(snippet)
        }
        (Some(place), _) => {
            let origin = Origin::path(problem.source.as_str()).line(place.line);
            title.element(origin.char_column(place.column))
        }
        (None, _) => title.element(Origin::path(problem.source.as_str())),
    };
    if let Some(help) = &problem.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    vec![group]
}

/// A progress bar over `alerts`, or nothing where standard error is no terminal.
pub fn progress(alerts: u64) -> ProgressBar {
    let target = match draws() {
        true => ProgressDrawTarget::stderr_with_hz(5),
        false => ProgressDrawTarget::hidden(),
    };
    let bar = ProgressBar::with_draw_target(Some(alerts), target);
    let template = "{msg} [{bar:30}] {human_pos}/{human_len} finished, {eta} to go";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

/// Whether standard error is a terminal that a bar can be drawn on.
fn draws() -> bool {
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    std::io::stderr().is_terminal() && !dumb
}

/// A line that says what is being done.
#[cfg(feature = "live")]
pub fn spinner() -> ProgressBar {
    let target = if draws() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(None, target);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Says what is being done: on the bar, or as a line where there is none.
#[cfg(feature = "live")]
pub fn tell(bar: &ProgressBar, line: &str) {
    if draws() {
        bar.set_message(line.to_owned());
    } else {
        anstream::eprintln!("{line}");
    }
}

/// Columns of the terminal; 100 where there is none.
pub fn columns() -> usize {
    terminal_size::terminal_size().map_or(100, |(width, _)| usize::from(width.0))
}
