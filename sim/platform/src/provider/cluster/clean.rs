//! Finds the runs that have objects in a cluster, and deletes those of dead ones.

use std::fmt::Write as _;

use alertstorm_agent::names::{Names, RunId};
use alertstorm_agent::vault::Vault;
use futures::future::LocalBoxFuture;
use jiff::Timestamp;
use kube::Client;

use super::environment::{
    ClusterError, Options, Postgres, check_production, vault_from_environment,
};
use super::target::{Target, uid_of};
use crate::inventory::{self, Item, Scope};
use crate::lease::{self, Run};
use crate::postgres::take_down;
use crate::sweep::{end_agents, sweep, sweep_vault};
use crate::vault::Owner;

/// The clients of the three servers of a run.
pub(super) struct Servers<'a> {
    pub client: &'a Client,
    pub vault: &'a Vault,
    pub postgres: &'a Postgres,
}

impl Servers<'_> {
    /// Looks for the objects of a scope.
    pub async fn look(&self, scope: &Scope<'_>) -> Result<Vec<Item>, ClusterError> {
        let mut found = inventory::in_kubernetes(self.client, scope).await?;
        found.extend(inventory::in_vault(self.vault, scope).await?);
        found.extend(inventory::in_postgres(self.postgres.login("postgres"), scope).await?);
        Ok(found)
    }

    /// Deletes everything that a run created; what was deleted. The namespace, whose Lease says whether
    /// the run is alive, is the last: after an error it remains, and `clean` finds the run again.
    pub async fn remove(&self, names: &Names) -> Result<Vec<String>, ClusterError> {
        end_agents(self.client, names).await?;
        // Both are attempted, even if one fails; the first error is returned.
        let vault = sweep_vault(self.vault, names).await;
        let postgres = take_down(self.postgres.login("postgres"), names).await;
        let mut removed: Vec<String> =
            vault?.into_iter().map(|path| format!("Vault: {path}")).collect();
        removed.extend(postgres?.into_iter().map(|what| format!("PostgreSQL: {what}")));
        let swept = sweep(self.client, names).await?;
        removed.extend(swept.into_iter().map(|what| format!("Kubernetes: {what}")));
        Ok(removed)
    }
}

/// What `alertstorm clean --on cluster` found.
pub struct Found {
    client: Client,
    vault: Vault,
    postgres: Postgres,
    /// The runs that are alive: a sentence for each.
    pub alive: Vec<String>,
    dead: Vec<(Names, Vec<Item>)>,
}

impl std::fmt::Debug for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} runs are alive, and {} are dead", self.alive.len(), self.dead.len())
    }
}

fn sentence(run: &Run) -> String {
    let age = run.age(Timestamp::now()).as_secs().max(0);
    format!(
        "the run {} is alive: its Lease is held by {}, and was renewed {age} s ago",
        run.names.id(),
        run.holder
    )
}

impl Found {
    /// Looks in the cluster of the context, and in the Vault and the PostgreSQL that the environment
    /// names: for the run `which`, or for all that have a namespace.
    ///
    /// # Errors
    /// If a request fails, or if the run `which` is alive.
    pub fn of<'a>(
        options: &'a Options,
        which: Option<&'a RunId>,
    ) -> LocalBoxFuture<'a, Result<Self, ClusterError>> {
        Box::pin(Self::look(options, which))
    }

    async fn look(options: &Options, which: Option<&RunId>) -> Result<Self, ClusterError> {
        let (vault, token) = vault_from_environment()?;
        let postgres = Postgres::from_environment().await?;
        check_production(Some(&vault), None, Some(&postgres.host), &options.production)?;
        let vault = Vault::new(&vault, None, &token)?;
        let client = Target::find(options, "default").await?.client;
        let (living, dead) = lease::living_and_dead(&client).await?;
        let is_wanted = |names: &Names| which.is_none_or(|id| names.id() == id);
        let living: Vec<&Run> = living.iter().filter(|run| is_wanted(&run.names)).collect();
        if let (Some(_), Some(run)) = (which, living.first()) {
            return Err(ClusterError::Alive(sentence(run)));
        }
        let alive = living.into_iter().map(sentence).collect();
        let mut wanted: Vec<Names> =
            dead.into_iter().map(|run| run.names).filter(|names| is_wanted(names)).collect();
        if let Some(id) = which.filter(|_| wanted.is_empty()) {
            wanted.push(Names::of_run(id));
        }
        let cluster = uid_of(&client).await?;
        let mut found = Self { client, vault, postgres, alive, dead: Vec::new() };
        for names in wanted {
            let names = names.in_cluster(&cluster);
            let mut items = found.servers().look(&Scope::all(&names)).await?;
            items.retain(|item| item.owner == Owner::Run);
            if !items.is_empty() {
                found.dead.push((names, items));
            }
        }
        Ok(found)
    }

    const fn servers(&self) -> Servers<'_> {
        Servers { client: &self.client, vault: &self.vault, postgres: &self.postgres }
    }

    /// What would be deleted: a line for each object, below its run. Empty if there is nothing.
    pub fn list(&self) -> String {
        let mut text = String::new();
        for (names, items) in &self.dead {
            let _ = writeln!(text, "the run {} has ended without deleting:", names.id());
            for item in items {
                let _ = writeln!(text, "    {}", item.what);
            }
        }
        text
    }

    /// Deletes it; what was deleted.
    ///
    /// # Errors
    /// The first request that fails.
    pub fn remove(&self) -> LocalBoxFuture<'_, Result<Vec<String>, ClusterError>> {
        Box::pin(async {
            let mut removed = Vec::new();
            for (names, _) in &self.dead {
                removed.extend(self.servers().remove(names).await?);
            }
            Ok(removed)
        })
    }
}
