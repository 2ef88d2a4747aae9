//! What a world needs and whether this machine has it.

use anyhow::Result;

use crate::out;

/// One thing that a world needs.
#[derive(Clone, Debug)]
pub struct Need {
    /// Name of the program, image or setting.
    pub what: String,
    /// Where it was found; `None` if it is missing.
    pub found: Option<String>,
    /// How to get it.
    pub got_by: String,
}

/// A world and its needs.
#[derive(Clone, Debug)]
pub struct Readiness {
    /// The world's name, as in `--on`.
    pub world: &'static str,
    /// Everything that it needs.
    pub needs: Vec<Need>,
}

impl Readiness {
    /// What is missing.
    pub fn missing(&self) -> impl Iterator<Item = &Need> {
        self.needs.iter().filter(|need| need.found.is_none())
    }

    /// Prints the world's state, then a line for each need.
    ///
    /// # Errors
    /// Where standard output is closed or full.
    pub fn print(&self) -> Result<()> {
        let state = match self.missing().count() {
            0 => "ready".to_owned(),
            missing => format!("{missing} missing"),
        };
        out::line(format_args!("{:8} {state}", self.world))?;
        for Need { what, found, got_by } in &self.needs {
            match found {
                Some(place) => out::line(format_args!("  ✓ {what:24} {place}"))?,
                None => out::line(format_args!("  ✗ {what:24} {got_by}"))?,
            }
        }
        Ok(())
    }
}
