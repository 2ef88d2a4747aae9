//! The interface of a local platform for a run.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use alertstorm_agent::trust;
use alertstorm_agent::vault::{Vault, VaultError};
use alertstorm_model::scenario::FaultKind;
use futures::future::BoxFuture;
use kube::Client;

use super::{Local, LocalError, io_error, servers};
use crate::connection::Lanes;
use crate::platform::{
    Agents, Identities, MetricsOf, NodeTokens, Page, Platform, Surroundings, Tokens, Trails,
};
use crate::provider::{Program, Provider, ProviderError, Usage};

impl Local {
    fn metrics(&self) -> Vec<MetricsOf> {
        let ports = self.layout.ports;
        let at = |component, url, with_token| {
            let page = Page::At { url, with_token };
            MetricsOf { component, page }
        };
        let manager = format!("https://127.0.0.1:{}/metrics", ports.controller_manager);
        vec![
            at("kube-apiserver", format!("{}/metrics", self.layout.api_server()), true),
            at("etcd", format!("http://127.0.0.1:{}/metrics", ports.etcd_metrics), false),
            at("kube-controller-manager", manager, true),
            at("kube-scheduler", format!("https://127.0.0.1:{}/metrics", ports.scheduler), true),
        ]
    }

    /// A client of the API server with the administrator's token.
    pub(super) fn admin(&self) -> Result<Client, LocalError> {
        let ca = std::fs::read_to_string(&self.layout.certificates.ca)
            .map_err(io_error("read the CA certificate"))?;
        let lanes = Lanes::new("admin", &self.layout.api_server(), &trust::only(&ca)?, 1)?;
        Ok(lanes.client("admin", &self.secrets.admin, self.names.namespace())?)
    }

    fn hand_over(&self) -> Result<Platform, LocalError> {
        let read = |path: &PathBuf| {
            std::fs::read_to_string(path).map_err(io_error(format!("read {}", path.display())))
        };
        let layout = &self.layout;
        let ca = read(&layout.certificates.ca)?;
        Ok(Platform {
            provider: "local",
            names: self.names.clone(),
            is_prepared: false,
            api_server: layout.api_server(),
            admin: self.admin()?,
            identities: Identities::Users(Tokens {
                backend: self.secrets.backend.clone(),
                scraper: self.secrets.scraper.clone(),
                vault: self.secrets.vault_reviewer.clone(),
            }),
            agents: Agents::Hollow(NodeTokens {
                kubelets: self.secrets.nodes.clone(),
                kwok: self.secrets.admin.clone(),
            }),
            vault: self.address.clone(),
            around: Surroundings {
                api_server: layout.api_server(),
                api_server_ca: ca.clone(),
                accounts_key: read(&layout.certificates.service_accounts_public)?,
                issuer: servers::ISSUER.to_owned(),
                postgres: self.postgres().clone(),
                postgres_user: (self.names.vault_user(), self.secrets.postgres_vault.clone()),
                audit: Some(layout.vault_audit().display().to_string()),
            },
            ca,
            postgres: self.postgres().clone(),
            trails: Trails {
                vault: Some(layout.vault_audit()),
                api_server: Some(layout.api_audit()),
                postgres: Some(layout.log(Program::Postgres)),
            },
            metrics: self.metrics(),
            remarks: Vec::new(),
        })
    }
}

impl Provider for Local {
    fn platform(&self) -> Result<Platform, ProviderError> {
        Ok(self.hand_over()?)
    }

    fn can(&self, fault: FaultKind) -> bool {
        // Slowing a disk down needs privileges that the harness does not have.
        fault != FaultKind::SlowFsync
    }

    fn vault(&self) -> Result<Vault, VaultError> {
        Vault::new(&self.address, None, &self.unsealed().root)
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    fn vault_ready(&self) -> BoxFuture<'_, Result<(), ProviderError>> {
        Box::pin(async { Ok(self.ready(Program::Vault).await?) })
    }

    fn usage(&self) -> BoxFuture<'_, BTreeMap<Program, Usage>> {
        Box::pin(async { self.servers.usage() })
    }

    fn outage(&self, program: Program, begins: bool) -> BoxFuture<'_, Result<(), ProviderError>> {
        Box::pin(async move {
            if begins {
                self.servers.kill(program);
                return Ok(());
            }
            let what = format!("start {} again", program.file());
            Ok(self.servers.release(program).map_err(io_error(what))?)
        })
    }

    fn deaths(&self) -> Vec<Program> {
        self.servers.take_deaths().iter().map(|death| death.program).collect()
    }

    fn power(&self, _: u32, _: bool) -> BoxFuture<'_, Result<(), ProviderError>> {
        Box::pin(async { Ok(()) })
    }

    fn settle_trails(&self) -> BoxFuture<'_, Result<(), ProviderError>> {
        // The API server writes its audit log shortly after its response.
        Box::pin(async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            Ok(())
        })
    }

    fn is_kept(&self) -> bool {
        self.keep
    }

    fn end(&self) -> BoxFuture<'_, Result<(), ProviderError>> {
        Box::pin(async { Ok(self.end_run().await?) })
    }
}
