//! The files that a scenario may name.

/// The files beside a scenario: the core reads none itself.
pub trait Files {
    /// The text of a file named relative to the scenario.
    ///
    /// # Errors
    /// Why it could not be read.
    fn read(&self, name: &str) -> Result<String, String>;
}

/// There are none beside the scenario.
#[derive(Clone, Copy, Debug)]
pub struct NoFiles;

impl Files for NoFiles {
    fn read(&self, name: &str) -> Result<String, String> {
        Err(format!("{name} is not there"))
    }
}
