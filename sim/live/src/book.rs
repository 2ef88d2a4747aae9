//! What the lease book and the token book share: a state that clones share, and its changes as facts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alertstorm_model::event::{Event, Fact};
use alertstorm_model::investigation::InvestigationId;
use alertstorm_model::time::Time;

use crate::reporter::{Observation, Reporter};

/// A book with the state `S`; clones share it.
#[derive(Debug)]
pub struct Book<S> {
    state: Arc<Mutex<S>>,
    /// Sends the facts to the engine.
    pub reporter: Reporter,
}

impl<S> Clone for Book<S> {
    fn clone(&self) -> Self {
        Self { state: Arc::clone(&self.state), reporter: self.reporter.clone() }
    }
}

impl<S: Default> Book<S> {
    /// An empty book.
    pub fn new(reporter: Reporter) -> Self {
        Self { state: Arc::default(), reporter }
    }

    /// The state.
    pub fn lock(&self) -> MutexGuard<'_, S> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a fact. `inv` is none for a lease or a token that no investigation is known for.
    pub fn record(&self, at: Time, inv: Option<InvestigationId>, fact: Fact) {
        self.reporter.send(Observation::Fact(Event { at, inv, fact }));
    }
}
