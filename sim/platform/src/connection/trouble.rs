//! What went wrong with requests to the API server: error responses that are retried, requests without
//! a response, and waits for one.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;

/// A connection with waiting requests on which nothing arrives for this long is mentioned.
const SILENT_FROM: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
struct Inner {
    /// The number of responses by status: 429, and 500 and above.
    refused: BTreeMap<u16, u64>,
    unanswered: u64,
    last_error: String,
    /// The longest time for which a request waited and nothing arrived on its connection.
    silence: Duration,
}

/// The trouble of all requests of some connections.
#[derive(Debug, Default)]
pub(super) struct Trouble(Mutex<Inner>);

impl Trouble {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request was answered.
    pub fn answered(&self, status: StatusCode) {
        if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
            *self.lock().refused.entry(status.as_u16()).or_default() += 1;
        }
    }

    /// A request got no response.
    pub fn failed(&self, error: &dyn std::fmt::Display) {
        let mut inner = self.lock();
        inner.unanswered += 1;
        inner.last_error = error.to_string();
    }

    /// Nothing arrived on the connection of a request that waited this long.
    pub fn silent(&self, connection: &str, silence: Duration) {
        if silence < SILENT_FROM {
            return;
        }
        tracing::info!(connection, ?silence, "nothing arrived from the API server");
        let mut inner = self.lock();
        inner.silence = inner.silence.max(silence);
    }

    /// A remark on the requests of one client, by its name; none without trouble.
    pub fn remark(&self, client: &str) -> Option<String> {
        let inner = self.lock();
        let mut parts: Vec<String> = inner
            .refused
            .iter()
            .map(|(status, count)| format!("{count} were answered {status}"))
            .collect();
        if inner.unanswered > 0 {
            let (count, error) = (inner.unanswered, &inner.last_error);
            parts.push(format!("{count} got no response (the last error: {error})"));
        }
        if !inner.silence.is_zero() {
            let silence = inner.silence.as_secs_f64();
            parts.push(format!("nothing arrived for {silence:.1} s while some waited"));
        }
        (!parts.is_empty())
            .then(|| format!("requests of {client} to the API server: {}", parts.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_responses_lost_requests_and_silence_are_in_the_remark() {
        let trouble = Trouble::default();
        trouble.answered(StatusCode::OK);
        trouble.answered(StatusCode::CONFLICT);
        trouble.silent("nodes 0", SILENT_FROM - Duration::from_millis(1));
        assert_eq!(trouble.remark("nodes"), None);
        trouble.answered(StatusCode::TOO_MANY_REQUESTS);
        trouble.answered(StatusCode::TOO_MANY_REQUESTS);
        trouble.answered(StatusCode::INTERNAL_SERVER_ERROR);
        trouble.failed(&"connection refused");
        trouble.silent("nodes 0", Duration::from_secs(7));
        trouble.silent("nodes 1", Duration::from_secs(6));
        let remark = trouble.remark("nodes").expect("a remark");
        let parts = [
            "nodes",
            "2 were answered 429",
            "1 were answered 500",
            "1 got no response (the last error: connection refused)",
            "nothing arrived for 7.0 s",
        ];
        for part in parts {
            assert!(remark.contains(part), "{part}: {remark}");
        }
    }
}
