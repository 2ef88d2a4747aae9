//! Connections to the API server: HTTP/2, spread over several so that requests of the many
//! identities in one harness do not queue for a stream, each request with its own bearer token.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use http::header::AUTHORIZATION;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::Client;
use kube::client::Body;
use tower::{BoxError, Service};

/// kube-apiserver allows 100 streams a connection where anonymous clients could open them
/// (`--http2-max-streams-per-connection`, its default since v1.28.3); a lane is full before that.
const STREAMS_PER_LANE: usize = 60;

/// What a server may send on a connection before it waits for a window update, in bytes.
///
/// hyper's adaptive window is not used: it starts at 64 KiB and grows with the estimated bandwidth,
/// and streams whose bodies nobody reads at the moment (idle watches) hold their share of the
/// connection's window meanwhile. Many watches on one connection could so use up the whole window,
/// and every other request on it waited for ever (seen with `lease-churn --on local`). A connection's
/// window of 16 times a stream's leaves room for the other requests of its lane.
const CONNECTION_WINDOW: u32 = 64 << 20;
/// What a server may send on one stream before it waits for a window update, in bytes: more than a
/// list of the largest run's pods.
const STREAM_WINDOW: u32 = 4 << 20;

type Answer = Response<hyper::body::Incoming>;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The certificate of the authority cannot be read.
    #[error("the certificate of the API server's authority cannot be read")]
    Authority(#[from] rustls::Error),
    /// The address is no address.
    #[error("`{0}` is not the address of an API server")]
    Address(String),
    /// The token has characters that no header may have.
    #[error("the bearer token cannot be sent")]
    Token,
}

/// One HTTP/2 connection.
struct Lane {
    http: Http<HttpsConnector<HttpConnector>, Body>,
    streams: AtomicUsize,
}

/// The connections to one API server.
#[derive(Clone)]
pub struct Lanes {
    lanes: Arc<[Lane]>,
    authority: Authority,
}

impl Lanes {
    /// Connections enough for so many requests and watches at once.
    ///
    /// # Errors
    /// Where the address is none.
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
            let mut http = Http::builder(TokioExecutor::new());
            http.http2_only(true)
                .timer(TokioTimer::new())
                // A server that was killed and one that hangs look alike to a watch.
                .http2_keep_alive_interval(std::time::Duration::from_secs(10))
                .http2_keep_alive_timeout(std::time::Duration::from_secs(10))
                .http2_keep_alive_while_idle(true)
                .http2_initial_connection_window_size(CONNECTION_WINDOW)
                .http2_initial_stream_window_size(STREAM_WINDOW);
            Lane { http: http.build(connector), streams: AtomicUsize::new(0) }
        };
        let count = at_once.div_ceil(STREAMS_PER_LANE).max(1);
        Ok(Self { lanes: (0..count).map(lane).collect(), authority })
    }

    /// A client that shows `token`.
    ///
    /// # Errors
    /// Where the token cannot be sent.
    pub fn client(&self, token: &str, namespace: &str) -> Result<Client, ConnectionError> {
        let mut bearer = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| ConnectionError::Token)?;
        bearer.set_sensitive(true);
        Ok(Client::new(Identified { lanes: self.clone(), bearer }, namespace))
    }

    /// The lane with the fewest streams.
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

/// The lanes, with an identity.
struct Identified {
    lanes: Lanes,
    bearer: HeaderValue,
}

/// Frees the stream at the end of a body or of a request that failed.
struct Stream {
    lanes: Lanes,
    lane: usize,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.lanes.lanes[self.lane].streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A body that holds its stream.
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
            let answer: Answer = answer.await?;
            Ok(answer.map(|body| Held { body, _stream: stream }))
        })
    }
}
