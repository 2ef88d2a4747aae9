//! Files that a scenario names: profiles, traces and alert logs.

/// Reads the files that a scenario names. The model does no I/O, so the caller provides them; a
/// closure will do.
pub trait Files {
    /// The text of a file named relative to the scenario.
    ///
    /// # Errors
    /// Why it could not be read.
    fn read(&self, name: &str) -> Result<String, String>;
}

/// No file can be read; enough for a scenario on built-in profiles.
#[derive(Clone, Copy, Debug)]
pub struct NoFiles;

impl Files for NoFiles {
    fn read(&self, name: &str) -> Result<String, String> {
        Err(format!("{name} is not there"))
    }
}

impl<F: Fn(&str) -> Result<String, String>> Files for F {
    fn read(&self, name: &str) -> Result<String, String> {
        self(name)
    }
}
