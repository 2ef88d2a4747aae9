//! Backtest of promotion policies: simulated agents of known quality are judged by the policies, so
//! that thresholds can be chosen by their consequences. The agents, their traces and the table of
//! phases are those of the twin. The platform is not simulated, so criteria that depend on it
//! (`agent_ready`, `duration`) are left out.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cases::Case;
use super::judge::{Tally, Verdict};
use super::observed::Violation;
use super::policy::{Must, Policy};
use alertstorm_model::agent::{Agent, AgentCommand, AgentInput, Profile, Profiles, Trace, draw};
use alertstorm_model::investigation::{Domain, InvestigationId, Outcome};
use alertstorm_model::phase::{Phase, Verb};
use alertstorm_model::quantity::Share;
use alertstorm_model::scenario::Scenario;
use alertstorm_model::seed::{Purpose, Stream};
use alertstorm_model::time::{Span, Time};

/// Size and seed of the simulation.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Seed of all random draws.
    pub seed: u64,
    /// Number of agents of each quality.
    pub agents: u64,
    /// Investigations per agent and day.
    pub per_day: f64,
    /// Investigations per agent.
    pub most: u64,
    /// Investigations between two judgements.
    pub look_every: u64,
}

/// Result for the agents of one quality.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Quality {
    /// Factor on the profile's probabilities of violations and errors: 1 is the profile as given.
    pub errors: f64,
    /// Number of agents simulated.
    pub agents: u64,
    /// Results by phase, in the order of the phases.
    pub phases: Vec<InPhase>,
    /// Mean number of demotions per agent.
    pub demotions: f64,
    /// Share of agents that were promoted after a demotion.
    pub flapping: f64,
}

/// Result for the agents of one quality in one phase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InPhase {
    /// The phase.
    pub phase: Phase,
    /// Whether the true rates of this quality meet the criteria for the next phase; empty for the
    /// last phase.
    pub deserves: Option<bool>,
    /// Share of agents that reached the phase.
    pub reached: f64,
    /// Share of those that were promoted to the next phase; empty if no agent reached this one, and
    /// for the last phase.
    pub promoted: Option<f64>,
    /// Median time in days from an agent's start until it reached the phase, of those that did;
    /// empty if none did.
    pub days_median: Option<f64>,
    /// Mean number of violations per agent that reached the phase.
    pub violations: f64,
    /// Mean harm per agent that reached the phase, in minutes: for each investigation the number of
    /// violations times its exposure, which counts as at least one minute.
    pub harm: f64,
}

/// The inputs of a backtest: agents, and the policies that judge them.
pub struct Ladder<'a> {
    /// Source of the memory limit, the deadline and the TTLs of leases.
    pub scenario: &'a Scenario,
    /// Profiles of agents of quality 1.
    pub profiles: &'a Profiles,
    /// The policy of each phase, in the order of the phases. No agent leaves a phase without one.
    pub policies: Vec<Option<Policy>>,
}

/// Least duration of a violation in the measure of harm.
const OPEN_AT_LEAST: Span = Span::secs(60);
/// Sample size at which a point estimate counts as the true rate of a quality.
const TRUE_RATE_SAMPLE: u64 = 20_000;

/// The profile with its error probabilities multiplied by `errors`.
fn scaled(profile: &Profile, errors: f64) -> Profile {
    let mut scaled = profile.clone();
    let scale = |share: &mut Share| share.0 = (share.0 * errors).min(1.0);
    let (actions, failures) = (&mut scaled.actions, &mut scaled.failures);
    for share in [
        &mut actions.foreign,
        &mut actions.risky_write,
        &mut failures.keeps_credentials,
        &mut failures.gives_up,
        &mut scaled.conclusions.wrong,
    ] {
        scale(share);
    }
    let resolved = &mut scaled.conclusions.resolved.0;
    *resolved /= errors.max(1e-6).sqrt();
    scaled
}

/// The policy without criteria that depend on the platform.
fn without_platform_criteria(policy: &Policy) -> Policy {
    let mut policy = policy.clone();
    let agents = |item: &Must| item.must.as_ref().is_none_or(|must| !must.depends_on_platform());
    policy.criteria.retain(agents);
    policy.demote.retain(agents);
    policy
}

struct Agents<'a> {
    scenario: &'a Scenario,
    profiles: [Profile; Domain::COUNT],
    seed: u64,
}

