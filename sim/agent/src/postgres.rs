//! PostgreSQL as agents use it.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use alertstorm_model::phase::Verb;
use tokio::net::TcpSocket;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};

/// The database that agents work on. Vault works on `postgres`, so that no statement that holds a
/// password is ever logged by this one's settings.
pub const EVIDENCE: &str = "alertstorm_evidence";
/// A connection or a statement that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Why PostgreSQL did not do it.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// It refused: no grant, or no such user.
    #[error("PostgreSQL refuses: {0}")]
    Refused(String),
    /// It does not answer.
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

/// Who connects, and from where.
#[derive(Clone, Copy)]
pub struct Login<'a> {
    /// The server.
    pub to: SocketAddr,
    /// The address of the pod that connects.
    pub from: Option<Ipv4Addr>,
    /// The user.
    pub user: &'a str,
    /// Its password; none for an attempt without a credential.
    pub password: Option<&'a str>,
    /// The database.
    pub database: &'a str,
}

impl std::fmt::Debug for Login<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}/{}", self.user, self.to, self.database)
    }
}

/// Connects; the connection ends when the client is dropped.
///
/// # Errors
/// Where PostgreSQL refuses or does not answer.
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
        // An empty password is what somebody without one can try.
        config.password(login.password.unwrap_or_default());
        let (client, connection) = config.connect_raw(stream, NoTls).await?;
        // It ends with the client; what goes wrong on it, the client's next call tells.
        tokio::spawn(connection);
        Ok::<_, PostgresError>(client)
    };
    timeout(TIMEOUT, connecting).await.map_err(|_| unavailable("connection"))?
}

/// Does what an agent wants done to the database's systems: a statement for each verb.
///
/// # Errors
/// Where PostgreSQL refuses or does not answer.
pub async fn act(client: &Client, verb: Verb) -> Result<(), PostgresError> {
    // The text holds no name of the investigation: attribution must come from the trails.
    let statement = match verb {
        Verb::Read => "SELECT count(*) FROM evidence",
        Verb::SafeWrite => "INSERT INTO notes (investigation, note) VALUES ('an agent', 'seen')",
        Verb::RiskyWrite => "INSERT INTO releases (investigation) VALUES ('an agent')",
    };
    let done = timeout(TIMEOUT, client.batch_execute(statement)).await;
    done.map_err(|_| PostgresError::Unavailable("no answer in time".to_owned()))??;
    Ok(())
}
