//! Deletes what runs created in a cluster, a Vault and a PostgreSQL, by label and by name.

use alertstorm_agent::names::{self, login_mount, mount};
use alertstorm_agent::vault::{Vault, VaultError};
use alertstorm_model::investigation::Domain;
use alertstorm_model::phase::Phase;
use alertstorm_model::scenario::knobs::AuthMethod;
use futures::future::LocalBoxFuture;
use http::Request;
use kube::Client;
use serde_json::Value;
use tokio::time::{Duration, Instant, sleep};

use super::environment::{ClusterError, Options, Postgres, vault_from_environment};
use super::target::Target;
use crate::call;
use crate::manifests::{FLOW_CONTROL, OURS};
use crate::platform::NAMESPACE;
use crate::postgres::take_down;

/// How long to wait for the deletion of the namespace.
const GONE_WITHIN: Duration = Duration::from_secs(120);

pub(super) async fn get(client: &Client, path: &str) -> Result<Option<Value>, ClusterError> {
    let found = call::patiently(Duration::from_secs(10), || async {
        let request = Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
        client.request::<Value>(request).await
    });
    match found.await {
        Ok(found) => Ok(Some(found)),
        Err(error) if call::is_gone(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn delete(client: &Client, path: &str) -> Result<(), ClusterError> {
    let done = call::patiently(Duration::from_secs(10), || async {
        let request = Request::delete(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
        client.request::<Value>(request).await
    });
    Ok(call::deleted(done.await)?)
}

pub(super) fn is_ours(object: &Value) -> bool {
    let (label, value) = OURS.split_once('=').unwrap_or((OURS, ""));
    object["metadata"]["labels"][label] == value
}

/// Deletes the objects with our label in a cluster; their kinds and names.
pub(super) async fn sweep(client: &Client) -> Result<Vec<String>, ClusterError> {
    let mut swept = Vec::new();
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let lists = [
        format!("{rbac}/clusterrolebindings"),
        format!("{rbac}/clusterroles"),
        format!("/apis/{FLOW_CONTROL}/flowschemas"),
    ];
    for list in lists {
        let found = match get(client, &format!("{list}?labelSelector={OURS}")).await {
            Ok(Some(found)) => found,
            Ok(None) => continue,
            // A user who may not list FlowSchemas cannot have created one.
            Err(error) => {
                tracing::warn!(%error, list, "could not list what earlier runs may have left");
                continue;
            }
        };
        for object in found["items"].as_array().into_iter().flatten() {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            delete(client, &format!("{list}/{name}")).await?;
            swept.push(format!("{} {name}", list.rsplit('/').next().unwrap_or_default()));
        }
    }
    let path = format!("/api/v1/namespaces/{NAMESPACE}");
    if get(client, &path).await?.is_some_and(|found| is_ours(&found)) {
        delete(client, &path).await?;
        swept.push(format!("namespace {NAMESPACE}"));
        let until = Instant::now() + GONE_WITHIN;
        while get(client, &path).await?.is_some() {
            if Instant::now() > until {
                return Err(ClusterError::StillDeleting);
            }
            sleep(Duration::from_secs(1)).await;
        }
    }
    Ok(swept)
}

/// Deletes our mounts and policies in a Vault. Unmounting a secrets engine revokes its leases.
pub(super) async fn sweep_vault(vault: &Vault, auth: AuthMethod) -> Result<(), VaultError> {
    for &domain in Domain::ALL {
        vault.delete(&format!("sys/mounts/{}", mount(domain))).await?;
    }
    vault.delete(&format!("sys/mounts/{}", names::SYSTEMS)).await?;
    vault.delete(&format!("sys/auth/{}", login_mount(auth))).await?;
    for &phase in Phase::ALL {
        for &home in Domain::ALL {
            vault.delete(&format!("sys/policies/acl/{}", names::policy(phase, home))).await?;
        }
    }
    Ok(())
}

/// Deletes what killed runs left in the context's cluster, and in Vault and PostgreSQL if the
/// environment names them; a line for each object.
///
/// # Errors
/// If a call fails.
pub fn clean(options: &Options) -> LocalBoxFuture<'_, Result<Vec<String>, ClusterError>> {
    Box::pin(sweep_all(options))
}

async fn sweep_all(options: &Options) -> Result<Vec<String>, ClusterError> {
    let target = Target::find(options).await?;
    let mut swept = sweep(&target.client).await?;
    match vault_from_environment() {
        Ok((vault, token)) => {
            let vault = Vault::new(&vault, None, &token)?;
            for auth in [AuthMethod::Kubernetes, AuthMethod::Jwt] {
                sweep_vault(&vault, auth).await?;
            }
            swept.push("mounts and policies in Vault".to_owned());
        }
        Err(error) => tracing::info!(%error, "Vault is not cleaned up"),
    }
    match Postgres::from_environment().await {
        Ok(postgres) => {
            take_down(postgres.at, (&postgres.user, &postgres.password)).await?;
            swept.push("the database and the users in PostgreSQL".to_owned());
        }
        Err(error) => tracing::info!(%error, "PostgreSQL is not cleaned up"),
    }
    Ok(swept)
}
