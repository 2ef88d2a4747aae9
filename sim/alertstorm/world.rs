//! Where a scenario runs: the options that all verbs share which run one.

use std::num::NonZeroU32;
use std::path::PathBuf;

use alertstorm_model::scenario::{Indivisible, Part, Plan, nearest};
use anyhow::Result;

use crate::exit::WrongInput;

/// Whose platform it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// Processes of this machine.
    Local,
    /// A kind cluster.
    Kind,
    /// What a kubeconfig names.
    Cluster,
}

/// What may be chosen of a kind cluster.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct KindArgs {
    /// The kind cluster's name; one that is there is used and left as it is
    #[arg(long, value_name = "NAME")]
    pub kind_name: Option<String>,
    /// The image of the kind cluster's nodes
    #[arg(long, value_name = "IMAGE", env = "ALERTSTORM_KIND_IMAGE")]
    pub kind_image: Option<String>,
    /// A file of kind's own configuration, merged into the one made for the scenario
    #[arg(long, value_name = "FILE", env = "ALERTSTORM_KIND_CONFIG")]
    pub kind_config: Option<PathBuf>,
    /// Keep the kind cluster after the run
    #[arg(long)]
    pub keep: bool,
}

/// What may be chosen of a cluster that a kubeconfig names.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ClusterArgs {
    /// The kubeconfig's context; one that looks like production is used only where it is named here
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// Write without asking
    #[arg(long)]
    pub yes: bool,
    /// Vault's URL as pods reach it, where that is not VAULT_ADDR
    #[arg(long, value_name = "URL")]
    pub vault_for_pods: Option<String>,
    /// The API server's URL as Vault reaches it, where that is not the kubeconfig's
    #[arg(long, value_name = "URL")]
    pub api_server_for_vault: Option<String>,
    /// A FlowSchema of the run's own gives its requests this priority level
    #[arg(long, value_name = "NAME")]
    pub priority_level: Option<String>,
}

/// Where a scenario runs, and what may be chosen there.
#[derive(Clone, Debug, clap::Args)]
pub struct WorldArgs {
    /// Where it runs: `twin` is the platform in virtual time, `local` real servers on this machine,
    /// `kind` a kind cluster with real pods, `cluster` what a kubeconfig names
    #[arg(long, value_name = "WORLD", default_value = "twin")]
    on: String,
    /// The agent's image, instead of the one that `alertstorm setup kind` makes
    #[arg(long, value_name = "IMAGE", env = "ALERTSTORM_AGENT_IMAGE")]
    agent_image: Option<String>,
    /// Make the load in so many pods of the cluster, each with its part of the plan, instead of here
    #[arg(long, value_name = "N")]
    shards: Option<NonZeroU32>,
    /// The image of those pods, instead of one made of this program (kind) or the released one
    #[arg(long, value_name = "IMAGE", env = "ALERTSTORM_SHARD_IMAGE", requires = "shards")]
    shard_image: Option<String>,
    #[command(flatten, next_help_heading = "On kind")]
    kind: KindArgs,
    #[command(flatten, next_help_heading = "On a cluster")]
    cluster: ClusterArgs,
}

/// Where a run can be.
#[derive(Clone, Debug)]
pub enum World {
    /// In virtual time.
    Twin,
    /// On real servers.
    Live(Box<Choice>),
}

impl WorldArgs {
    /// The options as another program of this kind takes them.
    pub fn as_typed(&self) -> Vec<String> {
        let mut typed = vec!["--on".to_owned(), self.on.clone()];
        let config = self.kind.kind_config.as_ref().map(|path| path.display().to_string());
        for (name, value) in [
            ("--agent-image", self.agent_image.clone()),
            ("--shards", self.shards.map(|count| count.to_string())),
            ("--shard-image", self.shard_image.clone()),
            ("--kind-name", self.kind.kind_name.clone()),
            ("--kind-image", self.kind.kind_image.clone()),
            ("--kind-config", config),
            ("--context", self.cluster.context.clone()),
            ("--vault-for-pods", self.cluster.vault_for_pods.clone()),
            ("--api-server-for-vault", self.cluster.api_server_for_vault.clone()),
            ("--priority-level", self.cluster.priority_level.clone()),
        ] {
            typed.extend(value.into_iter().flat_map(|value| [name.to_owned(), value]));
        }
        for (name, given) in [("--keep", self.kind.keep), ("--yes", self.cluster.yes)] {
            typed.extend(given.then(|| name.to_owned()));
        }
        typed
    }

    /// The world that is meant; `plan` is divided where there are shards.
    pub fn world(&self, plan: &Plan) -> Result<World> {
        let provider = match self.on.as_str() {
            "twin" => None,
            "local" => Some(Provider::Local),
            "kind" => Some(Provider::Kind),
            "cluster" => Some(Provider::Cluster),
            other => {
                let all = ["twin", "local", "kind", "cluster"];
                let near = nearest(other, all).map(|near| format!("did you mean `{near}`?"));
                let why = "expected one of twin, local, kind, cluster".to_owned();
                let why = near.map_or(why.clone(), |near| format!("{why}; {near}"));
                return Err(WrongInput::of(&format!("--on {other}"), why));
            }
        };
        if let Some(of) = self.shards {
            if !matches!(provider, Some(Provider::Kind | Provider::Cluster)) {
                let why = "shards are pods of a cluster: --on kind or --on cluster";
                return Err(WrongInput::of("--shards", why));
            }
            // What cannot be divided is told before anything starts.
            let wrong = |error: Indivisible| WrongInput::of("--shards", error.to_string());
            Part::divides(of, plan).map_err(wrong)?;
        }
        let Some(provider) = provider else { return Ok(World::Twin) };
        Ok(World::Live(Box::new(Choice {
            provider,
            agent_image: self.agent_image.clone(),
            shards: self.shards,
            shard_image: self.shard_image.clone(),
            kind: self.kind.clone(),
            cluster: self.cluster.clone(),
        })))
    }
}

/// A provider, and what was chosen of it.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "live"), expect(dead_code, reason = "refused there as a whole"))]
pub struct Choice {
    /// Whose platform it is.
    pub provider: Provider,
    /// The agent's image.
    pub agent_image: Option<String>,
    /// In how many pods the load is made, where not here.
    pub shards: Option<NonZeroU32>,
    /// The image of those pods.
    pub shard_image: Option<String>,
    /// What was chosen of a kind cluster.
    pub kind: KindArgs,
    /// What was chosen of another cluster.
    pub cluster: ClusterArgs,
}
