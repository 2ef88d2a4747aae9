//! Ctrl-C and SIGTERM: the first ends the run, which is then reported; the second ends the process.

use std::sync::atomic::{AtomicBool, Ordering};

static ASKED: AtomicBool = AtomicBool::new(false);

/// Installs the handler.
///
/// # Errors
/// Where the handler cannot be installed.
pub fn listen() -> anyhow::Result<()> {
    ctrlc::set_handler(|| {
        if ASKED.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
    })?;
    Ok(())
}

/// Whether the run was interrupted.
pub fn asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}
