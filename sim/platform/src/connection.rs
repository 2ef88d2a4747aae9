//! Connections to the API server. Requests of the harness's many identities, each with its own
//! bearer token, are spread over several HTTP/2 connections ("lanes"), so that none waits for a
//! free stream.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use http::header::AUTHORIZATION;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kube::Client;
use kube::client::Body;
use tokio::net::TcpStream;
use tower::util::MapResult;
use tower::{BoxError, Service, ServiceExt};

/// kube-apiserver allows 100 streams a connection if anonymous authentication is on
/// (`--http2-max-streams-per-connection`, its default since v1.28.3); the number of lanes leaves
/// room.
const STREAMS_PER_LANE: usize = 60;

/// HTTP/2 flow-control window of a connection in bytes.
///
/// hyper's adaptive window is not used: it starts at 64 KiB and grows with the estimated bandwidth,
/// and streams whose bodies are not being read (idle watches) hold their share of the connection's
/// window. With many watches on one connection they used up the whole window, and every other
/// request on it hung (seen with `lease-churn --on local`). A connection's window of 16 times a
/// stream's leaves room for the other requests of its lane.
const CONNECTION_WINDOW: u32 = 64 << 20;
/// HTTP/2 flow-control window of a stream in bytes: larger than a list of the largest run's pods.
const STREAM_WINDOW: u32 = 4 << 20;

type Answer = Response<hyper::body::Incoming>;

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
    #[error("a bearer token has characters that are not allowed in an HTTP header")]
    Token,
    /// The platform has no token of a hollow node: its number.
    #[error("the platform has no hollow node {0}")]
    NoNode(usize),
}

type Connected = Result<MaybeHttpsStream<TokioIo<TcpStream>>, BoxError>;

/// Opens connections, and logs each attempt.
type Connector = MapResult<HttpsConnector<HttpConnector>, fn(Connected) -> Connected>;

fn log_connected(done: Connected) -> Connected {
    match &done {
        Ok(_) => tracing::debug!("a connection to the API server was opened"),
        Err(error) => tracing::debug!(%error, "no connection to the API server"),
    }
    done
}

/// One HTTP/2 connection, and its number of open streams.
struct Lane {
    http: Http<Connector, Body>,
    streams: AtomicUsize,
}

/// The connections to one API server.
#[derive(Clone)]
pub struct Lanes {
    lanes: Arc<[Lane]>,
    authority: Authority,
}

impl Lanes {
    /// As many connections as `at_once` concurrent requests and watches need.
    ///
    /// # Errors
    /// [`ConnectionError::Address`].
    pub fn new(
        address: &str,
        tls: &rustls::ClientConfig,
        at_once: usize,
    ) -> Result<Self, ConnectionError> {
        let uri: Uri = address.parse().map_err(|_| ConnectionError::Address(address.to_owned()))?;
        let Some(authority) = uri.authority().cloned() else {
            return Err(ConnectionError::Address(address.to_owned()));
        };
        let lane = |_| {
            let mut connector = HttpConnector::new();
            connector.enforce_http(false);
            connector.set_nodelay(true);
            let connector = hyper_rustls::HttpsConnectorBuilder::new()
                .with_tls_config(tls.clone())
                .https_only()
                .enable_http2()
                .wrap_connector(connector);
            let connector = connector.map_result(log_connected as fn(Connected) -> Connected);
            let mut http = Http::builder(TokioExecutor::new());
            http.http2_only(true)
                .timer(TokioTimer::new())
                // Without a ping, a watch does not notice that its server was killed.
                .http2_keep_alive_interval(std::time::Duration::from_secs(10))
                .http2_keep_alive_timeout(std::time::Duration::from_secs(10))
                .http2_keep_alive_while_idle(true)
                .http2_initial_connection_window_size(CONNECTION_WINDOW)
                .http2_initial_stream_window_size(STREAM_WINDOW);
            Lane { http: http.build(connector), streams: AtomicUsize::new(0) }
        };
        let count = at_once.div_ceil(STREAMS_PER_LANE).max(1);
        tracing::debug!(lanes = count, at_once, %authority, "connections to the API server");
        Ok(Self { lanes: (0..count).map(lane).collect(), authority })
    }

    /// A client that sends `token`.
    ///
    /// # Errors
    /// [`ConnectionError::Token`].
    pub fn client(&self, token: &str, namespace: &str) -> Result<Client, ConnectionError> {
        let mut bearer = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| ConnectionError::Token)?;
        bearer.set_sensitive(true);
        Ok(Client::new(Identified { lanes: self.clone(), bearer }, namespace))
    }

    /// Index of the lane with the fewest open streams.
    fn pick(&self) -> usize {
        let streams = |n: &usize| self.lanes[*n].streams.load(Ordering::Relaxed);
        (0..self.lanes.len()).min_by_key(streams).unwrap_or(0)
    }
}

impl std::fmt::Debug for Lanes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} lanes to {}", self.lanes.len(), self.authority)
    }
}

/// The lanes with one identity: the service inside a [`Client`].
struct Identified {
    lanes: Lanes,
    bearer: HeaderValue,
}

/// An open stream of a lane; its drop, after the body or a failed request, decrements the count.
struct Stream {
    lanes: Lanes,
    lane: usize,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.lanes.lanes[self.lane].streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A response body that keeps its stream counted until it is dropped.
struct Held {
    body: hyper::body::Incoming,
    _stream: Stream,
}

impl hyper::body::Body for Held {
    type Data = hyper::body::Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

impl Service<Request<Body>> for Identified {
    type Response = Response<Held>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let mut parts = request.uri().clone().into_parts();
        parts.scheme = Some(Scheme::HTTPS);
        parts.authority = Some(self.lanes.authority.clone());
        parts.path_and_query = parts.path_and_query.or(Some(PathAndQuery::from_static("/")));
        let uri = match Uri::from_parts(parts) {
            Ok(uri) => uri,
            Err(error) => return Box::pin(async move { Err(error.into()) }),
        };
        *request.uri_mut() = uri;
        request.headers_mut().insert(AUTHORIZATION, self.bearer.clone());
        let lane = self.lanes.pick();
        self.lanes.lanes[lane].streams.fetch_add(1, Ordering::Relaxed);
        let stream = Stream { lanes: self.lanes.clone(), lane };
        let answer = self.lanes.lanes[lane].http.request(request);
        Box::pin(async move {
            let answer: Answer = answer.await.inspect_err(|error| {
                tracing::debug!(lane, %error, connect = error.is_connect(), "a request failed");
            })?;
            Ok(answer.map(|body| Held { body, _stream: stream }))
        })
    }
}
