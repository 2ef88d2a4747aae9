//! The critical path of an investigation: how long it waited, by component.

use alertstorm_model::event::{Component, Wait};
use alertstorm_model::time::Span;

use crate::pool::{Pool, PoolKind, Waits};

/// Empty once the Job is finished, so that finished Jobs, which are most of all, take less memory.
#[derive(Debug)]
pub(crate) struct Path(Option<Box<Open>>);

#[derive(Debug)]
struct Open {
    waits: Waits,
    /// By pool: [`Pool::mark`] when the investigation began to wait for a worker.
    marks: [Waits; PoolKind::COUNT],
}

impl Path {
    pub fn new() -> Self {
        let none = [Span::ZERO; Component::COUNT];
        Self(Some(Box::new(Open { waits: none, marks: [none; PoolKind::COUNT] })))
    }

    pub fn wait(&mut self, component: Component, span: Span) {
        if let Some(path) = &mut self.0 {
            path.waits[component.index()] += span;
        }
    }

    /// The wait for a worker of the pool begins.
    pub fn join(&mut self, pool: &Pool) {
        if let Some(path) = &mut self.0 {
            path.marks[pool.kind() as usize] = pool.mark();
        }
    }

    /// The wait for a worker of the pool ends. It is booked on `otherwise` if no worker was held up.
    pub fn taken_by(&mut self, pool: &Pool, waited: Span, otherwise: Component) {
        if let Some(path) = &mut self.0 {
            let mark = path.marks[pool.kind() as usize];
            pool.apportion(waited, &mark, otherwise, &mut path.waits);
        }
    }

    pub fn close(&mut self) {
        self.0 = None;
    }

    /// The waits so far; `None` once closed. Overlapping waits, as in an outage that holds up both
    /// kubelet and agent, are scaled down so that all fit into the time that `passed`.
    pub fn waits(&self, passed: Span) -> Option<Box<[Wait]>> {
        let path = self.0.as_ref()?;
        let passed = u128::from(passed.0);
        let sum: u128 = path.waits.iter().map(|wait| u128::from(wait.0)).sum();
        let share = |wait: Span| match sum > passed {
            true => Span((u128::from(wait.0) * passed / sum) as u64),
            false => wait,
        };
        let waits = Component::ALL.iter().zip(path.waits).filter(|(_, wait)| wait.0 > 0);
        let waits =
            waits.map(|(component, wait)| Wait { component: *component, span: share(wait) });
        Some(waits.collect())
    }
}
