//! A pool of workers, and what they spend their time on: a wait for a worker is booked on what
//! held the workers up.

use alertstorm_model::event::Component;
use alertstorm_model::time::Span;

/// Time by component.
pub(crate) type Waits = [Span; Component::COUNT];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PoolKind {
    JobController,
    Scheduler,
    Kwok,
}

impl PoolKind {
    pub const COUNT: usize = Self::Kwok as usize + 1;
}

#[derive(Debug)]
pub(crate) struct Pool {
    kind: PoolKind,
    idle: u32,
    size: u32,
    spent: Waits,
}

impl Pool {
    pub const fn new(kind: PoolKind, size: u32) -> Self {
        Self { kind, idle: size, size, spent: [Span::ZERO; Component::COUNT] }
    }

    pub const fn kind(&self) -> PoolKind {
        self.kind
    }

    pub const fn has_idle(&self) -> bool {
        self.idle > 0
    }

    /// A worker takes an item.
    pub const fn take(&mut self) {
        self.idle -= 1;
    }

    /// A worker has finished its item.
    pub const fn give_back(&mut self) {
        self.idle += 1;
    }

    /// A worker was held up by `component`.
    pub fn blame(&mut self, component: Component, wait: Span) {
        self.spent[component.index()] += wait;
    }

    /// All workers were stopped for `span`, because of `component`.
    pub fn stood_still(&mut self, component: Component, span: Span) {
        self.blame(component, span * u64::from(self.size));
    }

    /// The time that all workers have spent so far; kept by an item that begins to wait.
    pub const fn mark(&self) -> Waits {
        self.spent
    }

    /// Divides a wait for a worker in proportion to what the workers have spent since `mark`.
    pub fn apportion(&self, waited: Span, mark: &Waits, otherwise: Component, waits: &mut Waits) {
        if waited.0 == 0 {
            return;
        }
        let spent = |component: usize| self.spent[component].0 - mark[component].0;
        let sum: u64 = (0..Component::COUNT).map(spent).sum();
        if sum == 0 {
            waits[otherwise.index()] += waited;
            return;
        }
        for (component, wait) in waits.iter_mut().enumerate() {
            let share = u128::from(waited.0) * u128::from(spent(component)) / u128::from(sum);
            *wait += Span(share as u64);
        }
    }
}
