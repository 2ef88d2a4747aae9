//! From what was typed to what can run. Every problem of every file is collected before any is
//! told.

use std::sync::Arc;

use super::files::Files;
use super::plan::{Agents, AlertSource, Arrivals, FaultPlan, Plan};
use super::problem::{Problem, Problems, nearest};
use super::profiles::load_profiles;
use super::raw::{self, Alerts, FaultKind, Scenario, Spacing};
use super::yaml::Node;
use crate::agent::trace;
use crate::alert::alertmanager;
use crate::digest;
use crate::quantity::Quantity;
use crate::time::{Span, Time};

/// Profiles that need no file: name and text.
pub const BUILT_IN_PROFILES: &[(&str, &str)] = &[
    ("profiles/sre.yaml", include_str!("../../../../scenarios/profiles/sre.yaml")),
    (
        "profiles/ends-at-once.yaml",
        include_str!("../../../../scenarios/profiles/ends-at-once.yaml"),
    ),
];

/// More alerts than this are a typing error, not a scenario.
const ALERTS_MAX: f64 = 100_000_000.0;

/// A value set over the file's: `controller.concurrency=50`.
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
    let mut root = Node::parse(text, source)?;
    root.expand("controller", "admission");
    let mut problems = Vec::new();
    for Override { path, value } in overrides {
        let origin = format!("--set {path}={value}");
        problems.extend(root.set(path, value, &origin).err().into_iter().flatten());
    }
    let mut check = Check { found: Problems::default(), of_files: Vec::new(), files };
    let plan = match deserr::deserialize::<Scenario, _, Problems>(root.clone()) {
        Ok(scenario) => check.plan(named(scenario, source)),
        Err(wrong) => {
            check.rest_of(&root, &wrong, source);
            check.found.0.extend(wrong.0);
            None
        }
    };
    let located = check.found.0.into_iter().map(|at| root.locate(source, at));
    problems.extend(located.chain(check.of_files));
    match plan {
        Some(plan) if problems.is_empty() => Ok(plan),
        _ => Err(in_order(problems)),
    }
}

/// A scenario without a name has its file's.
fn named(mut scenario: Scenario, source: &str) -> Scenario {
    if scenario.name.is_empty() {
        scenario.name = stem(source);
    }
    scenario
}

pub(super) fn in_order(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by_key(|problem| problem.place);
    problems
}

/// The file's name without folder and ending.
fn stem(source: &str) -> String {
    let file = source.rsplit(['/', '\\']).next().unwrap_or(source);
    file.split('.').next().filter(|stem| !stem.is_empty()).unwrap_or("scenario").to_owned()
}

struct Check<'a> {
    found: Problems,
    of_files: Vec<Problem>,
    files: &'a dyn Files,
}

