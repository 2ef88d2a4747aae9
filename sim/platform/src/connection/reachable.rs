//! Whether the API server answers at all. Any response counts, also an error's.

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// The outcome of the latest request.
#[derive(Debug, Default)]
pub(super) struct Reachable {
    /// Requests are many, and failures few: only these take the lock.
    has_failed: AtomicBool,
    error: Mutex<String>,
}

impl Reachable {
    pub fn answered(&self) {
        self.has_failed.store(false, Ordering::Relaxed);
    }

    /// Keeps the root of the error, such as "connection refused".
    pub fn failed(&self, error: &(dyn Error + 'static)) {
        let mut root = error;
        while let Some(source) = root.source() {
            root = source;
        }
        let text = root.to_string();
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = text;
        self.has_failed.store(true, Ordering::Relaxed);
    }

    /// The error of the latest request; none if it was answered.
    pub fn unanswered(&self) -> Option<String> {
        let error = || self.error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.has_failed.load(Ordering::Relaxed).then(error)
    }
}
