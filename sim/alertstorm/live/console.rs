//! Lines of progress while a platform is created or removed.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::ProgressBar;

use crate::{out, ui};

/// A spinner with the current step; on a standard error without a terminal, a line for each step.
pub struct Console(ProgressBar);

impl Console {
    /// An empty spinner.
    pub fn new() -> Self {
        let bar = ui::shown(ProgressBar::new_spinner());
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    /// Shows the current step.
    pub fn print(&self, line: &str) {
        tracing::info!("{line}");
        if ui::draws() {
            self.0.set_message(line.to_owned());
        } else {
            out::note(line);
        }
    }

    /// Shows a text without the spinner and asks for a confirmation.
    pub fn confirm(&self, text: &str) -> bool {
        self.0.suspend(|| confirm(text))
    }

    /// Removes the spinner.
    pub fn clear(&self) {
        self.0.finish_and_clear();
    }
}

/// Shows a text and asks for a confirmation. Without a terminal the answer is no.
pub fn confirm(text: &str) -> bool {
    out::note(text.trim_end());
    if !std::io::stdin().is_terminal() {
        out::note("standard input is no terminal; pass --yes to skip this prompt");
        return false;
    }
    out::note("Continue? [y/N]");
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}
