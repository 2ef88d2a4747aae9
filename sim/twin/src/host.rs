//! A machine whose cores are shared by what runs on it.
//!
//! Each process takes its own work in the order of its coming, on as many threads as there are
//! cores; the threads of all processes share the cores alike, as the kernel's fair scheduler has
//! it. While fewer threads run than there are cores nobody is slowed down, and a piece of work is
//! simply over after its cost; only when they compete does the machine keep its books event by
//! event.

use std::collections::VecDeque;

use alertstorm_model::event::CpuUse;
use alertstorm_model::time::{Span, Time};

use crate::arena::Key;
use crate::investigation::Inv;

/// What runs on a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Process {
    ApiServer,
    Etcd,
    ControllerManager,
    Scheduler,
    Nodes,
    Backend,
    Vault,
    Postgres,
}

impl Process {
    /// Threads that compete for the cores: etcd applies, and the controller manager's and the
    /// scheduler's informers and caches take their events, one after the other.
    fn threads(self, cores: usize) -> usize {
        match self {
            Self::Etcd | Self::ControllerManager | Self::Scheduler => 1,
            // Besides two running goroutines a core it has its watchers, its collector and the
            // kernel's part of so many connections; this many fit the flood that was measured.
            Self::ApiServer => 3 * cores,
            _ => cores,
        }
    }

    const ALL: [(Self, &'static str); 8] = [
        (Self::ApiServer, "kube-apiserver"),
        (Self::Etcd, "etcd"),
        (Self::ControllerManager, "kube-controller-manager"),
        (Self::Scheduler, "kube-scheduler"),
        (Self::Nodes, "nodes' software"),
        (Self::Backend, "investigation controller"),
        (Self::Vault, "vault"),
        (Self::Postgres, "postgres"),
    ];
}

/// Pieces of work by several processes, one after the other.
pub(crate) type Parts<'a> = &'a [(Process, Span)];
/// No piece of work has more.
const PARTS_MAX: usize = 3;

/// Work under way, and the event that its end is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task<T> {
    /// What is still to be done, the next last.
    parts: [(Process, Span); PARTS_MAX],
    left: usize,
    pub event: T,
    pub since: Time,
    /// Whose wait it is.
    pub who: Option<Key<Inv>>,
}

#[derive(Debug)]
struct Running<T> {
    task: Task<T>,
    process: Process,
    /// The virtual time at which its part is done.
    ends: u64,
}

/// One machine. `T` is the event that the end of a piece of work is.
#[derive(Debug)]
pub(crate) struct Host<T> {
    name: &'static str,
    cores: usize,
    busy: [u64; Process::ALL.len()],
    /// Ends of work that nobody slows down.
    light: Vec<Time>,
    running: Vec<Running<T>>,
    threads: [usize; Process::ALL.len()],
    waiting: [VecDeque<Task<T>>; Process::ALL.len()],
    /// Advances as fast as a running thread gets on.
    virtual_now: u64,
    at: Time,
    /// The instant of the earliest tick that is scheduled.
    tick_at: Time,
}

impl<T: Copy> Host<T> {
    pub fn new(name: &'static str, cores: u32) -> Self {
        Self {
            name,
            cores: cores as usize,
            busy: [0; Process::ALL.len()],
            light: Vec::new(),
            running: Vec::new(),
            threads: [0; Process::ALL.len()],
            waiting: Default::default(),
            virtual_now: 0,
            at: Time::ZERO,
            tick_at: Time::NEVER,
        }
    }

    /// Takes pieces of work. While the machine has cores to spare it says at once when they are
    /// done; else nothing, and `event` comes out of a later [`Self::tick`].
    pub fn run(
        &mut self,
        now: Time,
        parts: Parts<'_>,
        event: T,
        who: Option<Key<Inv>>,
    ) -> Option<Time> {
        let mut cost = Span::ZERO;
        for (process, part) in parts {
            self.busy[*process as usize] += part.0;
            cost += *part;
        }
        self.light.retain(|end| *end > now);
        if self.running.is_empty() && self.light.len() < self.cores {
            let done = now + cost;
            self.light.push(done);
            return Some(done);
        }
        self.advance(now);
        let mut task = Task {
            parts: [(Process::ApiServer, Span::ZERO); PARTS_MAX],
            left: 0,
            event,
            since: now,
            who,
        };
        for part in parts.iter().rev().filter(|(_, cost)| cost.0 > 0) {
            task.parts[task.left] = *part;
            task.left += 1;
        }
        self.enter(task);
        None
    }

    /// Takes work whose end is estimated at once: its share of the cores stays what it is now.
    pub fn run_estimated(&mut self, now: Time, process: Process, cost: Span) -> Time {
        self.busy[process as usize] += cost.0;
        self.light.retain(|end| *end > now);
        let threads = self.light.len() + self.running.len() + 1;
        let done = now + Span(cost.0 * threads.max(self.cores) as u64 / self.cores as u64);
        self.light.push(done);
        done
    }

