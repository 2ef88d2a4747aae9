//! Watches for requests to the API server that hang, and for a harness that is too slow.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alertstorm_model::scenario::{FaultKind, Plan};
use alertstorm_model::time::{Span, Time};
use alertstorm_platform::connection::{Lanes, Stalled};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

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

/// Gives up stalled connections, so that their requests are retried on new ones. If a new
/// connection does not help either, the run ends as invalid.
pub async fn follow(plan: Arc<Plan>, lanes: Vec<Lanes>, reporter: Reporter) {
    let mut given_up: BTreeMap<String, Instant> = BTreeMap::new();
    let mut check = interval(PERIOD);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        check.tick().await;
        // A server that the scenario stops answers nothing, as intended.
        if is_outage(&plan, reporter.now()) {
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

/// Whether the scenario has stopped a server that requests depend on, or did so until just now.
fn is_outage(plan: &Plan, now: Time) -> bool {
    let stops = |kind| matches!(kind, FaultKind::ApiServerDown | FaultKind::EtcdLeaderLoss);
    let settled = Span::secs(60);
    plan.faults()
        .iter()
        .any(|fault| stops(fault.kind) && fault.from <= now && now <= fault.until + settled)
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
    use super::*;

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
        tokio::time::sleep(Duration::from_millis(2)).await;
        // On one of the new connections something arrived.
        let next = [request("nodes 0", before), request("nodes 1", Instant::now())];
        let again = second_time(&next, &mut given_up);
        assert_eq!(again.len(), 1);
        assert_eq!(again[0].connection, "nodes 0");
    }
}
