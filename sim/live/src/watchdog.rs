//! Watches for requests to the API server that hang, for an API server that is gone, and for a harness
//! that is too slow.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alertstorm_model::scenario::{FaultKind, Plan};
use alertstorm_model::time::Span;
use alertstorm_platform::connection::{Lanes, Stalled};
use http::Request;
use kube::Client;
use kube::client::Body;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use crate::lags::Lag;
use crate::reporter::{Observation, Reporter};

/// A connection on which requests wait is given up if nothing arrives for this long.
const STALLED: Duration = Duration::from_secs(30);
/// The period of checks.
const PERIOD: Duration = Duration::from_secs(5);
/// The period of the timer whose delay is measured.
const TIMER: Duration = Duration::from_millis(50);
/// The number of stalled requests in the reason why a run is invalid; all are logged.
const NAMED: usize = 3;

/// How long no request may get a response before the run ends. An API server that is restarted, such as
/// a static pod's, answers again sooner.
const GONE_AFTER: Duration = Duration::from_secs(30);
/// The period of probing an API server that does not answer.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// How long to wait for the response to a probe: longer than for a connection (10 s). A server that
/// accepted the probe and does not answer it is there.
const PROBE_WITHIN: Duration = Duration::from_secs(12);
/// After an outage that the scenario or the provider caused, requests may fail for this long.
const SETTLED_AFTER: Span = Span::secs(60);

/// Gives up stalled connections, so that their requests are retried on new ones. If a new
/// connection does not help either, the run ends as invalid.
pub async fn follow(plan: Arc<Plan>, lanes: Vec<Lanes>, reporter: Reporter) {
    let mut given_up: BTreeMap<String, Instant> = BTreeMap::new();
    let mut check = interval(PERIOD);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        check.tick().await;
        // A server that the scenario stops answers nothing, as intended.
        if is_outage(&plan, &reporter) {
            given_up.clear();
            continue;
        }
        let stalled: Vec<Stalled> =
            lanes.iter().flat_map(|lanes| lanes.give_up_stalled(STALLED)).collect();
        let again = second_time(&stalled, &mut given_up);
        for request in &stalled {
            tracing::warn!(%request, "a request hangs; its connection is given up");
            reporter.failed("a request that hung", request);
        }
        if !again.is_empty() {
            let named: Vec<String> = again.iter().take(NAMED).map(ToString::to_string).collect();
            let why = format!(
                "{} requests to the API server hang, also on new connections: {}",
                again.len(),
                named.join("; ")
            );
            return reporter.send(Observation::Abort(why));
        }
    }
}

/// The requests on connections that were given up before, and on which nothing has arrived since.
/// `given_up` is updated.
fn second_time<'a>(
    stalled: &'a [Stalled],
    given_up: &mut BTreeMap<String, Instant>,
) -> Vec<&'a Stalled> {
    let again = |request: &&Stalled| {
        let before = given_up.get(&request.connection);
        before.is_some_and(|&before| request.last_arrival <= before)
    };
    let again = stalled.iter().filter(again).collect();
    let now = Instant::now();
    given_up.extend(stalled.iter().map(|request| (request.connection.clone(), now)));
    again
}

/// Ends the run as invalid if the API server is gone: its connections are refused, or its name does not
/// resolve, and no fault of the scenario is the cause. `client` sends a probe where requests of `lanes`
/// fail; any response to it counts, also an error's. A server that accepts a request and does not answer
/// it is the subject of [`follow`].
pub async fn reachable(plan: Arc<Plan>, lanes: Vec<Lanes>, client: Client, reporter: Reporter) {
    until_gone(GONE_AFTER, PROBE_EVERY, &plan, &lanes, &client, &reporter).await;
}

async fn until_gone(
    gone_after: Duration,
    probe_every: Duration,
    plan: &Plan,
    lanes: &[Lanes],
    client: &Client,
    reporter: &Reporter,
) {
    let mut unanswered: Option<(Instant, u32)> = None;
    loop {
        sleep(probe_every).await;
        let failed = lanes.iter().find_map(Lanes::unanswered);
        let Some(error) = failed.filter(|_| !is_outage(plan, reporter)) else {
            unanswered = None;
            continue;
        };
        let probe = Request::get("/version").body(Body::empty());
        let Ok(probe) = probe else { return };
        match timeout(PROBE_WITHIN, client.send(probe)).await {
            Ok(Err(_)) => {
                let (since, probes) = unanswered.get_or_insert_with(|| (Instant::now(), 0));
                *probes += 1;
                tracing::warn!(error, probes, "the API server does not answer");
                if *probes > 1 && since.elapsed() >= gone_after {
                    let why = format!(
                        "the API server has not answered any request for {} s, and no fault of the \
                         scenario is the cause: {error}; its cluster may have been deleted",
                        gone_after.as_secs()
                    );
                    return reporter.send(Observation::Abort(why));
                }
            }
            Ok(Ok(_)) | Err(_) => unanswered = None,
        }
    }
}

