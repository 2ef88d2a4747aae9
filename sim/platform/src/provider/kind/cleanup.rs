//! Removes what a run created, at its end or after it was killed, from the record in the cluster's
//! folder.

use std::time::Duration;

use alertstorm_agent::names::{Names, RunId};
use futures::future::LocalBoxFuture;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::error::KindError;
use super::handover::client_of;
use super::nodes::{NAME, PRIVATE, clusters, repair};
use super::sidecars;
use crate::provider::command::run;
use crate::provider::state::{self, Folder, Record};
use crate::sweep::{end_agents, sweep};

/// For so long the deletion of a run's objects is tried again: a server may die meanwhile.
const SWEEP_WITHIN: Duration = Duration::from_secs(60);
/// The pause before that.
const SWEEP_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// The part of the record that is specific to kind.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Known {
    /// Whether the cluster is deleted at the end of the run.
    pub ours: bool,
    /// The id of its run, which is also the value of the label of its sidecar containers.
    #[serde(alias = "platform")]
    pub run: RunId,
}

/// Removes the clusters, containers and folders of killed runs; the number of runs.
///
/// # Errors
/// If `kind` or Docker fails.
pub fn clean() -> LocalBoxFuture<'static, Result<usize, KindError>> {
    Box::pin(clean_all())
}

async fn clean_all() -> Result<usize, KindError> {
    let folders = state::all(NAME)?;
    // Without a record there is nothing to remove, and `kind` need not be installed.
    if folders.is_empty() {
        return Ok(0);
    }
    let mut cleaned = 0;
    let clusters = clusters().await?;
    for folder in folders {
        let Ok(record) = folder.record() else { continue };
        let name = folder.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let abandoned = record.owner.is_some_and(|owner| !owner.is_alive());
        if abandoned {
            end(&name, &folder, record).await?;
            cleaned += 1;
        } else if record.owner.is_none() && !clusters.contains(&name) {
            // The kept cluster was deleted by other means.
            folder.remove()?;
        }
    }
    Ok(cleaned)
}

/// Removes what a run created. A kept cluster keeps its folder, which contains its audit log, and
/// loses the run's namespace.
pub(super) async fn end(name: &str, folder: &Folder, record: Record) -> Result<(), KindError> {
    let known: Known = serde_json::from_value(record.platform.clone())?;
    let label = format!("label={}={}", sidecars::LABEL, known.run);
    let left = run("docker", &["ps", "--all", "--quiet", "--filter", &label]).await?;
    let left: Vec<&str> = left.split_whitespace().collect();
    if !left.is_empty() {
        let args: Vec<&str> = ["rm", "--force", "--volumes"].into_iter().chain(left).collect();
        run("docker", &args).await?;
    }
    if known.ours {
        run("kind", &["delete", "cluster", "--name", name]).await?;
        return Ok(folder.remove()?);
    }
    if !clusters().await?.iter().any(|there| there == name) {
        // It was deleted by other means, so a later cluster of this name needs a new folder.
        return Ok(folder.remove()?);
    }
    let until = Instant::now() + SWEEP_WITHIN;
    let names = Names::of_run(&known.run);
    // Each attempt leaves out what an earlier one deleted.
    while let Err(error) = sweep_cluster(name, &names).await {
        if Instant::now() > until {
            return Err(error);
        }
        tracing::warn!(%error, "the clean-up is tried again");
        sleep(SWEEP_AGAIN_AFTER).await;
    }
    std::fs::remove_dir_all(folder.private(PRIVATE)?)?;
    Ok(folder.write_record(&Record { owner: None, ..record })?)
}

/// Deletes what a run created in a cluster that is kept.
async fn sweep_cluster(name: &str, names: &Names) -> Result<(), KindError> {
    repair(name).await?;
    let client = client_of(name, names).await?;
    end_agents(&client, names).await?;
    sweep(&client, names).await?;
    Ok(())
}
