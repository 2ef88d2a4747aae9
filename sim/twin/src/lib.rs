//! The twin: the whole platform in virtual time, deterministic, on one core.
//!
//! `world` holds the components side by side, `agenda` lists the events, and `dispatch` maps each to
//! its handler. A component has a module of its own: its state, private, and its handlers. Service
//! times that are not knobs are in `costs`.

mod agenda;
mod agent_process;
mod agents;
mod apiserver;
mod arena;
mod backend;
mod bucket;
mod call;
mod clients;
mod collector;
mod cores;
mod costs;
mod disk;
mod dispatch;
pub mod engine;
mod etcd;
mod fault;
mod host;
mod investigation;
mod job;
mod job_controller;
mod kubelet;
mod kwok;
mod lease;
mod machines;
mod meter;
mod node_lifecycle;
mod nodes;
mod path;
mod pod;
mod pool;
mod postgres;
mod recorder;
mod sample;
mod scheduler;
mod streams;
mod vault;
mod world;

use std::ops::ControlFlow;

use alertstorm_model::event::{Fact, Sink};
use alertstorm_model::scenario::Plan;
use alertstorm_model::time::Time;

use world::World;

/// The number of events between two calls of `watch`.
const WATCH_EVERY: u64 = 1 << 14;

/// The progress of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Virtual time since the run's start.
    pub now: Time,
    /// The number of events handled so far.
    pub events: u64,
}

/// Runs a plan to its end. All facts go to `sink`, in the order of time. `watch` is called every
/// 16,384 events and may stop the run, which is then recorded as interrupted.
pub fn run(
    plan: &Plan,
    sink: &mut dyn Sink,
    watch: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Progress {
    let mut world = World::new(plan, sink);
    world.begin();
    let mut next_watch = WATCH_EVERY;
    while world.step() {
        if world.engine.done() >= next_watch {
            next_watch += WATCH_EVERY;
            let progress = Progress { now: world.now(), events: world.engine.done() };
            if watch(progress).is_break() {
                world.platform_fact(Fact::Interrupted);
                break;
            }
        }
    }
    world.record_sample(true);
    Progress { now: world.now(), events: world.engine.done() }
}
