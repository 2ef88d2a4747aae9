//! Workers, and what they spend their time on: what waits for a worker waits for that.

use alertstorm_model::event::Component;
use alertstorm_model::time::Span;

/// Time by component.
pub(crate) type Waits = [Span; Component::COUNT];

/// Whose workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PoolKind {
    JobController,
    Scheduler,
    Kwok,
}

#[derive(Debug)]
pub(crate) struct Pool {
    pub kind: PoolKind,
    pub idle: u32,
    size: u32,
    spent: Waits,
}

impl Pool {
    pub const fn new(kind: PoolKind, size: u32) -> Self {
        Self { kind, idle: size, size, spent: [Span::ZERO; Component::COUNT] }
    }

    /// A worker was held up.
    pub fn blame(&mut self, component: Component, wait: Span) {
        self.spent[component.index()] += wait;
    }

    /// Nobody worked for so long.
    pub fn stood_still(&mut self, component: Component, span: Span) {
        self.blame(component, span * u64::from(self.size));
    }

    /// What all workers spent so far; kept by what begins to wait.
    pub const fn mark(&self) -> Waits {
        self.spent
    }

    /// Divides a wait for a worker by what the workers spent their time on meanwhile.
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
