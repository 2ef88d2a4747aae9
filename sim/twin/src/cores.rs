//! A machine with one process, which takes its work in the order of arrival.

use alertstorm_model::event::CpuUse;
use alertstorm_model::time::{Span, Time};

#[derive(Debug)]
pub(crate) struct Cores {
    /// Of the machine and of its process.
    name: &'static str,
    /// When each core becomes idle.
    free: Vec<Time>,
    busy: u64,
}

impl Cores {
    pub fn new(name: &'static str, cores: u32) -> Self {
        Self { name, free: vec![Time::ZERO; cores as usize], busy: 0 }
    }

    /// Queues a task on the core that becomes idle first; returns when it ends.
    pub fn run(&mut self, now: Time, cost: Span) -> Time {
        self.busy += cost.0;
        let mut first = 0;
        for core in 1..self.free.len() {
            if self.free[core] < self.free[first] {
                first = core;
            }
        }
        let done = self.free[first].max(now) + cost;
        self.free[first] = done;
        done
    }

    pub fn usage(&self) -> CpuUse {
        CpuUse {
            host: self.name.to_owned(),
            cores: self.free.len() as u32,
            process: self.name.to_owned(),
            busy_ns: self.busy,
            resident_bytes: None,
        }
    }
}
