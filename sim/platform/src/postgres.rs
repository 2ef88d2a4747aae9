//! Sets PostgreSQL up for agents, and reverts it.

use alertstorm_agent::names::Names;
use alertstorm_agent::postgres::{Address, Client, Login, PostgresError, connect};
use alertstorm_model::phase::Verb;

/// An identifier in quotes.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Creates the agents' database, the group roles and Vault's user. Each is marked by a comment; one
/// that exists is an error. PUBLIC has no right in the database.
///
/// # Errors
/// If a statement fails, or PUBLIC keeps a right.
pub async fn set_up(
    to: &Address,
    admin: (&str, &str),
    names: &Names,
    vault_password: &str,
) -> Result<(), PostgresError> {
    let login =
        |database| Login { to, from: None, user: admin.0, password: Some(admin.1), database };
    let client = connect(login("postgres")).await?;
    for statements in roles_and_database(names, vault_password) {
        client.batch_execute(&statements).await?;
    }
    let (client, database) = (connect(login(&names.database())).await?, names.database());
    client.batch_execute(&evidence(names)).await?;
    let kept = client.query(include_str!("../../../kind-config/postgres/public.sql"), &[]).await?;
    if kept.is_empty() {
        return Ok(());
    }
    let kept: Vec<String> = kept.iter().map(|row| row.get(0)).collect();
    Err(PostgresError::Refused(format!(
        "{} may not revoke these rights of PUBLIC in the database {database}: {}",
        admin.0,
        kept.join(", ")
    )))
}

/// The statements that create the group roles, Vault's user and the database, each to be executed in
/// one call by a superuser who is connected to the database `postgres`.
pub fn roles_and_database(names: &Names, vault_password: &str) -> Vec<String> {
    let (marker, user, database) = (names.marker(), names.vault_user(), names.database());
    // Several statements in one call are one transaction, so no role exists without its comment.
    let role = |name: &str, options: &str| {
        format!("CREATE ROLE {name} {options}; COMMENT ON ROLE {name} IS '{marker}'")
    };
    let groups: Vec<String> = Verb::ALL.iter().map(|verb| names.group(*verb)).collect();
    let mut all: Vec<String> = groups.iter().map(|name| role(name, "NOLOGIN")).collect();
    // It may create roles and grant the groups, and has no other privilege.
    let options = format!("LOGIN CREATEROLE PASSWORD '{vault_password}'");
    let grant = format!("GRANT {} TO {user} WITH ADMIN OPTION", groups.join(", "));
    all.push(format!("{}; {grant}", role(&user, &options)));
    all.push(format!("CREATE DATABASE {database}"));
    // Vault connects to this database, as DROP OWNED affects the current one only. Its `CREATE ROLE`
    // statements contain passwords, so they are not logged.
    all.push(format!(
        "COMMENT ON DATABASE {database} IS '{marker}';\
         ALTER DATABASE {database} SET log_statement = 'all';\
         ALTER DATABASE {database} SET log_min_error_statement = 'error';\
         ALTER ROLE {user} IN DATABASE {database} SET log_statement = 'none';\
         ALTER ROLE {user} IN DATABASE {database} SET log_min_error_statement = 'panic';\
         GRANT CONNECT ON DATABASE {database} TO {}, {user}",
        groups.join(", ")
    ));
    all
}

