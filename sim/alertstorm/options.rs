//! The options of real servers: which provider makes the platform, and what can be chosen there.

use std::num::NonZeroU32;
use std::path::PathBuf;

/// Who makes the platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// Processes on this machine.
    Local,
    /// A kind cluster.
    Kind,
    /// The cluster of a kubeconfig's context.
    Cluster,
}

/// Options of the kind provider.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct KindArgs {
    /// Name of the kind cluster; an existing cluster is reused and not deleted
    #[arg(long, value_name = "NAME")]
    pub kind_name: Option<String>,
    /// Node image of the kind cluster
    #[arg(long, value_name = "IMAGE", env = "ALERTSTORM_KIND_IMAGE")]
    pub kind_image: Option<String>,
    /// A kind configuration file to merge into the generated one
    #[arg(long, value_name = "FILE", env = "ALERTSTORM_KIND_CONFIG")]
    pub kind_config: Option<PathBuf>,
    /// Keep the kind cluster after the run
    #[arg(long)]
    pub keep: bool,
}

/// Which servers of others are used: options of everything that works on a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct TargetArgs {
    /// The kubeconfig context; required if its name looks like production
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// A host or namespace of Vault, or a host of PostgreSQL, that looks like production and may be
    /// used [repeatable]
    #[arg(long, value_name = "NAME")]
    pub production: Vec<String>,
    /// Skip the confirmation prompt
    #[arg(long)]
    pub yes: bool,
}

/// Options of the cluster provider.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ClusterArgs {
    /// The servers.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Vault's URL for the pods, if they cannot use VAULT_ADDR
    #[arg(long, value_name = "URL")]
    pub vault_for_pods: Option<String>,
    /// The API server's URL for Vault, if it cannot use the kubeconfig's
    #[arg(long, value_name = "URL")]
    pub api_server_for_vault: Option<String>,
    /// Create a FlowSchema that gives the run's requests this priority level
    #[arg(long, value_name = "NAME")]
    pub priority_level: Option<String>,
    /// The id that the names of the run's objects contain, instead of a random one
    #[arg(long, value_name = "ID")]
    pub run_id: Option<String>,
}

/// Options of `clean --on cluster`.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct CleanArgs {
    /// Clean up after this run, instead of all runs whose Lease has expired
    #[arg(long, value_name = "ID")]
    pub run: Option<String>,
    /// Print what would be deleted, and delete nothing
    #[arg(long)]
    pub dry_run: bool,
    /// The servers.
    #[command(flatten)]
    pub target: TargetArgs,
}

impl CleanArgs {
    /// Whether no option was given.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The servers that agents may connect to, for their NetworkPolicy.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct EgressArgs {
    /// An address or IP block of the API server, which agents may connect to [repeatable]
    #[arg(long, value_name = "CIDR:PORT")]
    pub api_server_at: Vec<String>,
    /// An address or IP block of Vault, such as that of the pods behind its Service [repeatable]
    #[arg(long, value_name = "CIDR:PORT")]
    pub vault_at: Vec<String>,
    /// An address or IP block of PostgreSQL [repeatable]
    #[arg(long, value_name = "CIDR:PORT")]
    pub postgres_at: Vec<String>,
    /// An address or IP block of DNS servers, instead of the cluster's own pods [repeatable]
    #[arg(long, value_name = "CIDR:PORT")]
    pub dns_at: Vec<String>,
}

impl EgressArgs {
    /// Each option with its values.
    pub const fn lists(&self) -> [(&'static str, &Vec<String>); 4] {
        [
            ("--api-server-at", &self.api_server_at),
            ("--vault-at", &self.vault_at),
            ("--postgres-at", &self.postgres_at),
            ("--dns-at", &self.dns_at),
        ]
    }
}

/// Options of a run on real servers.
#[derive(Clone, Debug, clap::Args)]
pub struct LiveArgs {
    /// The agent's image, best by its digest; on kind by default the one built by `alertstorm setup
    /// kind`, required on a cluster
    #[arg(long, value_name = "IMAGE", env = "ALERTSTORM_AGENT_IMAGE")]
    pub agent_image: Option<String>,
    /// Generate the load in N pods of the cluster, each with its part of the plan, instead of in
    /// this process
    #[arg(long, value_name = "N")]
    pub shards: Option<NonZeroU32>,
    /// The image of these pods, best by its digest; on kind by default an image of this program,
    /// required on a cluster
    #[arg(long, value_name = "IMAGE", env = "ALERTSTORM_SHARD_IMAGE", requires = "shards")]
    pub shard_image: Option<String>,
    /// Options of `--on kind`.
    #[command(flatten, next_help_heading = "On kind")]
    pub kind: KindArgs,
    /// Options of `--on cluster`.
    #[command(flatten, next_help_heading = "On a cluster")]
    pub cluster: ClusterArgs,
    /// The NetworkPolicy of `--on cluster`.
    #[command(
        flatten,
        next_help_heading = "On a cluster: servers that agents may connect to, if not found"
    )]
    pub egress: EgressArgs,
}

impl LiveArgs {
    /// The options as command-line arguments, for another program of this kind.
    pub fn as_typed(&self) -> Vec<String> {
        let config = self.kind.kind_config.as_ref().map(|path| path.display().to_string());
        let mut typed = Vec::new();
        for (name, value) in [
            ("--agent-image", self.agent_image.clone()),
            ("--shards", self.shards.map(|count| count.to_string())),
            ("--shard-image", self.shard_image.clone()),
            ("--kind-name", self.kind.kind_name.clone()),
            ("--kind-image", self.kind.kind_image.clone()),
            ("--kind-config", config),
            ("--context", self.cluster.target.context.clone()),
            ("--vault-for-pods", self.cluster.vault_for_pods.clone()),
            ("--api-server-for-vault", self.cluster.api_server_for_vault.clone()),
            ("--priority-level", self.cluster.priority_level.clone()),
            ("--run-id", self.cluster.run_id.clone()),
        ] {
            typed.extend(value.into_iter().flat_map(|value| [name.to_owned(), value]));
        }
        let production = [("--production", &self.cluster.target.production)];
        for (name, values) in production.into_iter().chain(self.egress.lists()) {
            typed.extend(values.iter().flat_map(|value| [name.to_owned(), value.clone()]));
        }
        for (name, given) in [("--keep", self.kind.keep), ("--yes", self.cluster.target.yes)] {
            typed.extend(given.then(|| name.to_owned()));
        }
        typed
    }
}
