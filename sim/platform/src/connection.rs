//! Connections to the API server. Requests of the harness's many identities, each with its own
//! bearer token, are spread over several HTTP/2 connections ("lanes"), so that none waits for a
//! free stream. Each watch has a connection of its own: what a watch has not read yet counts
//! against the flow-control window of its connection, and must not stop other requests. Every
//! request has a time limit, and every watch an idle limit.

mod body;
mod caller;
mod lane;
mod limits;
mod outstanding;
mod reachable;
#[cfg(test)]
mod tests;
mod trouble;

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hdrhistogram::Histogram;
use http::header::AUTHORIZATION;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use kube::Client;
use kube::client::Body;
use tokio::time::{Instant, timeout_at};
use tower::{BoxError, Service};

use crate::bearer::{Bearer, InvalidToken};
use body::{Bounded, Interrupted, ReadLag};
use caller::Sends;
use lane::{Answer, Lane};
use limits::Kind;
use outstanding::{Outstanding, Ticket};

pub use caller::{Caller, PatchKind};
pub use outstanding::Stalled;
use reachable::Reachable;
use trouble::Trouble;

/// kube-apiserver allows 100 streams a connection if anonymous authentication is on
/// (`--http2-max-streams-per-connection`, its default since v1.28.3); the number of lanes leaves
/// room.
const STREAMS_PER_LANE: usize = 60;

/// Why no client of the API server could be created.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The CA certificate of the API server is not valid PEM, or not a certificate.
    #[error("could not read the CA certificate of the API server")]
    Authority(#[from] rustls::Error),
    /// The URL of the API server has no host.
    #[error("`{0}` is not the URL of an API server; it has to be like https://HOST:PORT")]
    Address(String),
    /// The token has characters that are not allowed in a header.
    #[error(transparent)]
    Token(#[from] InvalidToken),
    /// The platform has no token of a hollow node: its number.
    #[error("the platform has no hollow node {0}")]
    NoNode(usize),
}

/// The connections to one API server.
#[derive(Clone)]
pub struct Lanes(Arc<Shared>);

struct Shared {
    name: &'static str,
    authority: Authority,
    tls: rustls::ClientConfig,
    /// For requests with an end.
    lanes: Vec<Arc<Lane>>,
    /// For watches, one each. A lane without a watch is used by the next one.
    watches: Mutex<Vec<Arc<Lane>>>,
    outstanding: Arc<Outstanding>,
    read_lag: ReadLag,
    reachable: Arc<Reachable>,
    trouble: Trouble,
}

impl Lanes {
    /// As many connections as `at_once` concurrent requests need; `name` is for log messages.
    /// Watches get connections of their own.
    ///
    /// # Errors
    /// [`ConnectionError::Address`].
    pub fn new(
        name: &'static str,
        address: &str,
        tls: &rustls::ClientConfig,
        at_once: usize,
    ) -> Result<Self, ConnectionError> {
        let uri: Uri = address.parse().map_err(|_| ConnectionError::Address(address.to_owned()))?;
        let Some(authority) = uri.authority().cloned() else {
            return Err(ConnectionError::Address(address.to_owned()));
        };
        let count = at_once.div_ceil(STREAMS_PER_LANE).max(1);
        tracing::debug!(lanes = count, at_once, %authority, "connections to the API server");
        let lane = |number| Arc::new(Lane::new(format!("{name} {number}"), tls.clone()));
        Ok(Self(Arc::new(Shared {
            name,
            authority,
            tls: tls.clone(),
            lanes: (0..count).map(lane).collect(),
            watches: Mutex::default(),
            outstanding: Arc::default(),
            read_lag: ReadLag::default(),
            reachable: Arc::default(),
            trouble: Trouble::default(),
        })))
    }

    /// A client that sends `token`; `identity` names its owner in log messages.
    ///
    /// # Errors
    /// [`ConnectionError::Token`].
    pub fn client(
        &self,
        identity: &str,
        token: &str,
        namespace: &str,
    ) -> Result<Client, ConnectionError> {
        Ok(self.client_of(identity, &Bearer::new(token)?, namespace))
    }

    /// A client that sends the current token of `bearer` with each request.
    pub fn client_of(&self, identity: &str, bearer: &Bearer, namespace: &str) -> Client {
        Client::new(self.identified(identity, bearer), namespace)
    }

    /// A caller that sends the current token of `bearer` with each request; `identity` names its owner
    /// in log messages.
    pub fn caller_of(&self, identity: &str, bearer: &Bearer, namespace: &str) -> Caller {
        let identified = self.identified(identity, bearer);
        Caller::new(Client::new(identified.clone(), namespace), Arc::new(identified))
    }

    fn identified(&self, identity: &str, bearer: &Bearer) -> Identified {
        Identified { lanes: self.clone(), identity: identity.into(), bearer: bearer.clone() }
    }

    /// Gives up the connections on which requests wait and nothing has arrived for `at_least`, and
    /// returns these requests. They fail with a transient error, and a retry opens a new
    /// connection.
    pub fn give_up_stalled(&self, at_least: Duration) -> Vec<Stalled> {
        self.0.outstanding.give_up(at_least)
    }

    /// Why the latest request got no response; none if it got one.
    pub fn unanswered(&self) -> Option<String> {
        self.0.reachable.unanswered()
    }

    /// Error responses that callers retry, requests without a response, and long waits for one: a
    /// sentence for the report, or none.
    pub fn trouble(&self) -> Option<String> {
        self.0.trouble.remark(self.0.name)
    }

    /// How late the harness read its watches, in nanoseconds: the time since the first of the parts
    /// that arrived without a pause between them.
    pub fn read_lag(&self) -> Histogram<u64> {
        self.0.read_lag.histogram()
    }

    /// The lane for a request: the one with the fewest open streams, or one of its own for a watch.
    fn pick(&self, kind: Kind) -> Arc<Lane> {
        if kind != Kind::Stream {
            let fewest = self.0.lanes.iter().min_by_key(|lane| lane.streams());
            return Arc::clone(fewest.unwrap_or(&self.0.lanes[0]));
        }
        let mut watches = self.0.watches.lock().unwrap_or_else(PoisonError::into_inner);
        // The list and the caller hold a lane that is in use.
        if let Some(free) = watches.iter().find(|lane| Arc::strong_count(lane) == 1) {
            return Arc::clone(free);
        }
        let name = format!("{} watch {}", self.0.name, watches.len());
        let lane = Arc::new(Lane::new(name, self.0.tls.clone()));
        watches.push(Arc::clone(&lane));
        lane
    }
}

impl std::fmt::Debug for Lanes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} lanes to {}", self.0.lanes.len(), self.0.authority)
    }
}

