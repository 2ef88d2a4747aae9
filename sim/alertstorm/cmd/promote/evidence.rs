//! Reads evidence from the folders of runs. All runs that cannot be used are reported at once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use alertstorm_analysis::measure::Measures;
use alertstorm_analysis::verdict::promotion::{Case, Cases, Policy};
use alertstorm_model::input::{Text, json_lines};
use alertstorm_model::investigation::InvestigationId;
use alertstorm_model::phase::Phase;
use alertstorm_model::scenario::{Plan, Problem};
use alertstorm_reports::promotion::EvidenceRun;
use alertstorm_reports::{Report, World};
use anyhow::Result;
use serde::Deserialize;

use crate::exit::WrongInput;
use crate::files::{FileError, Folder};
use crate::{run_folder, source};

/// The file with reviews of a run's conclusions, in the run's folder: JSON Lines.
const REVIEWS: &str = "reviews.jsonl";

/// The evidence that counts.
pub struct Evidence {
    /// The runs.
    pub runs: Vec<EvidenceRun>,
    /// The investigations of these runs.
    pub cases: Vec<Case>,
    /// Days over which the alerts were spread, summed over the runs.
    pub days: f64,
}

/// The review of one conclusion.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Review {
    investigation: InvestigationId,
    right: bool,
}

/// The evidence of one run.
struct OfRun {
    report: Report,
    cases: Vec<(InvestigationId, Case)>,
}

/// Reads the evidence for a policy.
///
/// # Errors
/// [`WrongInput`] with every run that cannot be used, and why.
pub fn read(folders: &[PathBuf], policy: &Policy) -> Result<Evidence> {
    let mut problems = Vec::new();
    let mut evidence = Evidence { runs: Vec::new(), cases: Vec::new(), days: 0.0 };
    let mut seeds: BTreeMap<u64, String> = BTreeMap::new();
    for folder in folders {
        let name = folder.display().to_string();
        let of_run = match of_run(folder, &name, policy) {
            Ok(of_run) => of_run,
            Err(wrong) => {
                problems.extend(wrong);
                continue;
            }
        };
        let OfRun { report, cases } = of_run;
        if let Some(other) = seeds.insert(report.seed, name.clone()) {
            let seed = report.seed;
            let message = format!(
                "seed {seed} is also the seed of {other}: their agents draw the same traces, and an \
                 investigation may count only once"
            );
            problems.push(problem(&name, message));
            continue;
        }
        evidence.days += report.alerts_over_s / 86_400.0;
        evidence.runs.push(EvidenceRun {
            run: name,
            provider: report.provider,
            seed: report.seed,
            digest: report.digest,
            investigations: cases.len() as u64,
            reviewed: cases.iter().filter(|(_, case)| case.right.is_some()).count() as u64,
        });
        evidence.cases.extend(cases.into_iter().map(|(_, case)| case));
    }
    match problems.is_empty() {
        true => Ok(evidence),
        false => Err(WrongInput { files: Vec::new(), problems }.into()),
    }
}

fn problem(source: &str, message: String) -> Problem {
    Problem { source: source.to_owned(), place: None, message, help: None }
}

/// The problems that an error of reading reports.
fn problems_of(name: &str, error: &anyhow::Error) -> Vec<Problem> {
    match error.downcast_ref::<WrongInput>() {
        Some(wrong) => wrong.problems.clone(),
        None => vec![problem(name, format!("{error:#}"))],
    }
}

fn of_run(folder: &Path, name: &str, policy: &Policy) -> Result<OfRun, Vec<Problem>> {
    let wrong = |message: &str| vec![problem(name, message.to_owned())];
    let report = run_folder::expect_report(folder).map_err(|error| problems_of(name, &error))?;
    let mut problems = Vec::new();
    if let Some(why) = report.invalid.first() {
        problems.push(problem(name, format!("the run is invalid: {why}")));
    }
    if report.interrupted {
        let why = "the run was interrupted: the investigations that finished early are not representative";
        problems.push(problem(name, why.to_owned()));
    }
    if let Some(from) = policy.from.filter(|from| *from != report.phase) {
        let message =
            format!("its agents were in the phase {}, and the policy is for {from}", report.phase);
        problems.push(problem(name, message));
    }
    if report.world == World::Twin && !policy.twin_counts {
        let why =
            "it ran in the twin, and the policy accepts only real servers (twin_counts: false)";
        problems.push(problem(name, why.to_owned()));
    }
    if !run_folder::has(folder, run_folder::EVENTS) {
        problems.push(problem(
            name,
            "it has no event log, and each investigation is judged by its events".into(),
        ));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let (measures, cases) = folded(folder, name, policy)?;
    if measures.digest() != report.digest {
        return Err(wrong("its event log does not match its report"));
    }
    let plan = source::load_of_run(folder).map_err(|error| problems_of(name, &error))?;
    if plan.digest() != report.plan {
        return Err(wrong("its scenario does not match its report"));
    }
    let reviews = reviews(folder, &plan.with_seed(report.seed))?;
    let cases = cases.finish(|id| reviews.get(&id).copied());
    Ok(OfRun { report, cases })
}

fn folded(folder: &Path, name: &str, policy: &Policy) -> Result<(Measures, Cases), Vec<Problem>> {
    let cases = Cases::new(policy.from.unwrap_or(Phase::Shadow));
    let mut both = (Measures::default(), cases);
    let cut_off =
        run_folder::read_events(folder, &mut both).map_err(|error| problems_of(name, &error))?;
    if cut_off {
        return Err(vec![problem(name, "its event log is incomplete".to_owned())]);
    }
    both.0.close();
    Ok(both)
}

/// Which conclusions were right: by the reviews in the run's folder, else by the profile that the agent
/// was drawn from.
fn reviews(folder: &Path, plan: &Plan) -> Result<BTreeMap<InvestigationId, bool>, Vec<Problem>> {
    let drawn = plan.alerts().filter_map(|alert| Some((alert.id, plan.right(&alert)?)));
    let mut reviews: BTreeMap<InvestigationId, bool> = drawn.collect();
    let path = folder.join(REVIEWS);
    let text = match Folder::open(folder).and_then(|folder| folder.text(Path::new(REVIEWS))) {
        Ok(text) => text,
        Err(FileError::Missing) => return Ok(reviews),
        Err(error) => {
            let message = format!("the reviews could not be read: {error}");
            return Err(vec![problem(&path.display().to_string(), message)]);
        }
    };
    let mut problems = Vec::new();
    for line in json_lines(&Text::new(&text)) {
        match line.parse::<Review>() {
            Ok(review) => drop(reviews.insert(review.investigation, review.right)),
            Err((place, what)) => {
                let place = Some(place);
                let message = format!("not a review: {what}");
                let help = Some(r#"write `{"investigation": 3, "right": true}`"#.to_owned());
                problems.push(Problem { source: path.display().to_string(), place, message, help });
            }
        }
    }
    if problems.is_empty() { Ok(reviews) } else { Err(problems) }
}
