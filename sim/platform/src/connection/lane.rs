//! One HTTP/2 connection to the API server, which can be replaced by a new one.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client as Http, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kube::client::Body;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use tokio::time::Instant;
use tower::util::MapResult;
use tower::{BoxError, ServiceExt};

/// The response to a request, with its body still to come.
pub(super) type Answer = Response<Incoming>;

type Connected = Result<MaybeHttpsStream<TokioIo<TcpStream>>, BoxError>;

/// Opens connections, and logs each attempt.
type Connector = MapResult<HttpsConnector<HttpConnector>, fn(Connected) -> Connected>;

/// HTTP/2 flow-control window of a connection in bytes.
///
/// hyper's adaptive window is not used: it starts at 64 KiB, and a body that is not being read
/// holds its share of the connection's window.
const CONNECTION_WINDOW: u32 = 64 << 20;
/// HTTP/2 flow-control window of a stream in bytes: larger than a list of the largest run's pods.
const STREAM_WINDOW: u32 = 4 << 20;

fn log_connected(done: Connected) -> Connected {
    match &done {
        Ok(_) => tracing::debug!("a connection to the API server was opened"),
        Err(error) => tracing::debug!(%error, "no connection to the API server"),
    }
    done
}

/// One HTTP/2 connection. It is opened by the first request, and again if it was closed.
pub(super) struct Lane {
    /// For log messages.
    pub name: String,
    tls: rustls::ClientConfig,
    current: Mutex<Current>,
    streams: AtomicUsize,
    /// The start of the times below.
    made: Instant,
    /// When a response or a part of one last arrived, in milliseconds since `made`.
    progressed: AtomicU64,
}

struct Current {
    http: Http<Connector, Body>,
    /// Notified when the connection is given up.
    closed: Arc<Notify>,
}

impl Lane {
    pub fn new(name: String, tls: rustls::ClientConfig) -> Self {
        let current = Mutex::new(Current { http: open(&tls), closed: Arc::default() });
        let (made, progressed) = (Instant::now(), AtomicU64::new(0));
        Self { name, tls, current, streams: AtomicUsize::new(0), made, progressed }
    }

    /// Number of open streams.
    pub fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    pub fn stream_opened(&self) {
        self.streams.fetch_add(1, Ordering::Relaxed);
    }

    pub fn stream_closed(&self) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
    }

    /// Sends a request. The second future completes when the connection is given up.
    pub fn send(&self, request: Request<Body>) -> (ResponseFuture, OwnedNotified) {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        (current.http.request(request), Arc::clone(&current.closed).notified_owned())
    }

    /// Records that something arrived.
    pub fn progress(&self) {
        let now = u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.progressed.store(now, Ordering::Relaxed);
    }

    /// When something last arrived.
    pub fn progressed_at(&self) -> Instant {
        self.made + Duration::from_millis(self.progressed.load(Ordering::Relaxed))
    }

    /// Gives the connection up: its requests fail, and the next one opens a new connection.
    pub fn renew(&self) {
        let next = Current { http: open(&self.tls), closed: Arc::default() };
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *current, next);
        drop(current);
        old.closed.notify_waiters();
    }
}

fn open(tls: &rustls::ClientConfig) -> Http<Connector, Body> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(Duration::from_secs(10)));
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
        .http2_keep_alive_interval(Duration::from_secs(10))
        .http2_keep_alive_timeout(Duration::from_secs(10))
        .http2_keep_alive_while_idle(true)
        .http2_initial_connection_window_size(CONNECTION_WINDOW)
        .http2_initial_stream_window_size(STREAM_WINDOW);
    http.build(connector)
}
