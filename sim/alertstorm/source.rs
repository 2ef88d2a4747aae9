//! Reads scenarios and the files that they name. The model itself does no I/O.

use std::cell::RefCell;
use std::path::Path;

use alertstorm_model::scenario::{self, Files, Override, Plan, Problems};
use anyhow::Result;

use crate::exit::WrongInput;
use crate::files::{self, FileError};
use crate::run_folder;

/// The folder of a scenario, and the files read from it, for excerpts in messages.
struct Folder {
    /// `Err` if it cannot be opened; `None` for a scenario without a folder.
    open: Option<Result<files::Folder, FileError>>,
    read: RefCell<Vec<(String, String)>>,
}

impl Files for Folder {
    fn read(&self, name: &str) -> Result<String, String> {
        let text = match &self.open {
            Some(Ok(folder)) => folder.text(Path::new(name)).map_err(|error| error.to_string())?,
            Some(Err(error)) => return Err(format!("its folder: {error}")),
            None => return Err(FileError::Missing.to_string()),
        };
        self.read.borrow_mut().push((name.to_owned(), text.clone()));
        Ok(text)
    }
}

/// A checked scenario, and the files that it names.
#[derive(Debug)]
pub struct Loaded {
    /// The plan, ready to run.
    pub plan: Plan,
    /// The files that the scenario names: name as written there, and text.
    pub files: Vec<(String, String)>,
    /// Name and text of the scenario.
    source: (String, String),
    overrides: Vec<Override>,
}

impl Loaded {
    /// An error for values that are valid, but not where the scenario is to run.
    pub fn wrong(&self, found: Problems) -> anyhow::Error {
        let (name, text) = &self.source;
        let problems = scenario::locate(text, name, &self.overrides, found);
        WrongInput { files: vec![self.source.clone()], problems }.into()
    }
}

/// Reads and checks a scenario.
///
/// # Errors
/// [`WrongInput`] with every problem of the scenario.
pub fn load(path: &Path, overrides: &[Override]) -> Result<Plan> {
    load_with_files(path, overrides).map(|loaded| loaded.plan)
}

/// Reads and checks a scenario, and keeps the files that it names.
///
/// # Errors
/// [`WrongInput`] with every problem of the scenario.
pub fn load_with_files(path: &Path, overrides: &[Override]) -> Result<Loaded> {
    read_and_check(path, files::text(path), overrides)
}

/// Reads and checks the scenario in the folder of a run, which somebody else may have made.
///
/// # Errors
/// [`WrongInput`] with every problem of the scenario.
pub fn load_of_run(folder: &Path) -> Result<Plan> {
    let name = Path::new(run_folder::SCENARIO);
    let text = files::Folder::open(folder).and_then(|folder| folder.text(name));
    read_and_check(&folder.join(name), text, &[]).map(|loaded| loaded.plan)
}

fn read_and_check(
    path: &Path,
    text: Result<String, FileError>,
    overrides: &[Override],
) -> Result<Loaded> {
    let name = path.display().to_string();
    let text = text
        .map_err(|error| WrongInput::of(&name, format!("could not read the scenario: {error}")))?;
    let folder = path.parent().unwrap_or(Path::new(".")).to_owned();
    let files = Folder { open: Some(files::Folder::open(&folder)), read: RefCell::default() };
    let checked = scenario::load(&text, &name, overrides, &files);
    let read = files.read.into_inner();
    let plan = checked.map_err(|mut problems| {
        // Messages name files relative to the working directory, not to the scenario.
        let from_here = |name: &str| folder.join(name).display().to_string();
        for problem in &mut problems {
            if read.iter().any(|(named, _)| *named == problem.source) {
                problem.source = from_here(&problem.source);
            }
        }
        let named = read.iter().map(|(name, text)| (from_here(name), text.clone()));
        let files = named.chain([(name.clone(), text.clone())]).collect();
        anyhow::Error::from(WrongInput { files, problems })
    })?;
    Ok(Loaded { plan, files: read, source: (name, text), overrides: overrides.to_vec() })
}

/// A scenario in which every field has its default.
///
/// # Errors
/// Never, as a test shows.
pub fn defaults() -> Result<scenario::Scenario> {
    let files = Folder { open: None, read: RefCell::default() };
    let least = "alerts: [{flood: 1}]\n";
    let plan = scenario::load(least, "defaults", &[], &files);
    plan.map(|plan| plan.scenario().clone())
        .map_err(|problems| WrongInput { files: Vec::new(), problems }.into())
}

/// Parses `controller.concurrency=50`.
///
/// # Errors
/// Without a `=`, or without a path before it.
pub fn parse_override(text: &str) -> Result<Override, String> {
    match text.split_once('=') {
        Some((path, value)) if !path.trim().is_empty() => {
            Ok(Override { path: path.trim().to_owned(), value: value.to_owned() })
        }
        _ => Err("expected PATH=VALUE, like controller.concurrency=50".to_owned()),
    }
}
