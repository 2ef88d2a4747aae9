//! Deletes what a run created. An object is found by its exact name, and deleted only if it carries
//! the run's marker.

use std::time::Duration;

use alertstorm_agent::names::Names;
use alertstorm_agent::vault::{Vault, VaultError};
use http::Request;
use kube::Client;
use tokio::time::{Instant, sleep};

use crate::call;
use crate::inventory::Scope;
use crate::objects::{self, collection, is_marked};
use crate::vault::{Owner, mount_owner, policy_owner};

/// How long to wait for the deletion of the namespace.
const GONE_WITHIN: Duration = Duration::from_secs(120);

/// Why the objects in Kubernetes could not be deleted.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The API server rejected a request, or did not answer.
    #[error("could not delete the {kind} {name}")]
    Api {
        /// The object's kind.
        kind: &'static str,
        /// The object's name.
        name: String,
        /// The last response of the API server.
        source: Box<kube::Error>,
    },
    /// The namespace still exists two minutes after its deletion.
    #[error(
        "the namespace {0} is still being deleted; `kubectl get namespace {0} -o yaml` shows its \
         finalizers"
    )]
    StillDeleting(String),
}

/// Deletes the Jobs in the run's namespace, so that its agents end.
///
/// # Errors
/// If a request fails.
pub async fn end_agents(client: &Client, names: &Names) -> Result<(), SweepError> {
    match delete_all(client, names, "Job", "propagationPolicy=Background").await {
        // Somebody else's run: his agents end with the namespace.
        Err(SweepError::Api { source, .. }) if call::is_forbidden(&source) => Ok(()),
        done => done,
    }
}

/// Deletes the pods in the run's namespace without waiting for their nodes, which no longer run.
///
/// # Errors
/// If a request fails.
pub async fn forget_pods(client: &Client, names: &Names) -> Result<(), SweepError> {
    delete_all(client, names, "Pod", "gracePeriodSeconds=0").await
}

async fn delete_all(
    client: &Client,
    names: &Names,
    kind: &'static str,
    how: &str,
) -> Result<(), SweepError> {
    let namespace = names.namespace();
    let failed = |source| SweepError::Api {
        kind,
        name: format!("objects of {namespace}"),
        source: Box::new(source),
    };
    let of = format!("/api/v1/namespaces/{namespace}");
    let found = objects::get(client, &of).await.map_err(failed)?;
    if !found.is_some_and(|found| is_marked(&found, names)) {
        return Ok(());
    }
    let path = format!("{}?{how}", collection(kind, namespace));
    let deleted = call::patiently(Duration::from_secs(30), || async {
        let request = Request::delete(&path).body(Vec::new()).map_err(kube::Error::HttpError)?;
        client.request::<serde_json::Value>(request).await
    });
    call::deleted(deleted.await).map_err(failed)
}

/// Deletes the run's cluster-wide objects and its namespace, and waits until it is gone. Returns what
/// was deleted.
///
/// # Errors
/// [`SweepError`].
pub async fn sweep(client: &Client, names: &Names) -> Result<Vec<String>, SweepError> {
    let mut swept = Vec::new();
    let mut namespace = None;
    for (kind, name) in Scope::all(names).objects() {
        let failed =
            |source| SweepError::Api { kind, name: name.clone(), source: Box::new(source) };
        let path = format!("{}/{name}", collection(kind, ""));
        let found = match objects::get(client, &path).await {
            // A user who may not read FlowSchemas cannot have created one.
            Err(error) if kind == "FlowSchema" && call::is_forbidden(&error) => continue,
            found => found.map_err(failed)?,
        };
        let Some(found) = found.filter(|found| is_marked(found, names)) else { continue };
        objects::delete(client, &path, &found).await.map_err(failed)?;
        swept.push(format!("{kind} {name}"));
        if kind == "Namespace" {
            namespace = Some((path, found["metadata"]["uid"].clone()));
        }
    }
    let Some((path, uid)) = namespace else { return Ok(swept) };
    let until = Instant::now() + GONE_WITHIN;
    loop {
        let name = names.namespace().to_owned();
        let failed = |source| SweepError::Api {
            kind: "Namespace",
            name: name.clone(),
            source: Box::new(source),
        };
        let there = objects::get(client, &path).await.map_err(failed)?;
        if there.is_none_or(|there| there["metadata"]["uid"] != uid) {
            return Ok(swept);
        }
        if Instant::now() > until {
            return Err(SweepError::StillDeleting(name));
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// Deletes the run's mounts and policies in Vault. Unmounting a secrets engine revokes its leases.
/// Returns the paths.
///
/// # Errors
/// The first request that fails.
pub async fn sweep_vault(vault: &Vault, names: &Names) -> Result<Vec<String>, VaultError> {
    let (mut swept, scope) = (Vec::new(), Scope::all(names));
    for path in scope.mounts() {
        if mount_owner(vault, &path, names).await? == Owner::Run {
            vault.delete(&path).await?;
            // Vault answers 400 both if there is no such mount and if it could not be unmounted.
            if mount_owner(vault, &path, names).await? == Owner::Run {
                let message = format!(
                    "{path} is still there after its deletion: Vault could not revoke its leases, \
                     and its log says why"
                );
                return Err(VaultError::Wrong { code: 400, message });
            }
            swept.push(path);
        }
    }
    for path in scope.policies() {
        if policy_owner(vault, &path, names).await? == Owner::Run {
            vault.delete(&path).await?;
            swept.push(path);
        }
    }
    Ok(swept)
}
