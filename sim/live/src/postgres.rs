//! PostgreSQL as the platform's set-up makes it ready for agents.

use std::net::SocketAddr;

use alertstorm_agent::postgres::{EVIDENCE, Login, PostgresError, connect};
use alertstorm_model::phase::Verb;

/// The group that may do what a verb says; see `kind-config/postgres/evidence.sql`.
pub const fn group(verb: Verb) -> &'static str {
    match verb {
        Verb::Read => "agent_reads",
        Verb::SafeWrite => "agent_safe_writes",
        Verb::RiskyWrite => "agent_risky_writes",
    }
}

/// Makes the database of the agents, the groups, and Vault's own user.
///
/// # Errors
/// Where a statement fails.
pub async fn set_up(
    to: SocketAddr,
    admin: (&str, &str),
    vault: (&str, &str),
) -> Result<(), PostgresError> {
    let login =
        |database| Login { to, from: None, user: admin.0, password: Some(admin.1), database };
    let client = connect(login("postgres")).await?;
    let exists = |of: &str, name: &str| format!("SELECT FROM {of} WHERE {name}");
    for verb in Verb::ALL {
        let name = group(*verb);
        if client.query(&exists("pg_roles", &format!("rolname = '{name}'")), &[]).await?.is_empty()
        {
            client.batch_execute(&format!("CREATE ROLE {name} NOLOGIN")).await?;
        }
    }
    let (user, password) = vault;
    if client.query(&exists("pg_roles", &format!("rolname = '{user}'")), &[]).await?.is_empty() {
        // A role that makes roles, and nothing else; it may give the groups away.
        let groups = Verb::ALL.iter().map(|verb| group(*verb)).collect::<Vec<_>>().join(", ");
        client
            .batch_execute(&format!(
                "CREATE ROLE {user} LOGIN CREATEROLE PASSWORD '{password}';\
                 GRANT {groups} TO {user} WITH ADMIN OPTION"
            ))
            .await?;
    }
    if client
        .query(&exists("pg_database", &format!("datname = '{EVIDENCE}'")), &[])
        .await?
        .is_empty()
    {
        client.batch_execute(&format!("CREATE DATABASE {EVIDENCE}")).await?;
        client
            .batch_execute(&format!(
                "ALTER DATABASE {EVIDENCE} SET log_statement = 'all';\
                 ALTER DATABASE {EVIDENCE} SET log_min_error_statement = 'error'"
            ))
            .await?;
    }
    let client = connect(login(EVIDENCE)).await?;
    client.batch_execute(include_str!("../../../kind-config/postgres/evidence.sql")).await?;
    Ok(())
}
