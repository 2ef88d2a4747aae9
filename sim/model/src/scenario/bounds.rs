//! Checks of a scenario's fields that types cannot express: bounds, and fields that must fit each
//! other.

use super::plan::FaultPlan;
use super::raw::{FaultKind, Scenario};
use crate::input::Problems;
use crate::investigation::Domain;
use crate::time::{Span, Time};

/// The name becomes the name of a folder.
pub(super) fn name(name: &str, found: &mut Problems) {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !name.chars().all(plain) || name.starts_with('.') || name.len() > 80 {
        let message = format!("expected a name of letters, digits, `-` and `_`, found `{name}`");
        found.add("name", message, Some("it names the folder of the runs".to_owned()));
    }
}

/// The faults in the order of their begin.
pub(super) fn faults(scenario: &Scenario, found: &mut Problems) -> Vec<FaultPlan> {
    let mut faults = Vec::new();
    for (i, typed) in scenario.faults.iter().enumerate() {
        let at = format!("faults.{i}");
        let Some(kind) = typed.fault else {
            let message = format!("expected `fault:`, one of {}", FaultKind::WORDS.join(", "));
            found.add(&at, message, None);
            continue;
        };
        let nodes = scenario.cluster.nodes.get();
        if kind == FaultKind::NodeDown && typed.node >= nodes {
            let message = format!("expected a node below {nodes}, found {}", typed.node);
            found.add(&format!("{at}.node"), message, None);
        }
        if typed.lasts.0 == 0 {
            found.add(&format!("{at}.for"), "expected a time above 0", None);
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
            found.add("faults", message, Some("make one of them".to_owned()));
        }
    }
    faults
}

fn above_zero(path: &str, span: Span, found: &mut Problems) {
    if span.0 == 0 {
        found.add(path, "expected a time above 0", None);
    }
}

/// The settings of the platform.
pub(super) fn knobs(scenario: &Scenario, found: &mut Problems) {
    let job = &scenario.controller.job;
    above_zero("controller.job.active_deadline", job.active_deadline, found);
    above_zero("vault.token_ttl", scenario.vault.token_ttl, found);
    above_zero("cluster.node.relist_period", scenario.cluster.node.relist_period, found);
    let etcd = &scenario.cluster.control_plane.etcd;
    let path = "cluster.control_plane.etcd.compaction_interval";
    above_zero(path, etcd.compaction_interval, found);
    if let Some(budget) = &scenario.controller.cost_budget {
        above_zero("controller.cost_budget.per", budget.per, found);
        if budget.reserve_usd.0 > budget.usd.0 {
            let message = "one investigation's reserve is above the whole budget";
            found.add("controller.cost_budget.reserve_usd", message, None);
        }
    }
    for &domain in Domain::ALL {
        let engine = scenario.vault.secrets.of(domain);
        above_zero(&format!("vault.secrets.{domain}.ttl"), engine.ttl, found);
        above_zero(&format!("vault.secrets.{domain}.max_ttl"), engine.max_ttl, found);
    }
    let node = &scenario.cluster.node;
    if job.memory_request > node.memory {
        let message = "the Job asks for more memory than a node has";
        found.add("controller.job.memory_request", message, None);
    }
    if job.memory_request > job.memory_limit {
        let message = "the request is above the limit";
        found.add("controller.job.memory_request", message, None);
    }
    if job.cpu_request_millis > node.cpu.get() * 1000 {
        let message = "the Job asks for more CPU than a node has";
        found.add("controller.job.cpu_request_millis", message, None);
    }
}
