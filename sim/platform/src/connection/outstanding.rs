//! The requests that wait for their response, so that a request that hangs can be named.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Request;
use slab::Slab;
use tokio::time::Instant;

use super::lane::Lane;
use super::limits::Kind;

/// A request on a connection on which nothing arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stalled {
    /// The HTTP method.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The identity that sent it, such as `node-0003`.
    pub identity: Arc<str>,
    /// The connection, such as `nodes 2`.
    pub connection: String,
    /// The time since it was sent.
    pub age: Duration,
    /// When something last arrived on the connection, or on the one before it in its place.
    pub last_arrival: Instant,
}

impl std::fmt::Display for Stalled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { method, path, identity, connection, age, .. } = self;
        write!(f, "{method} {path} of {identity} on connection {connection}, sent {age:.1?} ago")
    }
}

struct Entry {
    method: http::Method,
    path: Box<str>,
    identity: Arc<str>,
    lane: Arc<Lane>,
    sent: Instant,
    /// A stream whose response has begun: it may have nothing to send.
    is_quiet: bool,
}

/// The requests that wait for their response.
#[derive(Default)]
pub(super) struct Outstanding(Mutex<Slab<Entry>>);

impl Outstanding {
    fn entries(&self) -> std::sync::MutexGuard<'_, Slab<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a request until the ticket is dropped.
    pub fn record<B>(
        self: &Arc<Self>,
        request: &Request<B>,
        identity: Arc<str>,
        lane: &Arc<Lane>,
    ) -> Ticket {
        lane.stream_opened();
        let kind = Kind::of(request);
        let key = self.entries().insert(Entry {
            method: request.method().clone(),
            path: request.uri().path().into(),
            identity,
            lane: Arc::clone(lane),
            sent: Instant::now(),
            is_quiet: false,
        });
        Ticket { all: Arc::clone(self), lane: Arc::clone(lane), key, kind }
    }

    /// The requests on connections on which nothing has arrived for `at_least`.
    fn stalled(&self, at_least: Duration) -> Vec<(Arc<Lane>, Stalled)> {
        let now = Instant::now();
        let entries = self.entries();
        let stalls = |entry: &&Entry| {
            let last = entry.lane.progressed_at().max(entry.sent);
            !entry.is_quiet && now.saturating_duration_since(last) >= at_least
        };
        let named = |entry: &Entry| {
            let stalled = Stalled {
                method: entry.method.to_string(),
                path: entry.path.to_string(),
                identity: Arc::clone(&entry.identity),
                connection: entry.lane.name.clone(),
                age: now.saturating_duration_since(entry.sent),
                last_arrival: entry.lane.progressed_at(),
            };
            (Arc::clone(&entry.lane), stalled)
        };
        entries.iter().map(|(_, entry)| entry).filter(stalls).map(named).collect()
    }

    /// The requests on connections on which nothing has arrived for `at_least`. These connections
    /// are given up, so the requests fail with an error that callers retry.
    pub fn give_up(&self, at_least: Duration) -> Vec<Stalled> {
        let stalled = self.stalled(at_least);
        let mut lanes: Vec<&Arc<Lane>> = stalled.iter().map(|(lane, _)| lane).collect();
        lanes.sort_by_key(|lane| Arc::as_ptr(lane));
        lanes.dedup_by(|a, b| Arc::ptr_eq(a, b));
        lanes.iter().for_each(|lane| lane.renew());
        stalled.into_iter().map(|(_, stalled)| stalled).collect()
    }
}

/// A request that is recorded until its response was read to the end.
pub(super) struct Ticket {
    all: Arc<Outstanding>,
    pub lane: Arc<Lane>,
    key: usize,
    pub kind: Kind,
}

impl Ticket {
    /// The response has begun.
    pub fn answered(&self) {
        self.lane.progress();
        if self.kind == Kind::Stream
            && let Some(entry) = self.all.entries().get_mut(self.key)
        {
            entry.is_quiet = true;
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.lane.stream_closed();
        drop(self.all.entries().try_remove(self.key));
    }
}