/// Revokes the rights of PUBLIC in the server's other databases. Only for a server that belongs to the
/// platform.
///
/// # Errors
/// If a statement fails.
pub async fn close_other_databases(
    to: &Address,
    admin: (&str, &str),
    names: &Names,
) -> Result<(), PostgresError> {
    let (user, password) = (admin.0, Some(admin.1));
    let client = connect(Login { to, from: None, user, password, database: "postgres" }).await?;
    for database in open_to_public(&client, names).await? {
        let name = quoted(&database);
        client.batch_execute(&format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC")).await?;
    }
    Ok(())
}

/// The databases besides the run's to which every role may connect, and therefore every agent.
///
/// # Errors
/// If the login or the statement fails.
pub async fn other_databases_of_public(
    login: Login<'_>,
    names: &Names,
) -> Result<Vec<String>, PostgresError> {
    open_to_public(&connect(login).await?, names).await
}

async fn open_to_public(client: &Client, names: &Names) -> Result<Vec<String>, PostgresError> {
    let statement = "SELECT datname::text FROM pg_catalog.pg_database \
                     WHERE datallowconn AND datname <> $1 \
                       AND has_database_privilege('public', oid, 'CONNECT') ORDER BY 1";
    let rows = client.query(statement, &[&names.database()]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Ends a role's sessions and drops it, with the default privileges that it may have set in any
/// database. `client` is one of `login`.
async fn drop_role(client: &Client, login: Login<'_>, name: &str) -> Result<(), PostgresError> {
    if client.query("SELECT FROM pg_roles WHERE rolname = $1", &[&name]).await?.is_empty() {
        return Ok(());
    }
    let role = quoted(name);
    client.batch_execute(&format!("ALTER ROLE {role} NOLOGIN")).await?;
    let ended = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = $1";
    client.query(ended, &[&name]).await?;
    let owns = "SELECT DISTINCT d.datname::text FROM pg_shdepend s \
                JOIN pg_database d ON d.oid = s.dbid JOIN pg_roles r ON r.oid = s.refobjid \
                WHERE s.refclassid = 'pg_authid'::regclass AND r.rolname = $1";
    for row in client.query(owns, &[&name]).await? {
        let client = connect(Login { database: row.get(0), ..login }).await?;
        client.batch_execute(&format!("DROP OWNED BY {role}")).await?;
    }
    client.batch_execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await?;
    Ok(())
}

/// The statements that create the tables of the agents' database, and what its group roles may do, and
/// nobody else; to be executed by a superuser who is connected to it.
pub fn evidence(names: &Names) -> String {
    let text = concat!(
        include_str!("../../../kind-config/postgres/evidence.sql"),
        include_str!("../../../kind-config/postgres/rights.sql")
    );
    let with =
        |text: String, verb: &Verb| text.replace(&format!("{{{{{verb}}}}}"), &names.group(*verb));
    Verb::ALL.iter().fold(text.to_owned(), with)
}

/// A kind of objects that carry a run's comment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A database.
    Database,
    /// A role.
    Role,
}

/// The comment of a database or a role; `None` if it does not exist.
///
/// # Errors
/// If the statement fails.
pub async fn comment_of(
    client: &Client,
    kind: Kind,
    name: &str,
) -> Result<Option<String>, PostgresError> {
    let statement = match kind {
        Kind::Database => {
            "SELECT coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database \
             WHERE datname = $1"
        }
        Kind::Role => {
            "SELECT coalesce(shobj_description(oid, 'pg_authid'), '') FROM pg_roles \
             WHERE rolname = $1"
        }
    };
    let found = client.query(statement, &[&name]).await?;
    Ok(found.first().map(|row| row.get(0)))
}

/// Drops the agents' database, the roles, and the users that Vault created; what does not carry the
/// run's comment is left as it is. Returns the names.
///
/// # Errors
/// If a statement fails.
pub async fn take_down(login: Login<'_>, names: &Names) -> Result<Vec<String>, PostgresError> {
    let (client, marker) = (connect(login).await?, names.marker());
    let is_ours = async |kind: Kind, name: &str| {
        let comment = comment_of(&client, kind, name).await?;
        Ok::<_, PostgresError>(comment.is_some_and(|comment| comment == marker))
    };
    let mut dropped = Vec::new();
    let database = names.database();
    if is_ours(Kind::Database, &database).await? {
        client.batch_execute(&format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)")).await?;
        dropped.push(format!("database {database}"));
    }
    for verb in Verb::ALL {
        let group = names.group(*verb);
        if !is_ours(Kind::Role, &group).await? {
            continue;
        }
        // Users of agents are members of these groups only.
        let members = "SELECT member.rolname FROM pg_auth_members m \
                       JOIN pg_roles member ON member.oid = m.member \
                       JOIN pg_roles of ON of.oid = m.roleid \
                       WHERE of.rolname = $1 AND member.rolname LIKE 'v-%'";
        for row in client.query(members, &[&group]).await? {
            let name: String = row.get(0);
            drop_role(&client, login, &name).await?;
            dropped.push(format!("user {name}"));
        }
    }
    let groups = Verb::ALL.iter().map(|verb| names.group(*verb));
    for name in std::iter::once(names.vault_user()).chain(groups) {
        if is_ours(Kind::Role, &name).await? {
            drop_role(&client, login, &name).await?;
            dropped.push(format!("role {name}"));
        }
    }
    Ok(dropped)
}
