//! An agent's connection to PostgreSQL, and its statements.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use alertstorm_model::phase::Verb;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::trust;

pub use tokio_postgres::Client;

/// A connection attempt or a statement that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Why a connection or a statement failed.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// The user does not exist, its password is wrong, or it lacks the privilege.
    #[error("PostgreSQL denies it: {0}")]
    Refused(String),
    /// The server does not offer TLS, or its certificate is not trusted or has another host name.
    #[error("PostgreSQL is not trusted: {0}")]
    Untrusted(String),
    /// No answer, or any other error of the server.
    #[error("PostgreSQL is unavailable: {0}")]
    Unavailable(String),
}

impl From<tokio_postgres::Error> for PostgresError {
    fn from(error: tokio_postgres::Error) -> Self {
        let message = error.as_db_error().map_or_else(|| described(&error), |e| e.message().into());
        // The library's kind of error is not public.
        if message.starts_with("error performing TLS handshake") {
            return Self::Untrusted(message);
        }
        let refused = error.code().is_some_and(|code| {
            *code == SqlState::INSUFFICIENT_PRIVILEGE
                || *code == SqlState::INVALID_PASSWORD
                || *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION
        });
        if refused { Self::Refused(message) } else { Self::Unavailable(message) }
    }
}

/// An error and its causes.
fn described(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(of) = cause {
        // Some errors print their cause themselves.
        if !text.ends_with(&of.to_string()) {
            text.push_str(&format!(": {of}"));
        }
        cause = of.source();
    }
    text
}

impl From<std::io::Error> for PostgresError {
    fn from(error: std::io::Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// TLS with verification of the server's certificate and host name, as libpq's
/// `sslmode=verify-full`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "Trusted", into = "Trusted")]
pub struct Tls {
    trusted: Trusted,
    connect: MakeRustlsConnect,
}

/// A [`Tls`] in JSON.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Trusted {
    /// The host name or IP address that the certificate must contain.
    host: String,
    /// The certificate authority in PEM format; the host's own are not trusted.
    ca: String,
}

impl Tls {
    /// Verifies that the certificate is of `host` and signed by a certificate of `ca`, in PEM
    /// format.
    ///
    /// # Errors
    /// If `ca` holds no valid certificate.
    pub fn new(host: &str, ca: &str) -> Result<Self, rustls::Error> {
        Trusted { host: host.to_owned(), ca: ca.to_owned() }.try_into()
    }

    /// The host name or IP address that the certificate must contain.
    pub fn host(&self) -> &str {
        &self.trusted.host
    }

    /// The certificate authority in PEM format.
    pub fn ca(&self) -> &str {
        &self.trusted.ca
    }
}

impl TryFrom<Trusted> for Tls {
    type Error = rustls::Error;

    fn try_from(trusted: Trusted) -> Result<Self, Self::Error> {
        let connect = MakeRustlsConnect::new(trust::only_nonempty(&trusted.ca)?);
        Ok(Self { trusted, connect })
    }
}

impl From<Tls> for Trusted {
    fn from(tls: Tls) -> Self {
        tls.trusted
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TLS, as {}", self.trusted.host)
    }
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        self.trusted == other.trusted
    }
}

/// How to connect to PostgreSQL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Address {
    /// The server's IP address and port.
    pub at: SocketAddr,
    /// How the connection is protected; `None` for plain text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

impl Address {
    /// A server without TLS.
    pub const fn plain(at: SocketAddr) -> Self {
        Self { at, tls: None }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.tls {
            Some(tls) => write!(f, "{} ({})", self.at, tls.host()),
            None => self.at.fmt(f),
        }
    }
}

/// The parameters of a connection.
#[derive(Clone, Copy)]
pub struct Login<'a> {
    /// The server.
    pub to: &'a Address,
    /// The source address; none for the host's default.
    pub from: Option<Ipv4Addr>,
    /// The user.
    pub user: &'a str,
    /// Its password; none if the agent has no credential.
    pub password: Option<&'a str>,
    /// The database.
    pub database: &'a str,
}

