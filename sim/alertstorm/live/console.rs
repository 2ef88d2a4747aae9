//! Lines of progress while a platform is created or removed.

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
        self.0.suspend(|| ui::confirm(text))
    }

    /// Removes the spinner.
    pub fn clear(&self) {
        self.0.finish_and_clear();
    }
}
