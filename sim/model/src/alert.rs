//! Alerts: the merged stream of all sources, in the order of time. It is computed one alert at a
//! time, and depends only on the sources and the seed.
//!
//! ```
//! use alertstorm_model::scenario::{NoFiles, load};
//! use alertstorm_model::time::{Span, Time};
//!
//! let plan = load("alerts: [{flood: 3, over: 30s}]", "flood.yaml", &[], &NoFiles).unwrap();
//! let instants: Vec<Time> = plan.alerts().map(|alert| alert.intended).collect();
//! assert_eq!(instants, [0, 10, 20].map(|s| Time::ZERO + Span::secs(s)));
//! ```

pub mod alertmanager;
mod source;

use crate::investigation::{Domain, InvestigationId, Severity};
use crate::seed::{Purpose, Stream};
use crate::time::{Span, Time};

pub use source::{AlertSource, Arrivals, Spacing};

/// One alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Number of the alert in the stream, from 0; also that of its investigation, if it starts one.
    pub id: InvestigationId,
    /// When the plan sends it. All latencies count from here.
    pub intended: Time,
    /// Decides the agent's profile and the credentials that it may get.
    pub domain: Domain,
    /// Decides the order in the controller's queue, and which alerts are shed.
    pub severity: Severity,
    /// Alerts with the same fingerprint are deduplicated.
    pub fingerprint: u64,
}

/// The merged stream of all sources.
pub struct Alerts<'a> {
    sources: Vec<Source<'a>>,
    next_id: u64,
}

impl<'a> Alerts<'a> {
    /// The stream of `sources` under `seed`; see [`crate::scenario::Plan::alerts`].
    pub fn new(sources: &'a [AlertSource], seed: u64) -> Self {
        let numbered = sources.iter().zip(0..);
        let sources = numbered.map(|(of, number)| Source::new(of, seed, number)).collect();
        Self { sources, next_id: 0 }
    }
}

impl Iterator for Alerts<'_> {
    type Item = Alert;

    fn next(&mut self) -> Option<Alert> {
        let due = |source: &Source<'_>| source.due.map(|(at, _)| at);
        let first = self.sources.iter().filter_map(due).min()?;
        let source = self.sources.iter_mut().find(|source| due(source) == Some(first))?;
        let id = InvestigationId(self.next_id);
        self.next_id += 1;
        source.take(id)
    }
}

/// A source and its next alert.
struct Source<'a> {
    of: &'a AlertSource,
    seed: u64,
    number: u64,
    arrivals: Stream,
    /// Time of the next alert, and its number in the source; `None` at the end of the source.
    due: Option<(Time, u64)>,
    /// Index and start of the current step; only for [`Arrivals::Rate`].
    step: (usize, Time),
}

impl<'a> Source<'a> {
    fn new(of: &'a AlertSource, seed: u64, number: u64) -> Self {
        let arrivals = Stream::new(seed, Purpose::Arrivals, number);
        let mut source = Self { of, seed, number, arrivals, due: None, step: (0, of.start) };
        source.due = source.after(of.start, 0).map(|at| (at, 0));
        source
    }

    /// Time of alert `n` of the source; `last` is that of the one before it.
    fn after(&mut self, last: Time, n: u64) -> Option<Time> {
        match &self.of.arrivals {
            &Arrivals::Flood { count, over, spacing } => {
                let left = count.checked_sub(n).filter(|left| *left > 0)?;
                Some(match spacing {
                    Spacing::Even => {
                        let offset = u128::from(over.0) * u128::from(n) / u128::from(count);
                        self.of.start + Span(offset as u64)
                    }
                    // The next of `left` uniform instants in what is left of the flood.
                    Spacing::Poisson => {
                        let room = (self.of.start + over).since(last);
                        let share = 1.0 - libm::pow(1.0 - self.arrivals.unit(), 1.0 / left as f64);
                        last + room.scale(share)
                    }
                })
            }
            Arrivals::Rate { steps, spacing } => {
                let (mut index, mut began) = self.step;
                let mut from = if n == 0 { began } else { last };
                let mut need = match spacing {
                    Spacing::Poisson => self.arrivals.exponential(),
                    Spacing::Even if n == 0 => 0.0,
                    Spacing::Even => 1.0,
                };
                // `need` is measured in expected alerts; a step gives rate × time of them.
                while let Some((rate, hold)) = steps.get(index) {
                    let ends = began + *hold;
                    let offers = rate * ends.since(from).as_secs_f64();
                    if offers > need && *rate > 0.0 {
                        self.step = (index, began);
                        return Some(from + Span::from_secs_f64(need / rate));
                    }
                    need -= offers.min(need);
                    (index, began, from) = (index + 1, ends, ends);
                }
                None
            }
            Arrivals::Replay { alerts } => {
                let recorded = alerts.get(usize::try_from(n).ok()?)?;
                Some(self.of.start + recorded.after)
            }
        }
    }

    fn take(&mut self, id: InvestigationId) -> Option<Alert> {
        let (at, n) = self.due.take()?;
        self.due = self.after(at, n + 1).map(|at| (at, n + 1));
        let entity = self.number << 40 | n;
        let mut kind = Stream::new(self.seed, Purpose::AlertKind, entity);
        let domain = Domain::ALL[kind.pick(&self.of.domains)];
        let severity = Severity::ALL[kind.pick(&self.of.severities)];
        let fingerprint = match self.of.fingerprints {
            Some(different) => self.number << 40 | kind.below(different),
            None => entity,
        };
        let drawn = Alert { id, intended: at, domain, severity, fingerprint };
        Some(match &self.of.arrivals {
            Arrivals::Replay { alerts } => {
                let recorded = &alerts[n as usize];
                Alert {
                    domain: recorded.domain.unwrap_or(domain),
                    severity: recorded.severity.unwrap_or(severity),
                    fingerprint: recorded.fingerprint,
                    ..drawn
                }
            }
            _ => drawn,
        })
    }
}