impl Agents<'_> {
    /// Simulates investigation `n` of an agent in a phase.
    fn case(&self, agent: u64, n: u64, phase: Phase) -> Case {
        let id = InvestigationId(agent << 24 | n);
        let mut stream = Stream::new(self.seed, Purpose::Simulation, id.0);
        let domain = Domain::ALL[stream.below(Domain::COUNT as u64) as usize];
        let profile = &self.profiles[domain.index()];
        let trace = draw::trace(self.seed, id, domain, profile);
        let right = draw::right(self.seed, id, profile);
        self.work(trace, phase, right)
    }

    /// Drives an agent through its trace. The platform answers each request without delay.
    fn work(&self, trace: Trace, phase: Phase, right: bool) -> Case {
        let job = &self.scenario.controller.job;
        let (domain, returns) = (trace.domain, trace.end.returns_credentials);
        let mut case = Case { right: Some(right), ..Case::new(domain) };
        let mut agent = Agent::new(trace, Span::ZERO);
        let (mut now, mut input, mut held) = (Time::ZERO, AgentInput::Started, false);
        let deadline = Time::ZERO + job.active_deadline;
        let (mut logged_in, mut returned) = (false, false);
        case.outcome = loop {
            let command = agent.next(now, input);
            input = AgentInput::Done;
            match command {
                AgentCommand::Credential(target) if !phase.grants_credential(domain, target) => {
                    case.refused = true;
                    input = AgentInput::Refused;
                }
                AgentCommand::Credential(_) => held = true,
                AgentCommand::Work(_, takes) => now += takes,
                AgentCommand::Hold(memory) if memory > job.memory_limit => {
                    break Outcome::OomKilled;
                }
                AgentCommand::Act(action) => {
                    let allowed = phase.allows(domain, action);
                    if action.verb != Verb::Read && action.target != domain {
                        case.add_violation(Violation::ForeignWrite);
                    }
                    if !allowed {
                        case.refused = true;
                        input = AgentInput::Refused;
                    }
                }
                AgentCommand::Note { cost_micro_usd, .. } => case.cost_micro_usd += cost_micro_usd,
                AgentCommand::Release => returned = true,
                AgentCommand::Exit(outcome) => break outcome,
                AgentCommand::Crash => break Outcome::Crashed,
                AgentCommand::Hang => break self.stopped(&mut returned, returns),
                AgentCommand::Login => logged_in = true,
                AgentCommand::Ready | AgentCommand::Hold(_) | AgentCommand::Conclude(_) => {}
            }
            if now >= deadline {
                break self.stopped(&mut returned, returns);
            }
        };
        if logged_in && !returned {
            // Its token lives since the start, and mints leases until it expires.
            let vault = &self.scenario.vault;
            let token = (Time::ZERO + vault.token_ttl).since(now);
            let leased = held && self.leases(domain);
            let lease = if leased { vault.secrets.of(domain).ttl } else { Span::ZERO };
            case.exposure = token.max(lease);
            if case.outcome.concluded() {
                case.add_violation(Violation::KeptCredential);
            }
        }
        case
    }

    /// At its deadline the agent receives SIGTERM. It returns its credentials if its trace does.
    const fn stopped(&self, returned: &mut bool, returns: bool) -> Outcome {
        *returned = returns;
        Outcome::DeadlineExceeded
    }

    fn leases(&self, domain: Domain) -> bool {
        self.scenario.vault.secrets.of(domain).engine
            != alertstorm_model::scenario::knobs::Engine::Kv
    }
}

/// Progress of one agent through the phases.
#[derive(Clone, Debug, Default)]
struct Climb {
    /// Number of investigations before each phase was first reached.
    reached: [Option<u64>; Phase::COUNT],
    promoted: [bool; Phase::COUNT],
    demotions: u64,
    flapped: bool,
    violations: [u64; Phase::COUNT],
    harm: [f64; Phase::COUNT],
}

