//! Vault in dev mode and PostgreSQL, as containers on the cluster's network. No port is published
//! on the host; pods and the harness connect to their addresses on that network.

use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alertstorm_agent::names::Names;
use alertstorm_agent::postgres::{Login, PostgresError, connect};
use alertstorm_agent::vault::{Address, Vault, VaultError};
use alertstorm_agent::{postgres as server, trust};
use alertstorm_model::scenario::Scenario;
use futures::StreamExt;
use testcontainers::bollard::Docker;
use testcontainers::bollard::query_parameters::{
    KillContainerOptionsBuilder, LogsOptionsBuilder, StatsOptionsBuilder,
};
use testcontainers::core::{Mount, WaitFor};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, ContainerRequest, GenericImage, ImageExt};
use tokio::time::{Instant, sleep};

use super::error::KindError;
use crate::provider::{Usage, images, secret};

/// Label key of the containers of a platform.
pub const LABEL: &str = "dev.alertstorm.platform";
/// The port of Vault's API.
pub const VAULT_PORT: u16 = 8200;
/// PostgreSQL's port.
const POSTGRES_PORT: u16 = 5432;
/// PostgreSQL's administrator.
const ADMIN: &str = "alertstorm";
/// A start fails if a server does not answer by then.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// An audit trail contains a request by then.
const TRAIL_WITHIN: Duration = Duration::from_secs(10);

/// A server in a container.
pub struct Server {
    container: ContainerAsync<GenericImage>,
    /// Its address on the cluster's network.
    pub ip: IpAddr,
    /// The file to which its output is copied.
    pub log: PathBuf,
}

/// The containers of Vault and PostgreSQL.
pub struct Sidecars {
    /// Vault.
    pub vault: Server,
    /// PostgreSQL.
    pub postgres: Server,
    /// The URL of Vault.
    pub address: Address,
    /// How to connect to PostgreSQL: in plain text, on the network of this machine's containers.
    pub database: server::Address,
    /// Vault's root token.
    root: String,
    /// The password of PostgreSQL's administrator.
    admin: String,
    /// The password of Vault's user of PostgreSQL.
    pub vault_password: String,
    /// The names of the run.
    pub names: Names,
}

fn image(variable: &str, default: &str) -> GenericImage {
    let name = std::env::var(variable).unwrap_or_else(|_| default.to_owned());
    let (name, tag) = name.rsplit_once(':').unwrap_or((&name, "latest"));
    GenericImage::new(name, tag)
}

async fn start(
    request: ContainerRequest<GenericImage>,
    network: &str,
    platform: &str,
    log: PathBuf,
) -> Result<Server, KindError> {
    let container = request
        .with_network(network)
        .with_label(LABEL, platform)
        .with_startup_timeout(READY_WITHIN)
        .with_host_config_modifier(|host| {
            host.publish_all_ports = Some(false);
            host.port_bindings = None;
        })
        .start()
        .await?;
    let ip = address(container.id(), network).await?;
    Ok(Server { container, ip, log })
}

/// A container's address on a network.
async fn address(id: &str, network: &str) -> Result<IpAddr, KindError> {
    let docker = Docker::connect_with_defaults()?;
    let details = docker.inspect_container(id, None).await?;
    let networks = details.network_settings.and_then(|settings| settings.networks);
    let ip = networks.and_then(|all| all.get(network)?.ip_address.clone());
    ip.and_then(|ip| ip.parse().ok()).ok_or_else(|| KindError::NoAddress {
        container: id.to_owned(),
        network: network.to_owned(),
    })
}

impl Sidecars {
    /// Starts both on a network, for the run with these names. Their logs are written to `folder`.
    ///
    /// # Errors
    /// If an image is missing, or a server is not ready within 90 s.
    pub async fn start(
        scenario: &Scenario,
        network: &str,
        names: &Names,
        folder: &Path,
    ) -> Result<Self, KindError> {
        let platform = names.id().to_string();
        let platform = platform.as_str();
        let (root, admin) = (secret::token(), secret::token());
        let workers = scenario.vault.revocation_workers.to_string();
        let vault = image("ALERTSTORM_VAULT_IMAGE", images::VAULT)
            .with_entrypoint("vault")
            .with_wait_for(WaitFor::Nothing)
            .with_cmd(["server", "-dev", "-dev-no-store-token", "-log-level=warn"])
            .with_env_var("VAULT_DEV_ROOT_TOKEN_ID", &root)
            .with_env_var("VAULT_DEV_LISTEN_ADDRESS", format!("0.0.0.0:{VAULT_PORT}"))
            .with_env_var("VAULT_NUM_EXPIRATION_WORKERS", workers)
            .with_env_var("HOME", "/tmp")
            .with_user("65532:65532")
            .with_readonly_rootfs(true)
            .with_cap_drop("ALL")
            .with_security_opt("no-new-privileges")
            .with_mount(Mount::tmpfs_mount("/tmp"));
        let vault = start(vault, network, platform, folder.join("vault.log")).await?;

        let knobs = &scenario.postgres;
        let mut settings = vec![
            ("listen_addresses".to_owned(), "*".to_owned()),
            ("max_connections".to_owned(), knobs.max_connections.to_string()),
            ("log_line_prefix".to_owned(), "%m [%p] user=%u db=%d host=%h app=%a ".to_owned()),
            ("log_timezone".to_owned(), "UTC".to_owned()),
            // `CREATE ROLE` statements contain passwords, so statements are not logged.
            ("log_statement".to_owned(), "none".to_owned()),
            ("log_min_error_statement".to_owned(), "panic".to_owned()),
        ];
        settings.extend(knobs.flags.iter().map(|(name, value)| (name.clone(), value.0.clone())));
        let args = settings
            .into_iter()
            .flat_map(|(name, value)| ["-c".to_owned(), format!("{name}={value}")]);
        let postgres = image("ALERTSTORM_POSTGRES_IMAGE", images::POSTGRES)
            .with_wait_for(WaitFor::Nothing)
            .with_cmd(std::iter::once("postgres".to_owned()).chain(args))
            .with_env_var("POSTGRES_USER", ADMIN)
            .with_env_var("POSTGRES_PASSWORD", &admin)
            .with_env_var("POSTGRES_DB", "postgres")
            .with_env_var(
                "POSTGRES_INITDB_ARGS",
                "--auth=scram-sha-256 --encoding=UTF8 --locale=C",
            );
        let postgres = start(postgres, network, platform, folder.join("postgres.log")).await?;
        let url = format!("http://{}:{VAULT_PORT}", vault.ip);
        let address = Address { url, namespace: None, tls: trust::only("")? };
        let database = server::Address::plain((postgres.ip, POSTGRES_PORT).into());
        let vault_password = secret::token();
        let names = names.clone();
        let this = Self { vault, postgres, address, database, root, admin, vault_password, names };
        this.postgres_ready().await?;
        let admin = (ADMIN, this.admin.as_str());
        let password = this.vault_password.as_str();
        crate::postgres::set_up(&this.database, admin, &this.names, password).await?;
        crate::postgres::close_other_databases(&this.database, admin, &this.names).await?;
        this.vault_ready().await?;
        Ok(this)
    }

