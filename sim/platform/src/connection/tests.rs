//! The connections against a server on loopback that withholds what a real one sends.

use std::convert::Infallible;
use std::future::pending;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{StreamExt, stream};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::call;

/// More than the flow-control window of a stream.
const PER_WATCH: usize = 8 << 20;
/// Together the watches have more unread data than the window of a connection.
const WATCHES: usize = 20;
const OBJECT: &str = "/api/v1/namespaces/a/pods/b";
const WATCH: &str = "/api/v1/namespaces/a/pods?watch=true";

struct Server {
    lanes: Lanes,
    connections: Arc<AtomicUsize>,
    /// The path of each request that was received.
    received: UnboundedReceiver<String>,
}

type Reply = Response<BoxBody<Bytes, Infallible>>;

fn text(text: &'static str) -> Reply {
    Response::new(Full::new(Bytes::from_static(text.as_bytes())).boxed())
}

/// A body of `parts` parts of 64 KiB, and then nothing for ever.
fn unfinished(parts: usize) -> Reply {
    let part = |_| Ok(Frame::data(Bytes::from(vec![b' '; 1 << 16])));
    let parts = stream::iter(0..parts).map(part).chain(stream::pending());
    Response::new(BodyExt::boxed(StreamBody::new(parts)))
}

impl Server {
    /// A server whose requests `reply` answers; none is never answered.
    async fn start(reply: fn(&Request<Incoming>) -> Option<Reply>) -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let mut tls = rustls::ServerConfig::builder_with_provider(
            rustls::crypto::ring::default_provider().into(),
        )
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = format!("https://{}", listener.local_addr().unwrap());
        let trusted = alertstorm_agent::trust::only(&cert.pem()).unwrap();
        let lanes = Lanes::new("test", &address, &trusted, 1).unwrap();
        let (report, received) = unbounded_channel();
        let connections = Arc::<AtomicUsize>::default();
        let accepted = Arc::clone(&connections);
        tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(Arc::new(tls));
            while let Ok((socket, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(acceptor.clone(), socket, report.clone(), reply));
            }
        });
        Self { lanes, connections, received }
    }

    fn client(&self) -> Client {
        self.lanes.client("node-0003", "a-token", "a").unwrap()
    }

    /// Sends a request in a task.
    fn ask(&self, uri: &'static str) -> JoinHandle<Result<String, kube::Error>> {
        let client = self.client();
        tokio::spawn(async move { client.request_text(get(uri).map(|_| Vec::new())).await })
    }
}

async fn serve(
    acceptor: TlsAcceptor,
    socket: tokio::net::TcpStream,
    report: UnboundedSender<String>,
    reply: fn(&Request<Incoming>) -> Option<Reply>,
) {
    let Ok(socket) = acceptor.accept(socket).await else { return };
    let service = service_fn(move |request: Request<Incoming>| {
        let _ = report.send(request.uri().path().to_owned());
        let reply = reply(&request);
        async move {
            match reply {
                Some(reply) => Ok::<_, Infallible>(reply),
                None => pending().await,
            }
        }
    });
    let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    // Ends with an error when the client closes the connection.
    let _ = http.serve_connection(TokioIo::new(socket), service).await;
}

fn get(uri: &str) -> Request<Body> {
    Request::get(uri).body(Body::empty()).unwrap()
}

/// Waits for something that would otherwise hang the test.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), what).await.expect("it hangs")
}

/// On a connection that requests and watches share, the unread data of the watches uses up the
/// connection's window, and every request on it hangs.
#[tokio::test(flavor = "multi_thread")]
async fn requests_are_answered_while_watches_are_not_read() {
    let reply = |request: &Request<Incoming>| match request.uri().query() {
        Some(_) => Some(unfinished(PER_WATCH >> 16)),
        None => Some(text("the object")),
    };
    let server = Server::start(reply).await;
    let mut unread = Vec::new();
    for _ in 0..WATCHES {
        unread.push(soon(server.client().send(get(WATCH))).await.unwrap());
    }
    for _ in 0..3 {
        // Time for the server to fill the windows.
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(soon(server.ask(OBJECT)).await.unwrap().unwrap(), "the object");
    }
    // One connection for requests, and one for each watch.
    assert_eq!(server.connections.load(Ordering::SeqCst), WATCHES + 1);
    drop(unread);
    let _again = soon(server.client().send(get(WATCH))).await.unwrap();
    assert_eq!(server.connections.load(Ordering::SeqCst), WATCHES + 1, "a lane is used again");
}

