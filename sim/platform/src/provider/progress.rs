//! How the steps of a start and of a run are reported.

/// Is called with a line of text for each step.
pub type Progress<'a> = &'a (dyn Fn(&str) + Sync);
