//! A build without the feature `live`: the twin only. Every use of real servers ends with the command
//! that gets them.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use alertstorm_model::event::Sink;
use alertstorm_model::phase::Phase;
use alertstorm_model::scenario::{Plan, Scenario};
use alertstorm_model::time::Time;
use anyhow::{Result, anyhow};

use crate::options::{CleanArgs, EgressArgs, LiveArgs, Provider};
use crate::readiness::Readiness;

/// Name of this kind of build.
pub const BUILD: &str = "twin";
/// Cargo's options for a build with the same features as this one.
pub const FEATURES: &[&str] = &["--no-default-features"];

/// The part of this build that drives real servers: it has none, so there is no value of this type.
#[derive(Clone, Copy, Debug)]
pub enum Live {}

/// A running platform; there is none in this build.
pub enum Platform {}

/// The log of a run on real servers; nothing writes one in this build.
pub struct RunLog(());

/// Nothing in this build logs, so no level of detail has an effect.
pub const fn log_to_stderr(_: u8) {}

impl RunLog {
    pub const fn begin() -> Self {
        Self(())
    }

    pub fn write_to(&self, _: &Path) -> Result<()> {
        Ok(())
    }
}

impl Live {
    /// The part of this build that drives real servers, for `what`, an option or a verb.
    ///
    /// # Errors
    /// Always, with the commands that get a build that has it.
    pub fn of_this_build(what: &str) -> Result<Self> {
        let typed: Vec<String> =
            std::env::args_os().skip(1).map(|word| quoted(&word.to_string_lossy())).collect();
        Err(anyhow!(
            "{what} needs real servers, and this build contains only the twin\n\
             \n    run it:     cargo run --release --features live -- {}\
             \n    build it:   cargo build --release --features live\n\
             \nthen `alertstorm doctor` lists what this machine lacks for them",
            typed.join(" ")
        ))
    }

    pub fn start(self, _: &Plan, _: Provider, _: &LiveArgs) -> Result<Platform> {
        match self {}
    }

    pub fn difference(self, _: &Plan, _: &LiveArgs) -> Result<(String, Vec<String>)> {
        match self {}
    }

    pub fn up(self, _: &Plan) -> Result<PathBuf> {
        match self {}
    }

    pub fn down(self) -> Result<usize> {
        match self {}
    }

    pub fn clean(self) -> Result<Vec<String>> {
        match self {}
    }

    pub fn clean_cluster(self, _: &CleanArgs) -> Result<Option<Vec<String>>> {
        match self {}
    }

    pub fn build_servers(self) -> Result<(PathBuf, Readiness)> {
        match self {}
    }

    pub fn build_agent_image(self, _: Option<&Path>) -> Result<String> {
        match self {}
    }

    pub fn readiness(self) -> Vec<Readiness> {
        match self {}
    }

    pub fn environments(self) -> Result<Vec<String>> {
        match self {}
    }

    pub fn unreachable(self, _: &EgressArgs) -> Result<Vec<&'static str>> {
        match self {}
    }

    pub fn render(
        self,
        _: &Scenario,
        _: Phase,
        _: &str,
        _: &EgressArgs,
    ) -> Result<Vec<(PathBuf, String)>> {
        match self {}
    }

    pub fn shard(self, _: &Path) -> Result<()> {
        match self {}
    }
}

impl Platform {
    pub fn run(
        &self,
        _: &Plan,
        _: Vec<(String, String)>,
        _: &mut dyn Sink,
        _: &mut dyn FnMut(u64, Time) -> ControlFlow<()>,
    ) -> Result<()> {
        match *self {}
    }

    pub fn stop(self) -> Result<()> {
        match self {}
    }
}

/// A word as a shell reads it back.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}