impl std::fmt::Debug for Login<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}/{}", self.user, self.to.at, self.database)
    }
}

/// Opens a connection, which closes when the client is dropped.
///
/// # Errors
/// If PostgreSQL denies the login, does not answer, or fails the verification of its certificate.
pub async fn connect(login: Login<'_>) -> Result<Client, PostgresError> {
    let unavailable = |what: &str| PostgresError::Unavailable(format!("no {what} in time"));
    let connecting = async {
        let at = login.to.at;
        let socket = if at.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(from) = login.from {
            socket.set_reuseaddr(true)?;
            socket.bind(SocketAddr::from((from, 0)))?;
        }
        let stream = socket.connect(at).await?;
        stream.set_nodelay(true)?;
        let mut config = Config::new();
        config.user(login.user).dbname(login.database).application_name("alertstorm-agent");
        // Without a credential the agent tries an empty password, which the server denies.
        config.password(login.password.unwrap_or_default());
        // The tasks end with the client. An error of the connection fails the client's next call.
        Ok::<_, PostgresError>(match &login.to.tls {
            None => {
                config.ssl_mode(SslMode::Disable);
                let (client, connection) = config.connect_raw(stream, NoTls).await?;
                tokio::spawn(connection);
                client
            }
            Some(tls) => {
                config.ssl_mode(SslMode::Require);
                let mut make = tls.connect.clone();
                let Ok(connect) =
                    MakeTlsConnect::<TcpStream>::make_tls_connect(&mut make, tls.host());
                let (client, connection) = config.connect_raw(stream, connect).await?;
                tokio::spawn(connection);
                client
            }
        })
    };
    timeout(TIMEOUT, connecting).await.map_err(|_| unavailable("connection"))?
}

/// Runs the statement of a verb.
///
/// # Errors
/// If PostgreSQL denies the statement or does not answer.
pub async fn act(client: &Client, verb: Verb) -> Result<(), PostgresError> {
    // The statements do not name the investigation: the audit log must attribute them by user.
    let statement = match verb {
        Verb::Read => "SELECT count(*) FROM evidence",
        Verb::SafeWrite => "INSERT INTO notes (investigation, note) VALUES ('an agent', 'seen')",
        Verb::RiskyWrite => "INSERT INTO releases (investigation) VALUES ('an agent')",
    };
    let done = timeout(TIMEOUT, client.batch_execute(statement)).await;
    done.map_err(|_| PostgresError::Unavailable("no answer in time".to_owned()))??;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn authority() -> String {
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem()
    }

    #[test]
    fn an_address_with_tls_is_the_same_after_it_was_sent_to_a_pod() {
        let at = SocketAddr::from(([10, 0, 0, 5], 5432));
        let tls = Tls::new("db.example", &authority()).unwrap();
        for address in [Address { at, tls: Some(tls) }, Address::plain(at)] {
            let text = serde_json::to_string(&address).unwrap();
            assert_eq!(serde_json::from_str::<Address>(&text).unwrap(), address);
        }
        let broken = r#"{"at":"10.0.0.5:5432","tls":{"host":"db.example","ca":""}}"#;
        assert!(serde_json::from_str::<Address>(broken).is_err(), "a text without a certificate");
    }

    /// Somebody between agent and server answers that there is no TLS, and waits for the password.
    #[tokio::test]
    async fn a_server_that_offers_no_tls_is_not_trusted_and_receives_no_user_name() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 8];
            stream.read_exact(&mut request).await.unwrap();
            stream.write_all(b"N").await.unwrap();
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.unwrap();
            rest
        });
        let to = Address { at, tls: Some(Tls::new("localhost", &authority()).unwrap()) };
        let (user, password) = ("admin", Some("a-secret-of-the-test"));
        let login = Login { to: &to, from: None, user, password, database: "evidence" };
        let refused = connect(login).await.err().unwrap();
        assert!(matches!(refused, PostgresError::Untrusted(_)), "{refused:?}");
        assert_eq!(server.await.unwrap(), b"");
    }
}
