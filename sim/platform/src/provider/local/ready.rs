//! Readiness checks of the servers, through the interfaces that clients use. The check of Vault
//! also initialises a new one and unseals a sealed one.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use alertstorm_agent::postgres::{Login, connect};
use alertstorm_agent::vault::Vault;

use super::{LOOK_EVERY, Local, LocalError, READY_WITHIN, Unsealed};
use crate::provider::Program;

/// The servers, in the order of their dependencies.
const SERVERS: [Program; 6] = [
    Program::Etcd,
    Program::Postgres,
    Program::Vault,
    Program::ApiServer,
    Program::ControllerManager,
    Program::Scheduler,
];

impl Local {
    /// Waits until a server is ready. Vault is initialised and unsealed if necessary.
    ///
    /// # Errors
    /// [`LocalError::NotReady`] after 90 s, or if the server died twice meanwhile.
    pub async fn ready(&self, program: Program) -> Result<(), LocalError> {
        let until = Instant::now() + READY_WITHIN;
        let before = self.servers.deaths_of(program);
        loop {
            let why = match self.check(program).await {
                Ok(()) => return Ok(()),
                Err(why) => why,
            };
            // A run takes note of the deaths, which are then no longer counted.
            let died = self.servers.deaths_of(program).saturating_sub(before) > 1;
            if died || Instant::now() > until {
                return Err(self.not_ready(program, why));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until each server is ready, in an order in which none waits for a later one.
    ///
    /// # Errors
    /// As [`Self::ready`].
    pub(super) async fn all_ready(&self) -> Result<(), LocalError> {
        for program in SERVERS {
            self.ready(program).await?;
        }
        Ok(())
    }

    async fn check(&self, program: Program) -> Result<(), String> {
        match program {
            Program::Vault => self.unseal().await,
            Program::Postgres => {
                let (user, password) = self.superuser();
                let (to, password) = (self.postgres(), Some(password));
                let login = Login { to, from: None, user, password, database: "postgres" };
                connect(login).await.map(drop).map_err(|e| e.to_string())
            }
            Program::ApiServer => {
                let http = reqwest::Client::builder()
                    .tls_backend_preconfigured(self.address.tls.clone())
                    .no_proxy()
                    .timeout(Duration::from_secs(5))
                    .build()
                    .map_err(|error| error.to_string())?;
                let url = format!("{}/readyz", self.layout.api_server());
                let asked = http.get(url).bearer_auth(&self.secrets.admin).send().await;
                let answer = asked.map_err(|error| error.without_url().to_string())?;
                if answer.status().is_success() {
                    Ok(())
                } else {
                    Err(format!("/readyz answered {}", answer.status()))
                }
            }
            other if self.servers.is_alive(other) => Ok(()),
            other => Err(format!("{} is not running", other.file())),
        }
    }

    /// Initialises Vault if it is new, and unseals it if it is sealed. `Err` holds its state.
    async fn unseal(&self) -> Result<(), String> {
        let message = |error: vaultrs::error::ClientError| error.to_string();
        let client = Vault::new(&self.address, None, "").map_err(|error| error.to_string())?;
        match vaultrs::sys::status(client.raw()).await.map_err(message)? {
            vaultrs::sys::ServerStatus::OK => Ok(()),
            vaultrs::sys::ServerStatus::UNINITIALIZED => {
                let made = vaultrs::sys::start_initialization(client.raw(), 1, 1, None);
                let made = made.await.map_err(message)?;
                let key = made.keys.into_iter().next().ok_or("vault returned no unseal key")?;
                let unsealed = Unsealed { key, root: made.root_token };
                *self.unsealed.lock().unwrap_or_else(PoisonError::into_inner) = unsealed;
                // The harness may be killed before it ends the run.
                if self.keep {
                    self.write_kept().map_err(|error| error.to_string())?;
                }
                self.generation.fetch_add(1, Ordering::SeqCst);
                tracing::info!("Vault was initialised");
                Err("vault was initialised and is still sealed".to_owned())
            }
            vaultrs::sys::ServerStatus::SEALED => {
                let key = self.unsealed().key;
                vaultrs::sys::unseal(client.raw(), Some(key), None, None).await.map_err(message)?;
                tracing::info!("Vault was unsealed");
                Err("vault was unsealed and is not active yet".to_owned())
            }
            status => Err(format!("vault is {status:?}")),
        }
    }

    pub(super) fn not_ready(&self, program: Program, why: String) -> LocalError {
        let log = std::fs::read_to_string(self.layout.log(program)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let log = lines[lines.len().saturating_sub(10)..].join("\n");
        LocalError::NotReady { program: program.file(), why, log }
    }
}
