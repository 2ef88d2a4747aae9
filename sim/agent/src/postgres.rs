//! An agent's connection to PostgreSQL, and its statements.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use alertstorm_model::phase::Verb;
use tokio::net::TcpSocket;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Config, NoTls};

pub use tokio_postgres::Client;

/// A connection attempt or a statement that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Why a connection or a statement failed.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// The user does not exist, its password is wrong, or it lacks the privilege.
    #[error("PostgreSQL denies it: {0}")]
    Refused(String),
    /// No answer, or any other error of the server.
    #[error("PostgreSQL is unavailable: {0}")]
    Unavailable(String),
}

impl From<tokio_postgres::Error> for PostgresError {
    fn from(error: tokio_postgres::Error) -> Self {
        let message = error.as_db_error().map_or_else(|| error.to_string(), |e| e.message().into());
        let refused = error.code().is_some_and(|code| {
            *code == SqlState::INSUFFICIENT_PRIVILEGE
                || *code == SqlState::INVALID_PASSWORD
                || *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION
        });
        if refused { Self::Refused(message) } else { Self::Unavailable(message) }
    }
}

impl From<std::io::Error> for PostgresError {
    fn from(error: std::io::Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// The parameters of a connection.
#[derive(Clone, Copy)]
pub struct Login<'a> {
    /// The server's address and port.
    pub to: SocketAddr,
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
        write!(f, "{}@{}/{}", self.user, self.to, self.database)
    }
}

/// Opens a connection, which closes when the client is dropped.
///
/// # Errors
/// If PostgreSQL denies the login or does not answer.
pub async fn connect(login: Login<'_>) -> Result<Client, PostgresError> {
    let unavailable = |what: &str| PostgresError::Unavailable(format!("no {what} in time"));
    let connecting = async {
        let socket = if login.to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(from) = login.from {
            socket.set_reuseaddr(true)?;
            socket.bind(SocketAddr::from((from, 0)))?;
        }
        let stream = socket.connect(login.to).await?;
        stream.set_nodelay(true)?;
        let mut config = Config::new();
        config.user(login.user).dbname(login.database).application_name("alertstorm-agent");
        // Without a credential the agent tries an empty password, which the server denies.
        config.password(login.password.unwrap_or_default());
        let (client, connection) = config.connect_raw(stream, NoTls).await?;
        // The task ends with the client. An error of the connection fails the client's next call.
        tokio::spawn(connection);
        Ok::<_, PostgresError>(client)
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
