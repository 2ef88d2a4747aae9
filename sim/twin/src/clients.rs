//! The token buckets of the API server's clients, and how long calls waited for them.

use alertstorm_model::event::{Bucket as Counters, WaitSummary};
use alertstorm_model::scenario::Plan;
use alertstorm_model::time::Time;

use crate::bucket::Bucket;
use crate::call::Client;
use crate::meter::Meter;

/// The kubelet's `eventRecordQPS` and `eventBurst`.
const KUBELET_EVENTS: (f64, u32) = (50.0, 100);

#[derive(Debug)]
pub(crate) struct Buckets {
    job_controller: Bucket,
    ttl: Bucket,
    gc: Bucket,
    node_lifecycle: Bucket,
    scheduler: Bucket,
    scheduler_events: Bucket,
    kubelets: Vec<Bucket>,
    kubelet_events: Vec<Bucket>,
    backend: Option<Bucket>,
    waits: Waits,
}

/// Waits of the calls that found a bucket empty.
#[derive(Debug, Default)]
struct Waits {
    job_controller: Meter,
    scheduler: Meter,
    kubelet: Meter,
    other: Meter,
}

impl Buckets {
    pub fn new(plan: &Plan) -> Self {
        let cluster = &plan.scenario().cluster;
        let manager = &cluster.control_plane.controller_manager;
        let controller = |factor: f64| {
            Bucket::new(manager.kube_api_qps.0 * factor, manager.kube_api_burst.get())
        };
        let scheduler = &cluster.control_plane.scheduler;
        let scheduler = || Bucket::new(scheduler.kube_api_qps.0, scheduler.kube_api_burst.get());
        let node = &cluster.node;
        let nodes = cluster.nodes.get() as usize;
        let backend = &plan.scenario().controller.client;
        let (events_qps, events_burst) = KUBELET_EVENTS;
        Self {
            job_controller: controller(1.0),
            ttl: controller(1.0),
            // Twice the rate of the others (cmd/kube-controller-manager/app/core.go).
            gc: controller(2.0),
            node_lifecycle: controller(1.0),
            scheduler: scheduler(),
            scheduler_events: scheduler(),
            kubelets: vec![Bucket::new(node.kube_api_qps.0, node.kube_api_burst.get()); nodes],
            kubelet_events: vec![Bucket::new(events_qps, events_burst); nodes],
            backend: backend
                .kube_api_qps
                .map(|qps| Bucket::new(qps.0, backend.kube_api_burst.get())),
            waits: Waits::default(),
        }
    }

    /// Reserves a token; returns when the call may be sent.
    pub fn take(&mut self, client: Client, now: Time) -> Time {
        let bucket = match client {
            Client::Backend => self.backend.as_mut(),
            Client::JobController => Some(&mut self.job_controller),
            Client::TtlController => Some(&mut self.ttl),
            Client::GarbageCollector => Some(&mut self.gc),
            Client::NodeLifecycle => Some(&mut self.node_lifecycle),
            Client::Scheduler => Some(&mut self.scheduler),
            Client::SchedulerEvents => Some(&mut self.scheduler_events),
            Client::Kubelet(node) => Some(&mut self.kubelets[node as usize]),
            Client::KubeletEvents(node) => Some(&mut self.kubelet_events[node as usize]),
            Client::Kwok | Client::Vault | Client::Agent(_) => None,
        };
        let granted = bucket.map_or(now, |bucket| bucket.take(now));
        if granted > now {
            self.waits.of(client).record(granted.since(now));
        }
        granted
    }

    /// By client; those without a call are left out.
    pub fn counters(&self) -> Vec<Counters> {
        let one = |client, bucket| counted(client, [bucket].into_iter());
        let mut all = vec![
            one("job-controller", &self.job_controller),
            one("ttl-after-finished-controller", &self.ttl),
            one("generic-garbage-collector", &self.gc),
            one("node-controller", &self.node_lifecycle),
            one("scheduler", &self.scheduler),
            one("scheduler events", &self.scheduler_events),
            counted("kubelets", self.kubelets.iter()),
            counted("kubelets' events", self.kubelet_events.iter()),
        ];
        all.extend(self.backend.as_ref().map(|bucket| one("backend", bucket)));
        all.retain(|bucket| bucket.calls > 0);
        all
    }

    pub fn waits(&self) -> [WaitSummary; 4] {
        [
            self.waits.job_controller.summary("job controller: client bucket, calls that waited"),
            self.waits.scheduler.summary("scheduler: client bucket, calls that waited"),
            self.waits.kubelet.summary("kubelets: client buckets, calls that waited"),
            self.waits.other.summary("other clients: buckets, calls that waited"),
        ]
    }
}

impl Waits {
    const fn of(&mut self, client: Client) -> &mut Meter {
        match client {
            Client::JobController => &mut self.job_controller,
            Client::Scheduler => &mut self.scheduler,
            Client::Kubelet(_) | Client::KubeletEvents(_) => &mut self.kubelet,
            _ => &mut self.other,
        }
    }
}

fn counted<'a>(client: &str, buckets: impl Iterator<Item = &'a Bucket>) -> Counters {
    let mut counters = Counters { client: client.to_owned(), ..Counters::default() };
    buckets.for_each(|bucket| bucket.add_to(&mut counters));
    counters
}