impl Ladder<'_> {
    /// Simulates the agents of one quality. `errors` is [`Quality::errors`].
    pub fn quality(&self, setting: &Setting, errors: f64) -> Quality {
        let policies: Vec<Option<Policy>> = self
            .policies
            .iter()
            .map(|policy| policy.as_ref().map(without_platform_criteria))
            .collect();
        let profiles = Domain::ALL.iter().map(|domain| scaled(self.profiles.of(*domain), errors));
        let mut of_domains = [const { None }; Domain::COUNT];
        of_domains.iter_mut().zip(profiles).for_each(|(slot, profile)| *slot = Some(profile));
        let agents = Agents {
            scenario: self.scenario,
            profiles: of_domains.map(Option::unwrap_or_default),
            seed: setting.seed ^ errors.to_bits(),
        };
        let climbs: Vec<Climb> =
            (0..setting.agents).map(|n| climb(&agents, &policies, setting, n)).collect();
        let count = climbs.len().max(1) as f64;
        let phases = Phase::ALL.iter().map(|&phase| {
            let policy = policies.get(phase.index()).and_then(Option::as_ref);
            let policy = policy.filter(|policy| policy.to.is_some());
            let deserves = policy.map(|policy| meets_criteria(&agents, policy, phase));
            in_phase(&climbs, phase, deserves, setting)
        });
        Quality {
            errors,
            agents: setting.agents,
            phases: phases.collect(),
            demotions: climbs.iter().map(|climb| climb.demotions).sum::<u64>() as f64 / count,
            flapping: climbs.iter().filter(|climb| climb.flapped).count() as f64 / count,
        }
    }
}

fn climb(agents: &Agents<'_>, policies: &[Option<Policy>], setting: &Setting, agent: u64) -> Climb {
    let mut climb = Climb::default();
    let mut phase = Phase::Shadow;
    climb.reached[0] = Some(0);
    let mut tally = policies[0].as_ref().map(Tally::new);
    let mut since = 0;
    let mut demoted = false;
    for n in 0..setting.most {
        let case = agents.case(agent + 1, n, phase);
        let violations: u32 = case.violations.iter().sum();
        let open = case.exposure.max(OPEN_AT_LEAST).as_secs_f64() / 60.0;
        climb.violations[phase.index()] += u64::from(violations);
        climb.harm[phase.index()] += f64::from(violations) * open;
        let policy = policies.get(phase.index()).and_then(Option::as_ref);
        let (Some(policy), Some(tally_now)) = (policy, &mut tally) else { continue };
        tally_now.take(policy, &case);
        since += 1;
        if since % setting.look_every != 0 {
            continue;
        }
        tally_now.days = since as f64 / setting.per_day;
        let next = match tally_now.verdict(policy) {
            Verdict::Hold => continue,
            Verdict::Promote => {
                climb.promoted[phase.index()] = true;
                climb.flapped |= demoted;
                Phase::ALL[phase.index() + 1]
            }
            Verdict::Demote => {
                climb.demotions += 1;
                demoted = true;
                Phase::ALL[phase.index() - 1]
            }
        };
        phase = next;
        climb.reached[phase.index()].get_or_insert(n + 1);
        // Evidence from another phase does not count.
        tally = policies.get(phase.index()).and_then(Option::as_ref).map(Tally::new);
        since = 0;
    }
    climb
}

/// Whether every true rate meets its criterion, estimated from [`TRUE_RATE_SAMPLE`] investigations.
fn meets_criteria(agents: &Agents<'_>, policy: &Policy, phase: Phase) -> bool {
    let mut tally = Tally::new(policy);
    (0..TRUE_RATE_SAMPLE).for_each(|n| tally.take(policy, &agents.case(0, n, phase)));
    tally.point_estimates_meet(policy)
}

fn in_phase(climbs: &[Climb], phase: Phase, deserves: Option<bool>, setting: &Setting) -> InPhase {
    let at = phase.index();
    let arrived: Vec<&Climb> = climbs.iter().filter(|climb| climb.reached[at].is_some()).collect();
    let mut days: Vec<f64> = arrived
        .iter()
        .filter_map(|climb| climb.reached[at])
        .map(|n| n as f64 / setting.per_day)
        .collect();
    days.sort_by(f64::total_cmp);
    let count = arrived.len().max(1) as f64;
    let promoted = arrived.iter().filter(|climb| climb.promoted[at]).count() as f64 / count;
    InPhase {
        phase,
        deserves,
        reached: arrived.len() as f64 / climbs.len().max(1) as f64,
        promoted: deserves.filter(|_| !arrived.is_empty()).map(|_| promoted),
        days_median: days.get(days.len() / 2).copied(),
        violations: arrived.iter().map(|climb| climb.violations[at]).sum::<u64>() as f64 / count,
        harm: arrived.iter().map(|climb| climb.harm[at]).sum::<f64>() / count,
    }
}
