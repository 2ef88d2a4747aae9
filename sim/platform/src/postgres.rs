//! Sets PostgreSQL up for agents, and reverts it.

use std::net::SocketAddr;

use alertstorm_agent::postgres::{EVIDENCE, Login, PostgresError, connect};
use alertstorm_model::phase::Verb;

/// The user with which Vault logs in.
pub const VAULT_USER: &str = "alertstorm_vault";

/// The role with the privileges of a verb; see `kind-config/postgres/evidence.sql`.
pub const fn group(verb: Verb) -> &'static str {
    match verb {
        Verb::Read => "alertstorm_reads",
        Verb::SafeWrite => "alertstorm_safe_writes",
        Verb::RiskyWrite => "alertstorm_risky_writes",
    }
}

/// Creates the agents' database, the group roles and Vault's user. Can be repeated.
///
/// # Errors
/// If a statement fails.
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
    let known = client.query(&exists("pg_roles", &format!("rolname = '{user}'")), &[]).await?;
    let statements = if known.is_empty() {
        // It may create roles and grant the groups, and has no other privilege.
        let groups = Verb::ALL.iter().map(|verb| group(*verb)).collect::<Vec<_>>().join(", ");
        format!(
            "CREATE ROLE {user} LOGIN CREATEROLE PASSWORD '{password}';\
             GRANT {groups} TO {user} WITH ADMIN OPTION"
        )
    } else {
        // Left by a killed run, with another password.
        format!("ALTER ROLE {user} PASSWORD '{password}'")
    };
    client.batch_execute(&statements).await?;
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

/// Drops all of that, and the users that Vault created.
///
/// # Errors
/// If a statement fails.
pub async fn take_down(to: SocketAddr, admin: (&str, &str)) -> Result<(), PostgresError> {
    let login =
        Login { to, from: None, user: admin.0, password: Some(admin.1), database: "postgres" };
    let client = connect(login).await?;
    client.batch_execute(&format!("DROP DATABASE IF EXISTS {EVIDENCE} WITH (FORCE)")).await?;
    let groups = Verb::ALL.iter().map(|verb| group(*verb));
    // Users of agents are members of these groups only.
    let made = "SELECT member.rolname FROM pg_auth_members m \
                JOIN pg_roles member ON member.oid = m.member JOIN pg_roles of ON of.oid = m.roleid \
                WHERE of.rolname LIKE 'alertstorm\\_%' AND member.rolname LIKE 'v-%'";
    for row in client.query(made, &[]).await? {
        let name: String = row.get(0);
        client.batch_execute(&format!("DROP ROLE IF EXISTS \"{name}\"")).await?;
    }
    for name in [VAULT_USER].into_iter().chain(groups) {
        client.batch_execute(&format!("DROP ROLE IF EXISTS {name}")).await?;
    }
    Ok(())
}
