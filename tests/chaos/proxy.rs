//! A proxy on loopback in front of the API server, which can fail in the ways of a network or of an
//! overloaded server. It listens on the port that all clients use; the server itself gets another one,
//! by a script in its place.

use std::convert::Infallible;
use std::fs;
use std::net::{Ipv4Addr, TcpListener as Probe};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alertstorm_platform::provider::Program;
use alertstorm_platform::provider::local::assets;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch::{Receiver, Sender, channel};
use tokio_rustls::TlsAcceptor;

/// What the proxy does with connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Passes everything on.
    Pass,
    /// Accepts connections, and passes nothing on.
    Silent,
    /// Closes all connections, and each new one.
    Refuse,
    /// Closes all connections, and answers each request on new ones with this status.
    Answer(u16),
}

/// The proxy.
pub struct Proxy {
    mode: Sender<Mode>,
    /// Connections that were cut or silent, and requests that were refused.
    hits: Arc<AtomicU64>,
    /// The folder of the arguments with which the API server was started last.
    folder: PathBuf,
    /// The port of the API server itself.
    port: u16,
    _runtime: Runtime,
}

impl Proxy {
    /// Writes the script to a folder for `ALERTSTORM_ASSETS`, and starts a proxy that waits for the
    /// API server.
    pub fn start(folder: &Path) -> Self {
        fs::create_dir(folder).expect("a folder");
        let probe = Probe::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = probe.local_addr().expect("an address").port();
        let real = assets::find(Program::ApiServer).expect("`alertstorm setup local`");
        let (real, args) = (real.display(), folder.join("args"));
        let args = args.display();
        // Without a port it is asked for its flags.
        let script = format!(
            "#!/bin/sh\ncase \"$*\" in *--secure-port=*) ;; *) exec '{real}' \"$@\" ;; esac\n\
             printf '%s\\n' \"$@\" > '{args}.partial' && mv '{args}.partial' '{args}'\n\
             for arg do\n  shift\n\
             \x20 case \"$arg\" in --secure-port=*) arg=--secure-port={port} ;; esac\n\
             \x20 set -- \"$@\" \"$arg\"\ndone\nexec '{real}' \"$@\"\n"
        );
        let path = folder.join(Program::ApiServer.file());
        fs::write(&path, script).expect("the script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("permissions");
        let runtime = Runtime::new().expect("a runtime");
        let (mode, of) = channel(Mode::Pass);
        let hits = Arc::<AtomicU64>::default();
        let behind = Behind { folder: folder.to_owned(), port, mode: of, hits: Arc::clone(&hits) };
        runtime.spawn(serve(behind));
        Self { mode, hits, folder: folder.to_owned(), port, _runtime: runtime }
    }

    /// Changes what it does with connections.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// How many connections were cut or silent, and how many requests were refused, until now.
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// The URL of the API server itself.
    pub fn direct(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The value of a flag of the API server.
    pub fn flag(&self, name: &str) -> Option<String> {
        flag(&self.folder, name)
    }
}

fn flag(folder: &Path, name: &str) -> Option<String> {
    let args = fs::read_to_string(folder.join("args")).ok()?;
    let prefix = format!("--{name}=");
    args.lines().find_map(|line| line.strip_prefix(&prefix).map(str::to_owned))
}

/// What serves connections.
#[derive(Clone)]
struct Behind {
    folder: PathBuf,
    /// The port of the API server itself.
    port: u16,
    mode: Receiver<Mode>,
    hits: Arc<AtomicU64>,
}

impl Behind {
    fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits while the proxy is silent; the mode after it.
    async fn unless_silent(&mut self) -> Option<Mode> {
        if *self.mode.borrow() == Mode::Silent {
            self.hit();
        }
        self.mode.wait_for(|mode| *mode != Mode::Silent).await.map(|mode| *mode).ok()
    }
}

/// Accepts connections on the port that the clients use, which another platform may change.
async fn serve(behind: Behind) {
    let mut at: Option<(String, TcpListener)> = None;
    loop {
        let wanted = flag(&behind.folder, "secure-port");
        if let Some(wanted) = wanted.filter(|port| at.as_ref().is_none_or(|at| at.0 != *port)) {
            let address = format!("127.0.0.1:{wanted}");
            at = TcpListener::bind(address).await.ok().map(|listener| (wanted, listener));
        }
        let accepted = async {
            match &at {
                Some((_, listener)) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = accepted => if let Ok((client, _)) = accepted {
                tokio::spawn(connection(client, behind.clone()));
            },
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
    }
}

/// Serves one connection until it is closed, or the mode changes so that it ends.
async fn connection(client: TcpStream, mut behind: Behind) {
    let Some(now) = behind.unless_silent().await else { return };
    match now {
        Mode::Answer(status) => {
            let mut mode = behind.mode.clone();
            tokio::select! {
                () = answer(client, behind.clone(), status) => {}
                _ = mode.wait_for(|mode| *mode != now) => {}
            }
        }
        Mode::Pass => {
            let server = TcpStream::connect((Ipv4Addr::LOCALHOST, behind.port)).await;
            let Ok(server) = server else { return };
            let ((from_client, to_client), (from_server, to_server)) =
                (client.into_split(), server.into_split());
            tokio::select! {
                () = pump(from_client, to_server, behind.clone()) => {}
                () = pump(from_server, to_client, behind) => {}
            }
        }
        Mode::Refuse => behind.hit(),
        Mode::Silent => {}
    }
}

/// Passes bytes on; none while the proxy is silent.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut behind: Behind) {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let cut = |mode: &Mode| matches!(mode, Mode::Refuse | Mode::Answer(_));
        let read = tokio::select! {
            read = from.read(&mut buffer) => Some(read.unwrap_or(0)),
            changed = behind.mode.wait_for(cut) => {
                drop(changed);
                None
            }
        };
        let Some(read) = read else { return behind.hit() };
        let passes = behind.unless_silent().await;
        if read == 0 || passes != Some(Mode::Pass) {
            return;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// Answers each request of a connection with a status.
async fn answer(client: TcpStream, behind: Behind, status: u16) {
    let Some(acceptor) = acceptor(&behind.folder) else { return };
    let Ok(stream) = acceptor.accept(client).await else { return };
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let hits = Arc::clone(&behind.hits);
    let service = service_fn(move |_: Request<Incoming>| {
        hits.fetch_add(1, Ordering::Relaxed);
        async move { Ok::<_, Infallible>(refusal(status)) }
    });
    let stream = TokioIo::new(stream);
    // A client may close its connection as it likes.
    let _ = if is_http2 {
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(stream, service)
            .await
    } else {
        hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await
    };
}

/// As kube-apiserver answers: a Status with the seconds after which to try again.
fn refusal(status: u16) -> Response<Full<Bytes>> {
    let reason = if status == 429 { "TooManyRequests" } else { "InternalError" };
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status,
        "reason": reason, "message": "of the test", "details": {"retryAfterSeconds": 1},
    });
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = http::StatusCode::from_u16(status).expect("a status");
    let headers = response.headers_mut();
    headers.insert("content-type", http::HeaderValue::from_static("application/json"));
    headers.insert("retry-after", http::HeaderValue::from_static("1"));
    response
}

/// TLS with the certificate of the API server.
fn acceptor(folder: &Path) -> Option<TlsAcceptor> {
    let certificate = CertificateDer::from_pem_file(flag(folder, "tls-cert-file")?).ok()?;
    let key = PrivateKeyDer::from_pem_file(flag(folder, "tls-private-key-file")?).ok()?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .ok()?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Some(TlsAcceptor::from(Arc::new(tls)))
}
