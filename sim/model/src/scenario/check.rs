//! From a scenario's text to its plan. The problems of all files are collected first and returned
//! together.

use std::sync::Arc;

use super::bounds;
use super::files::{Files, NoFiles};
use super::plan::{Agents, Plan};
use super::profiles::load_profiles;
use super::raw::{self, Alerts, Scenario};
use crate::agent::trace;
use crate::alert::{AlertSource, Arrivals, Spacing, alertmanager};
use crate::digest;
use crate::input::{Node, Problem, Problems, in_order, make, nearest};
use crate::quantity::Quantity;
use crate::time::{Span, Time};

/// Name and text of the profiles that are compiled in; a file of the same name takes precedence.
pub const BUILT_IN_PROFILES: &[(&str, &str)] = &[
    ("profiles/sre.yaml", include_str!("../../../../scenarios/profiles/sre.yaml")),
    (
        "profiles/ends-at-once.yaml",
        include_str!("../../../../scenarios/profiles/ends-at-once.yaml"),
    ),
];

/// A scenario with more alerts than this is taken for a typing error.
const ALERTS_MAX: f64 = 100_000_000.0;

/// A value that replaces the file's, like `controller.concurrency=50`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The dotted path.
    pub path: String,
    /// The value, as YAML.
    pub value: String,
}

/// Reads, overrides and checks a scenario. `source` names it in problems.
///
/// # Errors
/// Everything that is wrong with it and with the files that it names.
pub fn load(
    text: &str,
    source: &str,
    overrides: &[Override],
    files: &dyn Files,
) -> Result<Plan, Vec<Problem>> {
    let root = Node::parse(text, source)?;
    let mut check = Check { of_files: Vec::new(), files, known: None };
    check.tree(root, source, overrides, origin)
}

/// Checks a scenario that was made of `known`'s. Files that both name are not read again; other
/// files cannot be read.
pub(super) fn anew(
    scenario: &Scenario,
    overrides: &[Override],
    known: &Plan,
) -> Result<Plan, Vec<Problem>> {
    let root = Node::of_fields(&digest::value_of(scenario), "");
    let mut check = Check { of_files: Vec::new(), files: &NoFiles, known: Some(known) };
    let origin = |of: &Override| format!("{}={}", of.path, of.value);
    check.tree(root, &scenario.name, overrides, origin)
}

/// Problems with values of a scenario that [`load`] accepts, such as those that depend on where it
/// runs. Each gets its place in the text, or names the override that set the value.
///
/// ```
/// use alertstorm_model::scenario::{Problems, locate};
///
/// let mut found = Problems::default();
/// found.add("cluster.node.runtime", "expected `kubelet`", None);
/// let problems = locate("cluster:\n  node: {runtime: kwok}", "night.yaml", &[], found);
/// assert_eq!(problems[0].to_string(), "night.yaml:2:19: expected `kubelet`");
/// ```
pub fn locate(text: &str, source: &str, overrides: &[Override], found: Problems) -> Vec<Problem> {
    let mut root = match Node::parse(text, source) {
        Ok(root) => root,
        Err(problems) => return problems,
    };
    root.expand("controller", "admission");
    let set = overrides.iter().map(|set| root.set(&set.path, &set.value, &origin(set)));
    let mut problems: Vec<Problem> = set.filter_map(Result::err).flatten().collect();
    problems.extend(found.0.into_iter().map(|at| root.locate(source, at)));
    in_order(problems)
}

/// How an override is named in problems.
fn origin(of: &Override) -> String {
    format!("--set {}={}", of.path, of.value)
}

/// The file's name without folder and ending.
fn stem(source: &str) -> String {
    let file = source.rsplit(['/', '\\']).next().unwrap_or(source);
    file.split('.').next().filter(|stem| !stem.is_empty()).unwrap_or("scenario").to_owned()
}

struct Check<'a> {
    /// Problems of the files that the scenario names.
    of_files: Vec<Problem>,
    files: &'a dyn Files,
    /// A plan whose files need not be read again.
    known: Option<&'a Plan>,
}

