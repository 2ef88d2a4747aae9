//! Sources of alerts: their number, times and kinds.

use std::sync::Arc;

use super::alertmanager::Recorded;
use crate::quantity::Quantity;
use crate::time::{Span, Time};

words! {
    /// How the alerts of a source are spaced.
    pub enum Spacing {
        /// At equal intervals.
        Even = "even",
        /// As independent events: a Poisson process for a rate, uniform times for a flood.
        Poisson = "poisson",
    }
}

/// A source of alerts, checked.
#[derive(Clone, Debug)]
pub struct AlertSource {
    /// Number and times of the alerts.
    pub arrivals: Arrivals,
    /// Start of the source.
    pub start: Time,
    /// Weights in the order of [`Domain::ALL`](crate::investigation::Domain::ALL).
    pub domains: [f64; 4],
    /// Weights in the order of [`Severity::ALL`](crate::investigation::Severity::ALL).
    pub severities: [f64; 4],
    /// Number of different fingerprints; `None` if every alert has its own.
    pub fingerprints: Option<u64>,
}

/// Number and times of a source's alerts.
#[derive(Clone, Debug)]
pub enum Arrivals {
    /// A fixed number of alerts within a time.
    Flood {
        /// Number of alerts.
        count: u64,
        /// Time over which they are spread; 0 for all at once.
        over: Span,
        /// Spacing of the alerts.
        spacing: Spacing,
    },
    /// Rates that follow each other.
    Rate {
        /// Alerts per second, and duration, of each step.
        steps: Vec<(f64, Span)>,
        /// Spacing of the alerts.
        spacing: Spacing,
    },
    /// A recorded log.
    Replay {
        /// The alerts of the log, in the order of time.
        alerts: Arc<[Recorded]>,
    },
}

impl Arrivals {
    /// Number of alerts; its expected value for a random source.
    pub fn expected(&self) -> f64 {
        match self {
            Self::Flood { count, .. } => *count as f64,
            Self::Rate { steps, .. } => steps.iter().map(|(rate, span)| rate * span.base()).sum(),
            Self::Replay { alerts } => alerts.len() as f64,
        }
    }

    /// Time from the start of the source to its last alert, or to the end of its last step.
    pub fn lasts(&self) -> Span {
        match self {
            Self::Flood { over, .. } => *over,
            Self::Rate { steps, .. } => steps.iter().fold(Span::ZERO, |sum, (_, s)| sum + *s),
            Self::Replay { alerts } => alerts.last().map_or(Span::ZERO, |last| last.after),
        }
    }
}