/// The lanes with one identity: the service inside a [`Client`].
#[derive(Clone)]
struct Identified {
    lanes: Lanes,
    identity: Arc<str>,
    bearer: Bearer,
}

impl Identified {
    /// Sends a request.
    fn dispatch(
        &self,
        mut request: Request<Body>,
    ) -> impl Future<Output = Result<Response<Bounded>, BoxError>> + Send + use<> {
        let sent = self.start(&mut request).map(|(lane, ticket)| {
            let sent = Instant::now();
            (lane.send(request), sent, ticket, Arc::clone(&self.lanes.0))
        });
        async move {
            let ((answer, closed), sent, ticket, shared) = sent?;
            let (kind, mut closed) = (ticket.kind, Box::pin(closed));
            let answered = tokio::select! {
                answered = timeout_at(sent + kind.limit(), answer) => {
                    answered.map_err(|_| Interrupted::TimedOut(kind.limit()))
                }
                () = closed.as_mut() => Err(Interrupted::GivenUp),
            };
            let (lane, trouble) = (&ticket.lane.name, &shared.trouble);
            trouble.silent(lane, sent.max(ticket.lane.progressed_at()).elapsed());
            let answer: Answer =
                answered.inspect_err(|error| trouble.failed(error))?.inspect_err(|error| {
                    tracing::debug!(lane, %error, connect = error.is_connect(), "a request failed");
                    shared.reachable.failed(error);
                    trouble.failed(error);
                })?;
            shared.reachable.answered();
            trouble.answered(answer.status());
            let read_lag = shared.read_lag.clone();
            Ok(answer.map(|body| Bounded::new(body, sent, closed, ticket, read_lag)))
        }
    }

    /// Completes a request, picks its lane, and records it.
    fn start(&self, request: &mut Request<Body>) -> Result<(Arc<Lane>, Ticket), http::Error> {
        let shared = &self.lanes.0;
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(Scheme::HTTPS);
        parts.authority = Some(shared.authority.clone());
        parts.path_and_query = parts.path_and_query.or(Some(PathAndQuery::from_static("/")));
        *request.uri_mut() = Uri::from_parts(parts)?;
        request.headers_mut().insert(AUTHORIZATION, self.bearer.header());
        let lane = self.lanes.pick(Kind::of(request));
        let ticket = shared.outstanding.record(request, Arc::clone(&self.identity), &lane);
        Ok((lane, ticket))
    }
}

impl Sends for Identified {
    fn send(&self, request: Request<Body>) -> <Self as Service<Request<Body>>>::Future {
        Box::pin(self.dispatch(request))
    }
}

impl Service<Request<Body>> for Identified {
    type Response = Response<Bounded>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.dispatch(request))
    }
}
