//! A probe of the API server's watches. Once a second the controller's identity updates a small Lease, and
//! watches it on a connection of its own. The *probe lag* is the time from the response to an update to
//! its event; an event that precedes the response counts as zero.
//!
//! The watch lag of Jobs has three parts, and each figure shows one of them:
//!
//! - The harness's own part is measured where it reads its watches (`own_watch_lag`).
//! - The probe lag is what any event takes from etcd through the API server to a client that is not
//!   behind: where it is long, the server as a whole is late, or this machine's network.
//! - Where the watch lag is long and both others are short, the API server is late with *Jobs*: it has one
//!   watch cache for each resource, which receives from etcd, decodes and distributes one event after the
//!   other (apiserver v0.36.3: pkg/storage/etcd3/watcher.go, pkg/storage/cacher/cacher.go). A cache whose
//!   resource changes faster than that falls behind etcd, while those of other resources do not.
//!
//! The definition of the watch lag does not depend on a controller: the event is that of the Job's
//! creation, which no controller has touched yet.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use alertstorm_platform::bootstrap::PROBE;
use alertstorm_platform::call;
use alertstorm_platform::connection::{Caller, PatchKind};
use alertstorm_platform::objects::collection;
use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{WatchEvent, WatchParams};
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::lags::Lag;
use crate::reporter::{Observation, Reporter};

/// The time between two updates, and before a watch is started again.
const PERIOD: Duration = Duration::from_secs(1);

/// The updates by number, which is the Lease's `leaseTransitions`.
#[derive(Debug, Default)]
struct Updates {
    /// When each was answered whose event did not arrive yet.
    answered: BTreeMap<i32, Instant>,
    /// The last one that the watch has shown.
    shown: i32,
}

impl Updates {
    /// The response to an update arrived; the lag, if its event came before.
    fn answered(&mut self, number: i32, at: Instant) -> Option<Duration> {
        if self.shown >= number {
            return Some(Duration::ZERO);
        }
        self.answered.insert(number, at);
        None
    }

    /// The event of an update arrived; the lags of all updates up to it.
    fn shown(&mut self, number: i32, at: Instant) -> impl Iterator<Item = Duration> + use<> {
        self.shown = self.shown.max(number);
        let later = self.answered.split_off(&(number + 1));
        let shown = std::mem::replace(&mut self.answered, later);
        shown.into_values().map(move |answered| at.saturating_duration_since(answered))
    }

    /// The watch starts anew. Events that it has missed are not late because of the API server.
    fn watched_anew(&mut self) {
        self.answered.clear();
    }
}

/// Measures the probe lag until it is aborted, or the Lease cannot be updated.
pub fn follow(
    caller: Caller,
    namespace: &str,
    reporter: Reporter,
) -> impl Future<Output = ()> + Send + use<> {
    let namespace = namespace.to_owned();
    async move {
        let updates = Mutex::default();
        tokio::select! {
            () = update(&caller, &namespace, &updates, &reporter) => {}
            () = watch(&caller, &namespace, &updates, &reporter) => {}
        }
    }
}

fn with<T>(updates: &Mutex<Updates>, of: impl FnOnce(&mut Updates) -> T) -> T {
    of(&mut updates.lock().unwrap_or_else(PoisonError::into_inner))
}

async fn update(caller: &Caller, namespace: &str, updates: &Mutex<Updates>, reporter: &Reporter) {
    let path = format!("{}/{PROBE}", collection("Lease", namespace));
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 1.. {
        ticks.tick().await;
        let patch = json!({"spec": {"leaseTransitions": number}});
        match caller.patch(&path, PatchKind::Merge, &patch).await {
            Ok(()) => {
                let lag = with(updates, |updates| updates.answered(number, Instant::now()));
                lag.iter().for_each(|lag| reporter.late(Lag::Probe, *lag));
            }
            Err(error) if call::is_transient(&error) => {
                reporter.failed("the probe of the API server", &call::describe(&error));
            }
            Err(error) => {
                let text = format!(
                    "the lag of the API server's watches was not probed: {}",
                    call::describe(&error)
                );
                return reporter.send(Observation::Remark(text));
            }
        }
    }
}

