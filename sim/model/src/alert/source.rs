//! Where alerts come from: how many, when, and of what kind.

use std::sync::Arc;

use super::alertmanager::Recorded;
use crate::quantity::Quantity;
use crate::time::{Span, Time};

words! {
    /// How alerts of a rate or a flood are spread.
    pub enum Spacing {
        /// At equal distances.
        Even = "even",
        /// As independent events: a Poisson process; a flood's instants are uniform.
        Poisson = "poisson",
    }
}

/// Where alerts come from, and of what kind they are.
#[derive(Clone, Debug)]
pub struct AlertSource {
    /// When they come.
    pub arrivals: Arrivals,
    /// When the source begins.
    pub start: Time,
    /// Weights of the domains, in their order.
    pub domains: [f64; 4],
    /// Weights of the severities, in their order.
    pub severities: [f64; 4],
    /// How many different alerts there are, where they repeat.
    pub fingerprints: Option<u64>,
}

/// When alerts of a source come.
#[derive(Clone, Debug)]
pub enum Arrivals {
    /// So many within a time.
    Flood {
        /// How many.
        count: u64,
        /// Within which time.
        over: Span,
        /// How they are spread over it.
        spacing: Spacing,
    },
    /// Rates that follow each other: alerts a second, and for how long.
    Rate {
        /// The steps.
        steps: Vec<(f64, Span)>,
        /// How alerts are spread.
        spacing: Spacing,
    },
    /// A recorded log.
    Replay {
        /// Its alerts, in the order of time.
        alerts: Arc<[Recorded]>,
    },
}

impl Arrivals {
    /// How many alerts there will be, or may be expected.
    pub fn expected(&self) -> f64 {
        match self {
            Self::Flood { count, .. } => *count as f64,
            Self::Rate { steps, .. } => steps.iter().map(|(rate, span)| rate * span.base()).sum(),
            Self::Replay { alerts } => alerts.len() as f64,
        }
    }

    /// How long the source lasts.
    pub fn lasts(&self) -> Span {
        match self {
            Self::Flood { over, .. } => *over,
            Self::Rate { steps, .. } => steps.iter().fold(Span::ZERO, |sum, (_, s)| sum + *s),
            Self::Replay { alerts } => alerts.last().map_or(Span::ZERO, |last| last.after),
        }
    }
}