    /// A client of Vault with its root token.
    pub fn root(&self) -> Result<Vault, VaultError> {
        Vault::new(&self.address, None, &self.root)
    }

    fn admin<'a>(&'a self, database: &'a str) -> Login<'a> {
        let (user, password) = (ADMIN, Some(self.admin.as_str()));
        Login { to: &self.database, from: None, user, password, database }
    }

    /// Waits until Vault answers.
    pub async fn vault_ready(&self) -> Result<(), KindError> {
        let vault = self.root()?;
        let until = Instant::now() + READY_WITHIN;
        while let Err(error) = vault.read("sys/mounts").await {
            if Instant::now() > until {
                let why = error.to_string();
                return Err(KindError::NotReady { server: "Vault", why });
            }
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Waits until PostgreSQL answers.
    pub async fn postgres_ready(&self) -> Result<(), KindError> {
        let until = Instant::now() + READY_WITHIN;
        while let Err(error) = connect(self.admin("postgres")).await {
            if Instant::now() > until {
                let why = error.to_string();
                return Err(KindError::NotReady { server: "PostgreSQL", why });
            }
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Sends a marked request to each server, and copies its log to its file until the mark is in
    /// it. The log then contains all earlier requests.
    pub async fn settle(&self) -> Result<(), KindError> {
        let mark = format!("settled-{}", secret::name());
        // The mount does not exist; the audit log contains the denied request too.
        if let Err(VaultError::Unavailable(why)) = self.root()?.read(&format!("{mark}/at")).await {
            return Err(KindError::NotReady { server: "Vault", why });
        }
        // It may have died just now.
        self.postgres_ready().await?;
        let client = connect(self.admin(&self.names.database())).await?;
        let asked = client.batch_execute(&format!("SELECT '{mark}'")).await;
        asked.map_err(PostgresError::from)?;
        for server in [&self.vault, &self.postgres] {
            let until = Instant::now() + TRAIL_WITHIN;
            while !server.write_log(&mark).await? {
                if Instant::now() > until {
                    return Err(KindError::Trail(server.log.clone()));
                }
                sleep(Duration::from_millis(200)).await;
            }
        }
        Ok(())
    }
}

impl Server {
    /// The id of its container.
    pub fn id(&self) -> &str {
        self.container.id()
    }

    /// Copies the output of the container since its creation to its file; whether it contains
    /// `mark`.
    async fn write_log(&self, mark: &str) -> Result<bool, KindError> {
        let docker = Docker::connect_with_defaults()?;
        let all = LogsOptionsBuilder::new().stdout(true).stderr(true).tail("all").build();
        let mut output = docker.logs(self.container.id(), Some(all));
        let mut file = OpenOptions::new();
        let file = file.create(true).write(true).truncate(true).mode(0o600).open(&self.log)?;
        let mut file = BufWriter::new(file);
        let mut marked = false;
        while let Some(line) = output.next().await {
            let line = line?.into_bytes();
            marked |= String::from_utf8_lossy(&line).contains(mark);
            file.write_all(&line)?;
        }
        file.flush()?;
        Ok(marked)
    }

    /// Kills the container (`begins`), or starts it again.
    pub async fn outage(&self, begins: bool) -> Result<(), KindError> {
        let docker = Docker::connect_with_defaults()?;
        let id = self.container.id();
        if begins {
            let kill = KillContainerOptionsBuilder::new();
            docker.kill_container(id, Some(kill.signal("SIGKILL").build())).await?;
        } else {
            docker.start_container(id, None).await?;
        }
        Ok(())
    }

    /// Processor time since its start, and memory; `None` if Docker reports none.
    pub async fn usage(&self) -> Option<Usage> {
        let docker = Docker::connect_with_defaults().ok()?;
        let once = StatsOptionsBuilder::new().stream(false).one_shot(true).build();
        let stats = docker.stats(self.container.id(), Some(once)).next().await?;
        let stats = stats
            .inspect_err(|error| tracing::debug!(%error, "no resource usage of a container"))
            .ok()?;
        let cpu = Duration::from_nanos(stats.cpu_stats?.cpu_usage?.total_usage?);
        let resident = stats.memory_stats.and_then(|memory| memory.usage).unwrap_or(0);
        Some(Usage { cpu, resident })
    }
}
