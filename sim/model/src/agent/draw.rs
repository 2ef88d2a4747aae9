//! Draws a trace from a profile.

use super::profile::{Profile, ToolUse};
use super::trace::{End, Ending, Step, Tool, Trace};
use crate::investigation::{Domain, InvestigationId};
use crate::phase::{Action, Verb};
use crate::quantity::Bytes;
use crate::seed::{Purpose, Stream};

/// Bound of a drawn number of hypotheses or calls; above it, the profile is wrong.
const CALLS_MAX: f64 = 1_000.0;

/// The trace of investigation `id`, which depends on (seed, id, domain, profile) alone.
pub fn trace(seed: u64, id: InvestigationId, domain: Domain, profile: &Profile) -> Trace {
    let stream = &mut Stream::new(seed, Purpose::Trace, id.0);
    let failures = &profile.failures;
    let fate = stream.pick(&[
        failures.crash.0,
        failures.oom.0,
        failures.endless_loop.0,
        failures.gives_up.0,
        (1.0 - failures.crash.0 - failures.oom.0 - failures.endless_loop.0 - failures.gives_up.0)
            .max(0.0),
    ]);
    let of = &profile.conclusions;
    let conclusion = stream.pick(&[of.resolved.0, of.inconclusive.0, of.escalated.0]);
    let hypotheses = whole(profile.hypotheses.dist.draw_base(stream));
    // An agent that fails does so after a random number of its hypotheses.
    let last = if fate == 4 { hypotheses } else { 1 + stream.below(hypotheses.max(1)) };

    let mut steps = Vec::with_capacity(16 * hypotheses as usize + 4);
    let mut memory = profile.memory.start.dist.draw(stream).0;
    steps.push(Step::Hold(Bytes(memory)));
    for n in 0..last.min(hypotheses) {
        hypothesis(&mut steps, stream, domain, profile);
        memory += profile.memory.per_hypothesis.dist.draw(stream).0;
        steps.push(Step::Hold(Bytes(memory)));
        mid_run(&mut steps, stream, profile, n, hypotheses);
    }
    if fate == 1 {
        leak(&mut steps, stream, profile, memory);
    }
    let ending = match (fate, conclusion) {
        (0 | 1, _) => Ending::Crash,
        (2, _) => Ending::EndlessLoop,
        (3, _) | (_, 1) => Ending::Inconclusive,
        (_, 2) => Ending::Escalated,
        _ => Ending::Resolved,
    };
    let end = End {
        ending,
        returns_credentials: !stream.chance(failures.keeps_credentials.0),
        stops_when_denied: stream.chance(profile.actions.stops_when_denied.0),
    };
    let at_start = profile.credentials.at_start.clone().unwrap_or_else(|| vec![domain]);
    Trace { domain, at_start, steps, end }
}

/// Whether a review finds the conclusion of investigation `id` right, where it resolves: a draw of
/// its own, so that reviews change nothing that agents do.
pub fn right(seed: u64, id: InvestigationId, profile: &Profile) -> bool {
    !Stream::new(seed, Purpose::Review, id.0).chance(profile.conclusions.wrong.0)
}

fn whole(n: f64) -> u64 {
    (n + 0.5).clamp(0.0, CALLS_MAX) as u64
}

fn hypothesis(steps: &mut Vec<Step>, stream: &mut Stream, domain: Domain, profile: &Profile) {
    let tools = &profile.tools;
    for (tool, usage) in [
        (Tool::Llm, &tools.llm),
        (Tool::LogSearch, &tools.log_search),
        (Tool::NetworkTelemetry, &tools.network_telemetry),
        (Tool::CloudStorage, &tools.cloud_storage),
    ] {
        for _ in 0..whole(usage.calls.dist.draw_base(stream)) {
            let think = profile.think.dist.draw(stream);
            if think.0 > 0 {
                steps.push(Step::Think(think));
            }
            steps.push(call(stream, tool, usage, profile));
        }
    }
    let actions = &profile.actions;
    for _ in 0..whole(actions.reads.dist.draw_base(stream)) {
        steps.push(act(stream, Verb::Read, domain, actions.foreign.0));
    }
    for (verb, share) in
        [(Verb::SafeWrite, actions.safe_write.0), (Verb::RiskyWrite, actions.risky_write.0)]
    {
        if stream.chance(share) {
            steps.push(act(stream, verb, domain, actions.foreign.0));
        }
    }
    steps.push(Step::Hypothesis);
}

fn call(stream: &mut Stream, tool: Tool, usage: &ToolUse, profile: &Profile) -> Step {
    let takes = usage.takes.dist.draw(stream);
    let tokens = usage.tokens.dist.draw_base(stream) as u32;
    let cost_micro_usd = (f64::from(tokens) * profile.usd_per_million_tokens.0) as u64;
    Step::Call { tool, takes, tokens, cost_micro_usd }
}

fn act(stream: &mut Stream, verb: Verb, home: Domain, foreign: f64) -> Step {
    let elsewhere = stream.chance(foreign);
    let other = 1 + stream.below(Domain::COUNT as u64 - 1) as usize;
    let target = if elsewhere { Domain::ALL[(home.index() + other) % Domain::COUNT] } else { home };
    Step::Act(Action { verb, target })
}

fn mid_run(steps: &mut Vec<Step>, stream: &mut Stream, profile: &Profile, n: u64, of: u64) {
    for need in &profile.credentials.mid_run {
        // One chance an investigation, at a hypothesis drawn for it.
        let when = stream.below(of.max(1));
        let happens = stream.chance(need.probability.0);
        if let (true, Some(domain)) = (when == n && happens, need.domain) {
            steps.push(Step::Need(domain));
        }
    }
}

/// Memory grows in steps, with the profile's own thinking between, until the limit is passed.
fn leak(steps: &mut Vec<Step>, stream: &mut Stream, profile: &Profile, from: u64) {
    let to = profile.memory.leak.dist.draw(stream).0;
    for part in 1..=8 {
        steps.push(Step::Think(profile.think.dist.draw(stream)));
        steps.push(Step::Hold(Bytes(from + to.saturating_sub(from) / 8 * part)));
    }
}
