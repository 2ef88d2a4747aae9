//! A machine whose cores are shared by several processes.
//!
//! Each process has a queue of its own and a number of threads; the threads of all processes get
//! equal shares of the cores, as from the kernel's fair scheduler. While fewer threads run than
//! there are cores, a task ends after its cost, which is known when it begins. Only while threads
//! compete is progress tracked event by event.

use std::collections::VecDeque;

use alertstorm_model::event::CpuUse;
use alertstorm_model::time::{Span, Time};

use crate::arena::Key;
use crate::investigation::Inv;

/// A process on a machine.
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
    /// The number of threads that compete for the cores. etcd applies entries, and the informers
    /// and caches of the controller manager and the scheduler process events, one at a time.
    fn threads(self, cores: usize) -> usize {
        match self {
            Self::Etcd | Self::ControllerManager | Self::Scheduler => 1,
            // Two running goroutines a core, and a third for watchers, garbage collection and the
            // kernel's network stack. The factor fits the measured flood.
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

/// The parts of a task, which processes do one after the other.
pub(crate) type Parts<'a> = &'a [(Process, Span)];
/// The most parts of a task.
const PARTS_MAX: usize = 3;

/// A task on a machine, and the event that marks its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task<T> {
    /// The remaining parts, the next one last.
    parts: [(Process, Span); PARTS_MAX],
    left: usize,
    pub event: T,
    pub since: Time,
    /// The investigation whose critical path it is on.
    pub who: Option<Key<Inv>>,
}

#[derive(Debug)]
struct Running<T> {
    task: Task<T>,
    process: Process,
    /// The virtual time at which the part is done.
    ends: u64,
}

/// A machine. `T` is the type of the events that mark the end of a task.
#[derive(Debug)]
pub(crate) struct Host<T> {
    name: &'static str,
    cores: usize,
    busy: [u64; Process::ALL.len()],
    /// Ends of the tasks that run at full speed.
    light: Vec<Time>,
    running: Vec<Running<T>>,
    threads: [usize; Process::ALL.len()],
    waiting: [VecDeque<Task<T>>; Process::ALL.len()],
    /// Advances at the speed of one running thread, in nanoseconds of processor time.
    virtual_now: u64,
    at: Time,
    /// The earliest tick that is scheduled.
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

    /// Starts a task. Returns when it ends if a core is idle; otherwise `event` comes out of a later
    /// [`Self::tick`].
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

    /// Starts a task whose end is estimated: its share of the cores is assumed to stay as it is.
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

    /// The number of threads that want a core, and the number of cores that they get.
    fn competing(&self) -> (u64, u64) {
        let threads = (self.running.len() + self.light.len()).max(1) as u64;
        (threads, threads.min(self.cores as u64))
    }

    fn advance(&mut self, now: Time) {
        let (threads, cores) = self.competing();
        self.virtual_now += now.since(self.at).0 * cores / threads;
        self.at = now;
    }

    /// When to call [`Self::tick`]; `None` if an earlier call is scheduled or nothing runs.
    pub fn schedule_tick(&mut self) -> Option<Time> {
        let at = self.next_end().filter(|at| *at < self.tick_at)?;
        self.tick_at = at;
        Some(at)
    }

    /// Whether the tick of this instant is the scheduled one, and not replaced by an earlier one.
    pub fn take_tick(&mut self, now: Time) -> bool {
        let due = self.tick_at == now;
        if due {
            self.tick_at = Time::NEVER;
        }
        due
    }

    /// When the next part will be done if no task is added.
    fn next_end(&self) -> Option<Time> {
        let next = self.running.iter().map(|running| running.ends).min()?;
        let (threads, cores) = self.competing();
        let left = next.saturating_sub(self.virtual_now);
        Some(self.at + Span((left * threads).div_ceil(cores)))
    }

    /// Advances all tasks to `now`; those that ended are added to `done`.
    pub fn tick(&mut self, now: Time, done: &mut Vec<Task<T>>) {
        self.light.retain(|end| *end > now);
        self.advance(now);
        let mut index = 0;
        while index < self.running.len() {
            if self.running[index].ends > self.virtual_now {
                index += 1;
                continue;
            }
            // Not `swap_remove`: parts that end together leave in the order of arrival.
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

    /// Processor time by process; processes that used none are left out.
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

    /// Runs until all tasks have ended; returns each event with its time in ms.
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
    fn a_task_on_an_idle_core_ends_after_its_cost() {
        let mut host = Host::new("h", 2);
        let two = [(SCHEDULER, Span::millis(3)), (API, Span::millis(7))];
        assert_eq!(host.run(Time::ZERO, &two, 0, None), Some(Time::ZERO + Span::millis(10)));
        assert!(host.run(Time::ZERO, &[(API, Span::millis(5))], 1, None).is_some());
        assert!(host.run(Time::ZERO, &[(API, Span::millis(5))], 2, None).is_none());
    }

    #[test]
    fn a_process_with_one_task_does_not_queue_behind_a_busy_process() {
        let mut host = Host::new("h", 1);
        // The first task gets the idle core; from the second on they compete.
        assert!(host.run(Time::ZERO, &[(API, Span::millis(10))], 9, None).is_some());
        for event in 0..10 {
            host.run(Time::ZERO, &[(API, Span::millis(10))], event, None);
        }
        host.run(Time::ZERO, &[(SCHEDULER, Span::millis(10))], 100, None);
        let ends = drain(&mut host);
        let at = |event| ends.iter().find(|(e, _)| *e == event).map(|(_, at)| *at);
        assert!(
            at(100) <= Some(30),
            "the scheduler shares the core with one request, not with ten: {ends:?}"
        );
        let last = ends.iter().map(|(_, at)| *at).max();
        assert!(
            (110..=120).contains(&last.unwrap_or(0)),
            "the total is the sum of the costs: {ends:?}"
        );
    }
}