/// Whether the scenario or the provider has stopped a server that requests depend on, or did so until
/// just now.
fn is_outage(plan: &Plan, reporter: &Reporter) -> bool {
    let now = reporter.now();
    let stops = |kind| matches!(kind, FaultKind::ApiServerDown | FaultKind::EtcdLeaderLoss);
    let in_force = plan
        .faults()
        .iter()
        .any(|fault| stops(fault.kind) && fault.from <= now && now <= fault.until + SETTLED_AFTER);
    in_force || reporter.restarted_at().is_some_and(|at| now <= at + SETTLED_AFTER)
}

/// Measures how late timers of the harness run.
pub async fn timers(reporter: Reporter) {
    loop {
        let due = Instant::now() + TIMER;
        sleep_until(due).await;
        let late = due.elapsed();
        // Timers have a resolution of one millisecond.
        let late = late.saturating_sub(Duration::from_millis(1));
        reporter.late(Lag::Runtime, late);
    }
}

#[cfg(test)]
mod tests {
    use alertstorm_model::scenario::{NoFiles, load};

    use super::*;
    use crate::reporter::Clock;

    fn request(connection: &str, last_arrival: Instant) -> Stalled {
        Stalled {
            method: "GET".to_owned(),
            path: "/api/v1/nodes".to_owned(),
            identity: "backend".into(),
            connection: connection.to_owned(),
            age: STALLED,
            last_arrival,
        }
    }

    #[tokio::test]
    async fn only_a_connection_that_hangs_again_without_progress_is_reported() {
        let (before, mut given_up) = (Instant::now(), BTreeMap::new());
        let first = [request("nodes 0", before), request("nodes 1", before)];
        assert!(second_time(&first, &mut given_up).is_empty());
        sleep(Duration::from_millis(2)).await;
        // On one of the new connections something arrived.
        let next = [request("nodes 0", before), request("nodes 1", Instant::now())];
        let again = second_time(&next, &mut given_up);
        assert_eq!(again.len(), 1);
        assert_eq!(again[0].connection, "nodes 0");
    }

    /// The watchdog of a server that refuses connections, with short times.
    async fn watched(faults: &str, reporter: &Reporter) {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("https://{}", closed.local_addr().unwrap());
        drop(closed);
        let tls = alertstorm_agent::trust::only("").unwrap();
        let lanes = Lanes::new("test", &address, &tls, 1).unwrap();
        let client = lanes.client("backend", "a-token", "a").unwrap();
        let text = format!("alerts: [{{flood: 1}}]\nfaults: {faults}");
        let plan = load(&text, "plan", &[], &NoFiles).unwrap();
        let request = Request::get("/api/v1/pods").body(Body::empty()).unwrap();
        client.send(request).await.unwrap_err();
        let (after, every) = (Duration::from_millis(50), Duration::from_millis(5));
        until_gone(after, every, &plan, &[lanes], &client, reporter).await;
    }

    #[tokio::test]
    async fn a_run_whose_api_server_is_gone_ends_as_invalid_with_the_reason() {
        let (reporter, mut inbox) = Reporter::new(Clock::default());
        reporter.clock().start(Instant::now());
        timeout(Duration::from_secs(60), watched("[]", &reporter)).await.expect("it ends");
        let Some(Observation::Abort(why)) = inbox.try_recv() else { panic!("the run ends") };
        assert!(why.contains("refused") && why.contains("deleted"), "{why}");
    }

    #[tokio::test]
    async fn an_outage_of_the_scenario_or_a_restart_by_the_provider_does_not_end_the_run() {
        let outage = "[{fault: api-server-down, at: 0s, for: 5s}]";
        for (faults, restarts) in [(outage, false), ("[]", true)] {
            let (reporter, mut inbox) = Reporter::new(Clock::default());
            reporter.clock().start(Instant::now());
            if restarts {
                reporter.server_restarted();
            }
            let watched = watched(faults, &reporter);
            assert!(timeout(Duration::from_millis(300), watched).await.is_err(), "{faults}");
            assert!(inbox.try_recv().is_none());
        }
    }
}