impl Check<'_> {
    /// Checks what can be read of a scenario that is wrong in places, so that a person hears of
    /// everything at once. What follows from the wrong places is not told.
    fn rest_of(&mut self, root: &Node, wrong: &Problems, source: &str) {
        let mut readable = root.clone();
        let left_out: Vec<_> = wrong.0.iter().map(|at| readable.leave_out(&at.path)).collect();
        if let Ok(scenario) = deserr::deserialize::<Scenario, _, Problems>(readable) {
            self.plan(named(scenario, source));
            self.found.0.retain(|at| {
                !left_out.iter().any(|out| out.starts_with(&at.path) || at.path.starts_with(out))
            });
        }
    }

    fn plan(&mut self, scenario: Scenario) -> Option<Plan> {
        if scenario.alerts.is_empty() {
            let help = Some("add a source, like `- flood: 10`".to_owned());
            self.found.add("alerts", "expected at least one source of alerts", help);
        }
        self.name(&scenario.name);
        let given = scenario.alerts.iter().enumerate();
        let sources: Vec<_> =
            given.filter_map(|(i, alerts)| self.source(&format!("alerts.{i}"), alerts)).collect();
        let expected: f64 = sources.iter().map(|source| source.arrivals.expected()).sum();
        if expected > ALERTS_MAX {
            let message = format!("{expected:.0} alerts are more than {ALERTS_MAX:.0}");
            self.found.add("alerts", message, Some("lower a rate or a time".to_owned()));
        }
        let agents = self.agents(&scenario.agents);
        let faults = self.faults(&scenario);
        self.knobs(&scenario);
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

    fn name(&mut self, name: &str) {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if !name.chars().all(plain) || name.starts_with('.') || name.len() > 80 {
            let message =
                format!("expected a name of letters, digits, `-` and `_`, found `{name}`");
            self.found.add("name", message, Some("it names the folder of the runs".to_owned()));
        }
    }

    fn source(&mut self, at: &str, typed: &Alerts) -> Option<AlertSource> {
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
            self.found.add(at, message, Some("write each source as an item of its own".to_owned()));
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
                self.found.add(&format!("{at}.{field}"), message, None);
            }
        }
        let arrivals = self.arrivals(at, kind, typed)?;
        let mut weights = |field: &str, given: Option<[f64; 4]>, usual: [f64; 4]| {
            let weights = given.unwrap_or(usual);
            if weights.iter().sum::<f64>() <= 0.0 {
                let message = "expected at least one weight above 0";
                self.found.add(&format!("{at}.{field}"), message, None);
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

    fn arrivals(&mut self, at: &str, kind: &str, typed: &Alerts) -> Option<Arrivals> {
        match kind {
            "flood" => Some(Arrivals::Flood {
                count: typed.flood?,
                over: typed.over.unwrap_or_default(),
                spacing: typed.spacing.unwrap_or(Spacing::Even),
            }),
            "poisson" => {
                let Some(lasts) = typed.lasts else {
                    let help = Some("add `for:`, like `for: 1h`".to_owned());
                    self.found.add(&format!("{at}.poisson"), "a rate needs its duration", help);
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
                        self.found.add(&at, "a step needs its duration", help);
                    }
                }
                if typed_steps.is_empty() {
                    self.found.add(&format!("{at}.steps"), "expected at least one step", None);
                }
                let steps = typed_steps.iter().map(|step| (step.rate.base(), step.lasts)).collect();
                Some(Arrivals::Rate { steps, spacing: typed.spacing.unwrap_or(Spacing::Even) })
            }
            _ => {
                let name = typed.replay.as_ref()?;
                let text = self.read(&format!("{at}.replay"), name)?;
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

    fn read(&mut self, at: &str, name: &str) -> Option<String> {
        self.files
            .read(name)
            .map_err(|why| {
                let message = format!("the file `{name}` could not be read: {why}");
                let help = Some("the path counts from the scenario's folder".to_owned());
                self.found.add(at, message, help);
            })
            .ok()
    }

    fn agents(&mut self, typed: &raw::Agents) -> Option<Agents> {
        match typed {
            raw::Agents::Profiles(name) => {
                let text = match self.files.read(name) {
                    Ok(text) => text,
                    Err(why) => self.built_in(name, &why)?,
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
                let text = self.read("agents.traces", name)?;
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

    fn built_in(&mut self, name: &str, why: &str) -> Option<String> {
        let known = BUILT_IN_PROFILES.iter().find(|(known, _)| *known == name);
        if known.is_none() {
            let names = BUILT_IN_PROFILES.iter().map(|(known, _)| *known);
            let help = nearest(name, names.clone()).map(|near| format!("did you mean `{near}`?"));
            let all: Vec<_> = names.collect();
            let message = format!(
                "the profiles `{name}` could not be read: {why}; built in are {}",
                all.join(", ")
            );
            self.found.add("agents", message, help);
        }
        known.map(|(_, text)| (*text).to_owned())
    }

    fn faults(&mut self, scenario: &Scenario) -> Vec<FaultPlan> {
        let mut faults = Vec::new();
        for (i, typed) in scenario.faults.iter().enumerate() {
            let at = format!("faults.{i}");
            let Some(kind) = typed.fault else {
                let message = format!("expected `fault:`, one of {}", FaultKind::WORDS.join(", "));
                self.found.add(&at, message, None);
                continue;
            };
            let nodes = scenario.cluster.nodes.get();
            if kind == FaultKind::NodeDown && typed.node >= nodes {
                let message = format!("expected a node below {nodes}, found {}", typed.node);
                self.found.add(&format!("{at}.node"), message, None);
            }
            if typed.lasts.0 == 0 {
                self.found.add(&format!("{at}.for"), "expected a time above 0", None);
            }
            let from = Time::ZERO + typed.at;
            let until = from + typed.lasts;
            faults.push(FaultPlan { kind, from, until, node: typed.node, extra: typed.extra });
        }
        faults.sort_by_key(|fault| fault.from);
        for (i, fault) in faults.iter().enumerate() {
            let overlaps = |other: &FaultPlan| {
                other.kind == fault.kind && other.node == fault.node && other.from < fault.until
            };
            if faults[i + 1..].iter().any(overlaps) {
                let message = format!("two faults `{}` overlap", fault.kind);
                self.found.add("faults", message, Some("make one of them".to_owned()));
            }
        }
        faults
    }

    fn above_zero(&mut self, path: &str, span: Span) {
        if span.0 == 0 {
            self.found.add(path, "expected a time above 0", None);
        }
    }

    fn knobs(&mut self, scenario: &Scenario) {
        let job = &scenario.controller.job;
        self.above_zero("controller.job.active_deadline", job.active_deadline);
        self.above_zero("vault.token_ttl", scenario.vault.token_ttl);
        self.above_zero("cluster.node.relist_period", scenario.cluster.node.relist_period);
        let etcd = &scenario.cluster.control_plane.etcd;
        let path = "cluster.control_plane.etcd.compaction_interval";
        self.above_zero(path, etcd.compaction_interval);
        if let Some(budget) = &scenario.controller.cost_budget {
            self.above_zero("controller.cost_budget.per", budget.per);
            if budget.reserve_usd.0 > budget.usd.0 {
                let message = "one investigation's reserve is above the whole budget";
                self.found.add("controller.cost_budget.reserve_usd", message, None);
            }
        }
        for &domain in crate::investigation::Domain::ALL {
            let engine = scenario.vault.secrets.of(domain);
            self.above_zero(&format!("vault.secrets.{domain}.ttl"), engine.ttl);
            self.above_zero(&format!("vault.secrets.{domain}.max_ttl"), engine.max_ttl);
        }
        let node = &scenario.cluster.node;
        if job.memory_request > node.memory {
            let message = "the Job asks for more memory than a node has";
            self.found.add("controller.job.memory_request", message, None);
        }
        if job.memory_request > job.memory_limit {
            let message = "the request is above the limit";
            self.found.add("controller.job.memory_request", message, None);
        }
        if job.cpu_request_millis > node.cpu.get() * 1000 {
            let message = "the Job asks for more CPU than a node has";
            self.found.add("controller.job.cpu_request_millis", message, None);
        }
    }
}

/// Of what decides a run: neither names of files, nor the question, nor what is demanded of it.
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
