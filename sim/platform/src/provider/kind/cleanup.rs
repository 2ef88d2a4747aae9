//! What a run leaves behind, by its own end or by its death: known from the cluster's folder.

use futures::future::LocalBoxFuture;
use serde::{Deserialize, Serialize};

use super::error::KindError;
use super::nodes::{NAME, PRIVATE, clusters, mend};
use super::sidecars;
use crate::provider::command::run;
use crate::provider::state::{self, Folder, Record};

/// What is known of a cluster that we use, in its folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Known {
    /// Whether it is to be deleted with the run that uses it.
    pub ours: bool,
    /// The label of the containers beside it.
    pub platform: String,
}

/// Removes what runs that were killed left behind: clusters, containers, folders. How many there
/// were.
///
/// # Errors
/// Where `kind` or Docker fails.
pub fn clean() -> LocalBoxFuture<'static, Result<usize, KindError>> {
    Box::pin(sweep())
}

async fn sweep() -> Result<usize, KindError> {
    let folders = state::all(NAME)?;
    // Who never used kind need not have it.
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
            // Somebody deleted a cluster that was kept.
            folder.remove()?;
        }
    }
    Ok(cleaned)
}

/// Ends what a run made. A cluster that stays keeps its folder, which holds its audit trail.
pub(super) async fn end(name: &str, folder: &Folder, record: Record) -> Result<(), KindError> {
    let known: Known = serde_json::from_value(record.platform.clone())?;
    let label = format!("label={}={}", sidecars::LABEL, known.platform);
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
        // Somebody deleted it meanwhile: the next of its name begins with a folder of its own.
        return Ok(folder.remove()?);
    }
    mend(name).await?;
    std::fs::remove_dir_all(folder.private(PRIVATE)?)?;
    Ok(folder.write_record(&Record { owner: None, ..record })?)
}
