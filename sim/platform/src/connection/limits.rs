//! How long requests to the API server may take, by kind.

use std::time::Duration;

use http::{Method, Request};

/// A Lease or a node's status: kubelet's heartbeat client gives up after `nodeStatusUpdateFrequency`
/// (10 s), as a later heartbeat replaces it. That bounds its reads, too. Within the duration of a node's
/// Lease (40 s) three attempts are possible, and within that of a run's Lease (60 s) five.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// A request for one object. kube-apiserver answers a write with 504 after 34 s
/// (`requestTimeoutUpperBound` in apiserver/pkg/endpoints/handlers/rest.go).
const SINGLE: Duration = Duration::from_secs(35);
/// A list or the deletion of a collection. kube-apiserver answers with 504 after
/// `--request-timeout`, by default 60 s.
const COLLECTION: Duration = Duration::from_secs(61);
/// The time without data after which a watch is started anew. kube-apiserver sends a bookmark
/// every minute (`bookmarkFrequency` in apiserver/pkg/storage/cacher/cacher.go), and a shard writes
/// a line every two seconds.
const IDLE: Duration = Duration::from_secs(90);

/// The kind of a request, which decides how long it may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A read, the creation or the renewal of a Lease, or a Node's status.
    Heartbeat,
    /// A request for one object.
    Single,
    /// A list, or the deletion of a collection.
    Collection,
    /// A watch, or a log that is followed: it has no end of its own.
    Stream,
}

impl Kind {
    pub fn of<B>(request: &Request<B>) -> Self {
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
        let streams = |pair: &str| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, "true"));
            matches!(key, "watch" | "follow") && matches!(value, "true" | "1")
        };
        if query.split('&').any(streams) {
            return Self::Stream;
        }
        // Below the version, a path alternates between collections and names.
        let below = if path.starts_with("/api/") { 2 } else { 3 };
        let segments = path.trim_matches('/').split('/').count().saturating_sub(below);
        if segments % 2 == 1 && matches!(*request.method(), Method::GET | Method::DELETE) {
            return Self::Collection;
        }
        let status = path.starts_with("/api/v1/nodes/") && path.ends_with("/status");
        let writes_status = status && request.method() != Method::GET;
        let lease = path.starts_with("/apis/coordination.k8s.io/") && path.contains("/leases");
        match writes_status || lease && request.method() != Method::DELETE {
            true => Self::Heartbeat,
            false => Self::Single,
        }
    }

    /// How long it may take until its end; for a stream, until its first byte.
    pub const fn limit(self) -> Duration {
        match self {
            Self::Heartbeat => HEARTBEAT,
            Self::Single => SINGLE,
            Self::Collection | Self::Stream => COLLECTION,
        }
    }

    /// How long a stream may be without data.
    pub const fn idle(self) -> Option<Duration> {
        match self {
            Self::Stream => Some(IDLE),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_a_request_follows_from_its_method_and_path() {
        let jobs = "/apis/batch/v1/namespaces/a/jobs";
        let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
        let lease = format!("{leases}/node-0001");
        let of_run = "/apis/coordination.k8s.io/v1/namespaces/alertstorm-a/leases/alertstorm";
        let cases = [
            (Method::GET, format!("{jobs}?&labelSelector=a&watch=true"), Kind::Stream),
            (Method::GET, "/api/v1/namespaces/a/pods/b/log?&follow=true".to_owned(), Kind::Stream),
            (Method::GET, format!("{jobs}?labelSelector=watch%3Dtrue"), Kind::Collection),
            (Method::DELETE, jobs.to_owned(), Kind::Collection),
            (Method::DELETE, format!("{jobs}/b"), Kind::Single),
            (Method::POST, jobs.to_owned(), Kind::Single),
            (Method::PUT, lease.clone(), Kind::Heartbeat),
            (Method::GET, lease, Kind::Heartbeat),
            (Method::POST, leases.to_owned(), Kind::Heartbeat),
            (Method::GET, leases.to_owned(), Kind::Collection),
            (Method::GET, of_run.to_owned(), Kind::Heartbeat),
            (Method::PATCH, of_run.to_owned(), Kind::Heartbeat),
            (Method::DELETE, of_run.to_owned(), Kind::Single),
            (Method::PATCH, "/api/v1/nodes/node-0001/status".to_owned(), Kind::Heartbeat),
            (Method::GET, "/api/v1/nodes".to_owned(), Kind::Collection),
            (Method::GET, "/api/v1/namespaces/a/pods/b".to_owned(), Kind::Single),
            (Method::PATCH, "/api/v1/namespaces/a/pods/b/status".to_owned(), Kind::Single),
        ];
        for (method, uri, kind) in cases {
            let request = Request::builder().method(&method).uri(&uri).body(()).unwrap();
            assert_eq!(Kind::of(&request), kind, "{method} {uri}");
        }
    }
}