    fn enter(&mut self, mut task: Task<T>) {
        let Some(last) = task.left.checked_sub(1) else {
            return;
        };
        let (process, cost) = task.parts[last];
        if self.threads[process as usize] >= process.threads(self.cores) {
            self.waiting[process as usize].push_back(task);
        } else {
            task.left = last;
            self.threads[process as usize] += 1;
            self.running.push(Running { task, process, ends: self.virtual_now + cost.0 });
        }
    }

    /// Threads that want a core, and cores.
    fn competing(&self) -> (u64, u64) {
        let threads = (self.running.len() + self.light.len()).max(1) as u64;
        (threads, threads.min(self.cores as u64))
    }

    fn advance(&mut self, now: Time) {
        let (threads, cores) = self.competing();
        self.virtual_now += now.since(self.at).0 * cores / threads;
        self.at = now;
    }

    /// When to call [`Self::tick`]; nothing where an earlier call is scheduled or nothing runs.
    pub fn schedule_tick(&mut self) -> Option<Time> {
        let at = self.next_end().filter(|at| *at < self.tick_at)?;
        self.tick_at = at;
        Some(at)
    }

    /// A scheduled tick is there; false where a later call replaced it by an earlier tick.
    pub fn take_tick(&mut self, now: Time) -> bool {
        let due = self.tick_at == now;
        if due {
            self.tick_at = Time::NEVER;
        }
        due
    }

    /// When the next piece of work will be done, unless more comes.
    fn next_end(&self) -> Option<Time> {
        let next = self.running.iter().map(|running| running.ends).min()?;
        let (threads, cores) = self.competing();
        let left = next.saturating_sub(self.virtual_now);
        Some(self.at + Span((left * threads).div_ceil(cores)))
    }

    /// Brings the books up to date; what is done goes to `done`.
    pub fn tick(&mut self, now: Time, done: &mut Vec<Task<T>>) {
        self.light.retain(|end| *end > now);
        self.advance(now);
        let mut index = 0;
        while index < self.running.len() {
            if self.running[index].ends > self.virtual_now {
                index += 1;
                continue;
            }
            // Kept in the order of coming, so that equals leave in that order.
            let Running { task, process, .. } = self.running.remove(index);
            self.threads[process as usize] -= 1;
            if let Some(next) = self.waiting[process as usize].pop_front() {
                self.enter(next);
            }
            if task.left == 0 {
                done.push(task);
            } else {
                self.enter(task);
            }
        }
    }

    /// Processor time by process, those that used none left out.
    pub fn usage(&self) -> impl Iterator<Item = CpuUse> {
        let used = Process::ALL.iter().filter(|(process, _)| self.busy[*process as usize] > 0);
        used.map(|(process, name)| CpuUse {
            host: self.name.to_owned(),
            cores: self.cores as u32,
            process: (*name).to_owned(),
            busy_ns: self.busy[*process as usize],
            resident_bytes: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const API: Process = Process::Nodes;
    const SCHEDULER: Process = Process::Scheduler;

    /// Runs until all is done; returns each event with its instant in ms.
    fn drain(host: &mut Host<u32>) -> Vec<(u32, u64)> {
        let mut ends = Vec::new();
        while let Some(at) = host.next_end() {
            let mut done = Vec::new();
            host.tick(at, &mut done);
            ends.extend(done.iter().map(|task| (task.event, at.0 / 1_000_000)));
        }
        ends
    }

    #[test]
    fn with_cores_to_spare_work_takes_its_cost() {
        let mut host = Host::new("h", 2);
        let two = [(SCHEDULER, Span::millis(3)), (API, Span::millis(7))];
        assert_eq!(host.run(Time::ZERO, &two, 0, None), Some(Time::ZERO + Span::millis(10)));
        assert!(host.run(Time::ZERO, &[(API, Span::millis(5))], 1, None).is_some());
        assert!(host.run(Time::ZERO, &[(API, Span::millis(5))], 2, None).is_none());
    }

    #[test]
    fn a_process_with_little_to_do_is_not_behind_one_with_much() {
        let mut host = Host::new("h", 1);
        // The first finds the core free; from the second on they compete.
        assert!(host.run(Time::ZERO, &[(API, Span::millis(10))], 9, None).is_some());
        for event in 0..10 {
            host.run(Time::ZERO, &[(API, Span::millis(10))], event, None);
        }
        host.run(Time::ZERO, &[(SCHEDULER, Span::millis(10))], 100, None);
        let ends = drain(&mut host);
        let at = |event| ends.iter().find(|(e, _)| *e == event).map(|(_, at)| *at);
        assert!(at(100) <= Some(30), "it shares the core with one request, not with ten: {ends:?}");
        let last = ends.iter().map(|(_, at)| *at).max();
        assert!((110..=120).contains(&last.unwrap_or(0)), "no capacity is made: {ends:?}");
    }
}
