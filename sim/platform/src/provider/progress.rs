//! Lines of progress.

/// Receives a line for each step.
pub type Progress<'a> = &'a (dyn Fn(&str) + Sync);