impl Check<'_> {
    fn tree(
        &mut self,
        mut root: Node,
        source: &str,
        overrides: &[Override],
        origin: impl Fn(&Override) -> String,
    ) -> Result<Plan, Vec<Problem>> {
        root.expand("controller", "admission");
        let mut problems = Vec::new();
        for set in overrides {
            let wrong = root.set(&set.path, &set.value, &origin(set)).err();
            problems.extend(wrong.into_iter().flatten());
        }
        let made = make(&root, |mut scenario: Scenario, found| {
            if scenario.name.is_empty() {
                scenario.name = stem(source);
            }
            self.plan(scenario, found)
        });
        let found = made.as_ref().err().into_iter().flat_map(|found| found.0.clone());
        problems.extend(found.map(|at| root.locate(source, at)));
        problems.append(&mut self.of_files);
        match made {
            Ok(plan) if problems.is_empty() => Ok(plan),
            _ => Err(in_order(problems)),
        }
    }

    fn plan(&mut self, scenario: Scenario, found: &mut Problems) -> Option<Plan> {
        if scenario.alerts.is_empty() {
            let help = Some("add a source, like `- flood: 10`".to_owned());
            found.add("alerts", "expected at least one source of alerts", help);
        }
        bounds::name(&scenario.name, found);
        let given = scenario.alerts.iter().enumerate();
        let sources: Vec<_> = given
            .filter_map(|(i, alerts)| self.source(&format!("alerts.{i}"), alerts, found))
            .collect();
        let expected: f64 = sources.iter().map(|source| source.arrivals.expected()).sum();
        if expected > ALERTS_MAX {
            let message = format!("{expected:.0} alerts are more than {ALERTS_MAX:.0}");
            found.add("alerts", message, Some("lower a rate or a time".to_owned()));
        }
        let agents = self.agents(&scenario.agents, found);
        let faults = bounds::faults(&scenario, found);
        bounds::knobs(&scenario, found);
        let digest = plan_digest(&scenario, &sources, agents.as_ref());
        let mut plan = Plan {
            agents: agents?,
            sources,
            faults,
            alerts_expected: expected as u64,
            sample_every: scenario.limits.sample_every,
            digest,
            scenario,
        };
        if plan.sample_every.0 == 0 {
            // About 300 samples over the alerts and the longest investigation after them.
            let span = plan.alerts_last() + plan.scenario.controller.job.active_deadline;
            plan.sample_every = Span::secs((span.0 / Span::secs(300).0).max(1));
        }
        Some(plan)
    }

    fn source(&mut self, at: &str, typed: &Alerts, found: &mut Problems) -> Option<AlertSource> {
        let given = [
            ("flood", typed.flood.is_some()),
            ("poisson", typed.poisson.is_some()),
            ("steps", typed.steps.is_some()),
            ("replay", typed.replay.is_some()),
        ];
        let kinds: Vec<&str> = given.iter().filter(|(_, is)| *is).map(|(kind, _)| *kind).collect();
        let [kind] = kinds[..] else {
            let message = match kinds.len() {
                0 => "expected one of flood, poisson, steps, replay".to_owned(),
                _ => format!("expected one kind of source, found {}", kinds.join(" and ")),
            };
            found.add(at, message, Some("write each source as an item of its own".to_owned()));
            return None;
        };
        for (field, given, of) in [
            ("over", typed.over.is_some(), &["flood"][..]),
            ("for", typed.lasts.is_some(), &["poisson"]),
            ("speed", typed.speed.is_some(), &["replay"]),
            ("spacing", typed.spacing.is_some(), &["flood", "steps"]),
            ("fingerprints", typed.fingerprints.is_some(), &["flood", "poisson", "steps"]),
        ] {
            if given && !of.contains(&kind) {
                let message = format!("`{field}` belongs to {}, not to {kind}", of.join(" or "));
                found.add(&format!("{at}.{field}"), message, None);
            }
        }
        let arrivals = self.arrivals(at, kind, typed, found)?;
        let mut weights = |field: &str, given: Option<[f64; 4]>, usual: [f64; 4]| {
            let weights = given.unwrap_or(usual);
            if weights.iter().sum::<f64>() <= 0.0 {
                let message = "expected at least one weight above 0";
                found.add(&format!("{at}.{field}"), message, None);
            }
            weights
        };
        Some(AlertSource {
            arrivals,
            start: Time::ZERO + typed.at,
            domains: weights("mix", typed.mix.map(|mix| mix.weights()), [40.0, 25.0, 25.0, 10.0]),
            severities: weights(
                "severities",
                typed.severities.map(|mix| mix.weights()),
                [5.0, 20.0, 45.0, 30.0],
            ),
            fingerprints: typed.fingerprints.map(std::num::NonZeroU64::get),
        })
    }

    fn arrivals(
        &mut self,
        at: &str,
        kind: &str,
        typed: &Alerts,
        found: &mut Problems,
    ) -> Option<Arrivals> {
        match kind {
            "flood" => Some(Arrivals::Flood {
                count: typed.flood?,
                over: typed.over.unwrap_or_default(),
                spacing: typed.spacing.unwrap_or(Spacing::Even),
            }),
            "poisson" => {
                let Some(lasts) = typed.lasts else {
                    let help = Some("add `for:`, like `for: 1h`".to_owned());
                    found.add(&format!("{at}.poisson"), "a rate needs its duration", help);
                    return None;
                };
                let steps = vec![(typed.poisson?.base(), lasts)];
                Some(Arrivals::Rate { steps, spacing: Spacing::Poisson })
            }
            "steps" => {
                let typed_steps = typed.steps.as_ref()?;
                for (i, step) in typed_steps.iter().enumerate() {
                    if step.lasts.0 == 0 {
                        let help = Some("add `for:`, like `for: 10m`".to_owned());
                        let at = format!("{at}.steps.{i}");
                        found.add(&at, "a step needs its duration", help);
                    }
                }
                if typed_steps.is_empty() {
                    found.add(&format!("{at}.steps"), "expected at least one step", None);
                }
                let steps = typed_steps.iter().map(|step| (step.rate.base(), step.lasts)).collect();
                Some(Arrivals::Rate { steps, spacing: typed.spacing.unwrap_or(Spacing::Even) })
            }
            _ => {
                let name = typed.replay.as_ref()?;
                if let Some(known) = self.known_replay(typed) {
                    return Some(known);
                }
                let text = self.read(&format!("{at}.replay"), name, found)?;
                let speed = typed.speed.map_or(1.0, |speed| speed.0);
                match alertmanager::read(&text, name, speed) {
                    Ok(alerts) => Some(Arrivals::Replay { alerts: alerts.into() }),
                    Err(problems) => {
                        self.of_files.extend(problems);
                        None
                    }
                }
            }
        }
    }

    fn read(&self, at: &str, name: &str, found: &mut Problems) -> Option<String> {
        self.files
            .read(name)
            .map_err(|why| {
                let message = format!("the file `{name}` could not be read: {why}");
                let help = Some("the path counts from the scenario's folder".to_owned());
                found.add(at, message, help);
            })
            .ok()
    }

    fn agents(&mut self, typed: &raw::Agents, found: &mut Problems) -> Option<Agents> {
        if let Some(known) = self.known.filter(|known| known.scenario.agents == *typed) {
            return Some(known.agents.clone());
        }
        match typed {
            raw::Agents::Profiles(name) => {
                let text = match self.files.read(name) {
                    Ok(text) => text,
                    Err(why) => built_in(name, &why, found)?,
                };
                match load_profiles(&text, name) {
                    Ok(profiles) => Some(Agents::Profiles(Arc::new(profiles))),
                    Err(problems) => {
                        self.of_files.extend(problems);
                        None
                    }
                }
            }
            raw::Agents::Traces { traces: name } => {
                let text = self.read("agents.traces", name, found)?;
                match trace::read(&text, name) {
                    Ok(traces) => Some(Agents::Traces(traces.into())),
                    Err(problems) => {
                        self.of_files.extend(problems);
                        None
                    }
                }
            }
        }
    }

    /// The alerts of a replay that `known` has at the same speed.
    fn known_replay(&self, typed: &Alerts) -> Option<Arrivals> {
        let known = self.known?;
        let mut both = known.scenario.alerts.iter().zip(&known.sources);
        both.find(|(of, _)| of.replay == typed.replay && of.speed == typed.speed)
            .map(|(_, source)| source.arrivals.clone())
    }
}