#[tokio::test]
async fn a_request_that_is_not_answered_is_named_and_fails_when_its_connection_is_given_up() {
    let mut server = Server::start(|_| None).await;
    let asked = server.ask(OBJECT);
    assert_eq!(soon(server.received.recv()).await.as_deref(), Some(OBJECT));
    assert_eq!(server.lanes.give_up_stalled(Duration::from_secs(3_600)), []);
    let stalled = server.lanes.give_up_stalled(Duration::ZERO);
    assert_eq!(stalled.len(), 1);
    let named = stalled[0].to_string();
    assert!(named.starts_with("GET /api/v1/namespaces/a/pods/b of node-0003 on connection test 0"));
    let error = soon(asked).await.unwrap().unwrap_err();
    assert!(call::is_transient(&error), "{error:?}");
    assert_eq!(server.lanes.give_up_stalled(Duration::ZERO), []);
    // A retry opens a new connection.
    let _again = server.ask(OBJECT);
    assert!(soon(server.received.recv()).await.is_some());
    assert_eq!(server.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_watch_without_events_is_not_stalled() {
    let mut server = Server::start(|_| Some(unfinished(0))).await;
    let watch = soon(server.client().send(get(WATCH))).await.unwrap();
    assert!(soon(server.received.recv()).await.is_some());
    assert_eq!(server.lanes.give_up_stalled(Duration::ZERO), []);
    drop(watch);
}

#[tokio::test]
async fn a_server_that_refuses_connections_is_unanswered_until_one_answers() {
    let closed = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = format!("https://{}", closed.local_addr().unwrap());
    drop(closed);
    let trusted = alertstorm_agent::trust::only("").unwrap();
    let lanes = Lanes::new("test", &address, &trusted, 1).unwrap();
    assert_eq!(lanes.unanswered(), None);
    let client = lanes.client("backend", "a-token", "a").unwrap();
    soon(client.send(get(OBJECT))).await.unwrap_err();
    assert!(lanes.unanswered().is_some_and(|why| why.contains("refused")));
    let refused = |_: &Request<Incoming>| {
        let mut reply = text("no");
        *reply.status_mut() = http::StatusCode::FORBIDDEN;
        Some(reply)
    };
    let server = Server::start(refused).await;
    soon(server.client().send(get(OBJECT))).await.unwrap();
    assert_eq!(server.lanes.unanswered(), None, "a 403 is an answer");
}

/// Moves the clock past a request's limit while it waits.
async fn after(limit: Duration) {
    tokio::time::pause();
    tokio::time::advance(limit + Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_request_that_is_not_answered_ends_at_its_limit() {
    let mut server = Server::start(|_| None).await;
    let asked = server.ask(OBJECT);
    server.received.recv().await.unwrap();
    after(Kind::Single.limit()).await;
    let error = asked.await.unwrap().unwrap_err();
    assert!(call::is_transient(&error), "{error:?}");
    let trouble = server.lanes.trouble().expect("a remark for the report");
    for part in ["1 got no response (the last error: the API server did not", "nothing arrived"] {
        assert!(trouble.contains(part), "{trouble}");
    }
}

#[tokio::test]
async fn a_response_that_does_not_end_is_cut_at_the_limit() {
    let mut server = Server::start(|_| Some(unfinished(1))).await;
    let asked = server.ask(OBJECT);
    server.received.recv().await.unwrap();
    // Until the first part arrived.
    tokio::time::sleep(Duration::from_millis(200)).await;
    after(Kind::Single.limit()).await;
    let error = asked.await.unwrap().unwrap_err();
    assert!(call::is_transient(&error), "{error:?}");
}

#[tokio::test]
async fn a_watch_on_which_nothing_arrives_ends() {
    let server = Server::start(|_| Some(unfinished(1))).await;
    let mut body = server.client().send(get(WATCH)).await.unwrap().into_body();
    let mut read = 0;
    while read < 1 << 16 {
        let part = body.frame().await.unwrap().unwrap();
        read += part.data_ref().map_or(0, Bytes::len);
    }
    let asked = tokio::spawn(async move { body.frame().await.unwrap() });
    tokio::task::yield_now().await;
    after(Kind::Stream.idle().unwrap()).await;
    assert!(asked.await.unwrap().is_err());
}
