//! Samples of the platform's counters, in the form of a scrape of /metrics.

use alertstorm_model::event::{Depth, Fact, Sample, WaitSummary};

use crate::agenda::Ev;
use crate::world::World;

/// The factor by which samples become rarer after the last investigation has ended.
const TAIL_SAMPLES: u64 = 20;

impl World<'_> {
    pub(crate) fn periodic_sample(&mut self) {
        self.record_sample(false);
        let every = self.plan.sample_every();
        let tail = self.backend.is_idle() && self.running() == 0;
        self.engine.after(if tail { every * TAIL_SAMPLES } else { every }, Ev::Sample);
    }

    /// Writes the counters to the event log; `last` adds the distributions of waits.
    pub(crate) fn record_sample(&mut self, last: bool) {
        let depths = [
            ("controller queue", self.backend.waiting()),
            ("job controller queue", self.jobs.depth()),
            ("scheduler queue", self.scheduler.depth()),
            ("unschedulable pods", self.scheduler.unschedulable()),
            ("events to send", self.recorders.depth()),
            ("events dropped", self.recorders.dropped() as usize),
            ("vault database lock", self.vault.waiting_for_locks()),
            ("revocations waiting", self.vault.waiting_for_revocation()),
            ("investigations", self.running()),
        ];
        let depth = |(of, depth): (&str, usize)| Depth { of: of.to_owned(), depth: depth as u64 };
        let sample = Sample {
            api_calls: self.apiserver.counted(),
            etcd: self.etcd.counters(),
            buckets: self.buckets.counters(),
            depths: depths.into_iter().map(depth).collect(),
            cpu: self.machines.usage().collect(),
            token_reviews: self.vault.token_reviews(),
            audit: self.vault.audit(),
            waits: if last { self.waits() } else { Vec::new() },
            engine_events: self.engine.done(),
        };
        self.platform_fact(Fact::Sample { sample: Box::new(sample) });
    }

    fn waits(&self) -> Vec<WaitSummary> {
        let all = self.apiserver.waits().into_iter();
        let all = all.chain([self.etcd.waits()]).chain(self.buckets.waits());
        let all = all.chain([self.vault.lock_waits()]);
        all.filter(|summary| summary.count > 0).collect()
    }
}