fn built_in(name: &str, why: &str, found: &mut Problems) -> Option<String> {
    let known = BUILT_IN_PROFILES.iter().find(|(known, _)| *known == name);
    if known.is_none() {
        let names = BUILT_IN_PROFILES.iter().map(|(known, _)| *known);
        let help = nearest(name, names.clone()).map(|near| format!("did you mean `{near}`?"));
        let all: Vec<_> = names.collect();
        let message = format!(
            "the profiles `{name}` could not be read: {why}; built in are {}",
            all.join(", ")
        );
        found.add("agents", message, help);
    }
    known.map(|(_, text)| (*text).to_owned())
}

/// The digest of all that decides a run; names of files, the question and the objectives do not.
fn plan_digest(scenario: &Scenario, sources: &[AlertSource], agents: Option<&Agents>) -> String {
    let mut scenario = scenario.clone();
    scenario.seed = 0;
    scenario.name.clear();
    scenario.question.clear();
    scenario.slos.clear();
    scenario.agents = raw::Agents::default();
    for alerts in &mut scenario.alerts {
        alerts.replay = None;
    }
    let knobs = digest::json_of(&scenario);
    let agents = match agents {
        Some(Agents::Profiles(profiles)) => digest::json_of(&**profiles),
        Some(Agents::Traces(traces)) => format!("{traces:?}"),
        None => String::new(),
    };
    digest::of_text(&format!("{knobs}\n{sources:?}\n{agents}"))
}
