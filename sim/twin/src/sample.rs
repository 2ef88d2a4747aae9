//! The platform's counters at an instant, in the form of a scrape.

use alertstorm_model::event::{Bucket as BucketCounters, Depth, Fact, Sample, WaitSummary};

use crate::apiserver::Client;
use crate::bucket::Bucket;
use crate::meter::Meter;
use crate::world::World;

/// Distributions of what requests wait for.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    pub seats: Meter,
    pub cores: Meter,
    pub etcd: Meter,
    pub lock: Meter,
    job_controller: Meter,
    scheduler: Meter,
    kubelet: Meter,
    other: Meter,
}

impl Meters {
    pub fn bucket(&mut self, client: Client) -> &mut Meter {
        match client {
            Client::JobController => &mut self.job_controller,
            Client::Scheduler => &mut self.scheduler,
            Client::Kubelet(_) | Client::KubeletEvents(_) => &mut self.kubelet,
            _ => &mut self.other,
        }
    }

    fn summaries(&self) -> Vec<WaitSummary> {
        let all = [
            (&self.seats, "API server: queue for a seat"),
            (&self.cores, "control plane: queue for a core, and work"),
            (&self.etcd, "etcd: commit"),
            (&self.job_controller, "job controller: client bucket, calls that waited"),
            (&self.scheduler, "scheduler: client bucket, calls that waited"),
            (&self.kubelet, "kubelets: client buckets, calls that waited"),
            (&self.other, "other clients: buckets, calls that waited"),
            (&self.lock, "vault: database lock"),
        ];
        let summaries = all.iter().map(|(meter, what)| meter.summary(what));
        summaries.filter(|summary| summary.count > 0).collect()
    }
}

fn counted<'a>(client: &str, buckets: impl Iterator<Item = &'a Bucket>) -> BucketCounters {
    let mut counters = BucketCounters { client: client.to_owned(), ..BucketCounters::default() };
    buckets.for_each(|bucket| bucket.add_to(&mut counters));
    counters
}

impl World<'_> {
    /// Tells the counters; `last` adds the distributions of waits.
    pub(crate) fn tell_sample(&mut self, last: bool) {
        let buckets = &self.buckets;
        let nodes = &self.nodes.list;
        let mut all = vec![
            counted("job-controller", [&buckets.job_controller].into_iter()),
            counted("ttl-after-finished-controller", [&buckets.ttl].into_iter()),
            counted("generic-garbage-collector", [&buckets.gc].into_iter()),
            counted("node-controller", [&buckets.node_lifecycle].into_iter()),
            counted("scheduler", [&buckets.scheduler].into_iter()),
            counted("scheduler events", [&buckets.scheduler_events].into_iter()),
            counted("kubelets", nodes.iter().map(|node| &node.bucket)),
            counted("kubelets' events", nodes.iter().map(|node| &node.event_bucket)),
        ];
        all.extend(self.backend.bucket.as_ref().map(|b| counted("backend", [b].into_iter())));
        all.retain(|bucket| bucket.calls > 0);
        let node_events: usize = nodes.iter().map(|node| node.events.depth()).sum();
        let dropped = self.job_events.dropped + self.scheduler_events.dropped;
        let depths = [
            ("controller queue", self.backend.waiting()),
            ("job controller queue", self.jobs.queue.len()),
            ("scheduler queue", self.scheduler.active.len()),
            ("unschedulable pods", self.scheduler.unschedulable.len()),
            (
                "events to send",
                self.job_events.depth() + self.scheduler_events.depth() + node_events,
            ),
            ("events dropped", dropped as usize),
            ("vault database lock", self.vault.locks.iter().map(|lock| lock.depth()).sum()),
            ("revocations waiting", self.vault.expiration.depth()),
            ("investigations", self.running()),
        ];
        let depth = |(of, depth): (&str, usize)| Depth { of: of.to_owned(), depth: depth as u64 };
        let own = self.own_machines.iter().flatten().map(crate::host::Cores::usage);
        let sample = Sample {
            api_calls: self.apiserver.counted(),
            etcd: self.etcd.counters(),
            buckets: all,
            depths: depths.into_iter().map(depth).collect(),
            cpu: self.control_plane.usage().chain(own).collect(),
            token_reviews: self.vault.token_reviews,
            audit: self.vault.audit,
            waits: if last { self.meters.summaries() } else { Vec::new() },
            engine_events: self.engine.done(),
        };
        self.platform_fact(Fact::Sample { sample: Box::new(sample) });
    }
}
