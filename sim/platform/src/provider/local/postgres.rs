//! PostgreSQL on loopback. It does not run as root, so a harness of root starts it as another user.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use alertstorm_model::scenario::knobs::Postgres;

use super::assets::Assets;
use super::process::Spec;
use super::servers::{Layout, Secrets};
use crate::provider::Program;
use crate::provider::state::write_private;

/// The server's certificate, in its data folder.
const CERTIFICATE: &str = "server.crt";
/// Its key.
const KEY: &str = "server.key";

/// The superuser of the platform's PostgreSQL.
pub const ADMIN: &str = "alertstorm";

/// Why PostgreSQL could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// A file could not be written, or `initdb` could not be started.
    #[error("could not create PostgreSQL's data folder")]
    Folder(#[from] io::Error),
    /// `initdb` failed.
    #[error("initdb failed:\n{0}")]
    Initdb(String),
    /// The harness runs as root, and the machine has no other user for PostgreSQL.
    #[error(
        "PostgreSQL does not run as root, and there is no user `postgres` or `nobody`; create one"
    )]
    NoUser,
}

/// User and group id for PostgreSQL; `None` if the harness does not run as root.
fn user() -> Result<Option<(u32, u32)>, PostgresError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let known = fs::read_to_string("/etc/passwd")?;
    let ids = |name: &str| {
        let fields: Vec<&str> = known
            .lines()
            .map(|line| line.split(':').collect())
            .find(|f: &Vec<&str>| f[0] == name)?;
        Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
    };
    ["postgres", "nobody"].into_iter().find_map(ids).map(Some).ok_or(PostgresError::NoUser)
}

/// Creates an empty database cluster with `initdb`; the command of its server.
///
/// # Errors
/// If `initdb` or its preparation fails.
pub fn prepare(
    knobs: &Postgres,
    layout: &Layout,
    assets: &Assets,
    secrets: &Secrets,
) -> Result<Spec, PostgresError> {
    let data = layout.root.join("postgres");
    let user = user()?;
    fs::DirBuilder::new().mode(0o700).create(&data)?;
    // Owned by the server's user, as `initdb` has to read it.
    let password = data.with_extension("password");
    write_private(&password, secrets.postgres_admin.as_bytes())?;
    if let Some((uid, gid)) = user {
        chown(&data, Some(uid), Some(gid))?;
        chown(&password, Some(uid), Some(gid))?;
    }
    let mut initdb = Command::new(assets.path(Program::Initdb));
    initdb
        .args(["--no-sync", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"])
        .arg(format!("--username={ADMIN}"))
        .arg(format!("--pwfile={}", password.display()))
        .arg(format!("--pgdata={}", data.display()))
        .stdin(Stdio::null())
        .current_dir("/");
    if let Some((uid, gid)) = user {
        initdb.uid(uid).gid(gid);
    }
    let made = initdb.output()?;
    fs::remove_file(&password)?;
    if !made.status.success() {
        return Err(PostgresError::Initdb(String::from_utf8_lossy(&made.stderr).into_owned()));
    }
    // The server reads its key only if nobody else can.
    for (name, from) in
        [(CERTIFICATE, &layout.certificates.server), (KEY, &layout.certificates.server_key)]
    {
        let to = data.join(name);
        write_private(&to, &fs::read(from)?)?;
        if let Some((uid, gid)) = user {
            chown(&to, Some(uid), Some(gid))?;
        }
    }
    // Overwritten in place, so that its owner stays the server's user.
    fs::write(
        data.join("pg_hba.conf"),
        include_str!("../../../../../kind-config/postgres/pg_hba.conf"),
    )?;
    Ok(spec(knobs, layout, assets, data, user))
}

/// The command of the server of an existing database cluster.
///
/// # Errors
/// [`PostgresError::NoUser`].
pub fn again(knobs: &Postgres, layout: &Layout, assets: &Assets) -> Result<Spec, PostgresError> {
    Ok(spec(knobs, layout, assets, layout.root.join("postgres"), user()?))
}

fn spec(
    knobs: &Postgres,
    layout: &Layout,
    assets: &Assets,
    data: PathBuf,
    user: Option<(u32, u32)>,
) -> Spec {
    let mut settings = vec![
        ("listen_addresses".to_owned(), "127.0.0.1".to_owned()),
        ("port".to_owned(), layout.ports.postgres.to_string()),
        ("unix_socket_directories".to_owned(), String::new()),
        ("max_connections".to_owned(), knobs.max_connections.to_string()),
        ("ssl".to_owned(), "on".to_owned()),
        ("ssl_cert_file".to_owned(), CERTIFICATE.to_owned()),
        ("ssl_key_file".to_owned(), KEY.to_owned()),
        ("logging_collector".to_owned(), "off".to_owned()),
        ("log_line_prefix".to_owned(), "%m [%p] user=%u db=%d host=%h app=%a ".to_owned()),
        ("log_timezone".to_owned(), "UTC".to_owned()),
        // `CREATE ROLE` statements contain passwords, so statements are not logged. The database of
        // the agents overrides this.
        ("log_statement".to_owned(), "none".to_owned()),
        ("log_min_error_statement".to_owned(), "panic".to_owned()),
    ];
    settings.extend(knobs.flags.iter().map(|(name, value)| (name.clone(), value.0.clone())));
    let mut args = vec!["-D".to_owned(), data.display().to_string()];
    for (name, value) in settings {
        args.extend(["-c".to_owned(), format!("{name}={value}")]);
    }
    let path = assets.path(Program::Postgres).to_owned();
    Spec { path, args, env: Vec::new(), user, log: layout.log(Program::Postgres) }
}