async fn watch(caller: &Caller, namespace: &str, updates: &Mutex<Updates>, reporter: &Reporter) {
    let api: Api<Lease> = Api::namespaced(caller.client().clone(), namespace);
    let params = WatchParams::default().fields(&format!("metadata.name={PROBE}"));
    let failed = |error: &kube::Error| {
        reporter.failed("the watch of the API server's probe", &call::describe(error));
    };
    loop {
        with(updates, Updates::watched_anew);
        match api.watch(&params, "0").await {
            Ok(events) => {
                let mut events = pin!(events);
                while let Some(event) = events.next().await {
                    let lease = match event {
                        Ok(WatchEvent::Added(lease) | WatchEvent::Modified(lease)) => lease,
                        Ok(_) => continue,
                        Err(error) => {
                            failed(&error);
                            break;
                        }
                    };
                    let now = Instant::now();
                    let number = lease.spec.and_then(|spec| spec.lease_transitions).unwrap_or(0);
                    let lags = with(updates, |updates| updates.shown(number, now));
                    lags.for_each(|lag| reporter.late(Lag::Probe, lag));
                }
            }
            Err(error) => failed(&error),
        }
        sleep(PERIOD).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI32, Ordering};

    use kube::Client;
    use kube::client::Body;

    use super::*;
    use crate::reporter::Clock;

    #[test]
    fn an_update_is_late_by_the_time_from_its_response_to_its_event() {
        let (zero, mut updates) = (Instant::now(), Updates::default());
        let at = |ms| zero + Duration::from_millis(ms);
        let ms = |lags: Vec<Duration>| lags.iter().map(Duration::as_millis).collect::<Vec<_>>();
        assert_eq!(updates.answered(1, at(10)), None);
        assert_eq!(ms(updates.shown(1, at(30)).collect()), [20]);
        assert_eq!(ms(updates.shown(2, at(40)).collect()), [0; 0], "before its response");
        assert_eq!(updates.answered(2, at(50)), Some(Duration::ZERO));
        assert_eq!(updates.answered(3, at(60)), None);
        assert_eq!(updates.answered(4, at(70)), None);
        assert_eq!(ms(updates.shown(4, at(100)).collect()), [40, 30]);
        assert_eq!(updates.answered(5, at(110)), None);
        updates.watched_anew();
        assert_eq!(ms(updates.shown(5, at(9_000)).collect()), [0; 0], "the watch was down");
    }

    /// An API server that accepts updates; each watch shows the update that it follows on, and ends.
    fn server(code: u16) -> Client {
        let number = Arc::new(AtomicI32::new(0));
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let watched = request.uri().query().is_some_and(|query| query.contains("watch=true"));
            assert!(request.uri().path().contains("/namespaces/a/leases"), "{}", request.uri());
            let now = match watched {
                true => number.load(Ordering::SeqCst),
                false => number.fetch_add(1, Ordering::SeqCst),
            };
            let lease = json!({"metadata": {"name": PROBE}, "spec": {"leaseTransitions": now}});
            let event = json!({"type": "MODIFIED", "object": lease}).to_string() + "\n";
            async move {
                let answer = http::Response::builder().status(if watched { 200 } else { code });
                Ok::<_, std::io::Error>(answer.body(Body::from(event.into_bytes())).unwrap())
            }
        });
        Client::new(service, "a")
    }

    #[tokio::test(start_paused = true)]
    async fn updates_are_sent_every_second_and_their_events_are_recorded() {
        let (reporter, _inbox) = Reporter::new(Clock::default());
        let probe = follow(server(200).into(), "a", reporter.clone());
        // A watch that ends while its update is under way misses it.
        let run = tokio::time::timeout(Duration::from_secs(120), probe).await;
        assert!(run.is_err(), "it goes on until it is aborted");
        assert!(reporter.lags().summary(Lag::Probe).count >= 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_without_rights_is_a_remark() {
        let (reporter, mut inbox) = Reporter::new(Clock::default());
        follow(server(403).into(), "a", reporter).await;
        let Some(Observation::Remark(text)) = inbox.try_recv() else { panic!("a remark") };
        assert!(text.contains("not probed: 403"), "{text}");
    }
}
