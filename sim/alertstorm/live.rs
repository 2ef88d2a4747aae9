//! The live worlds, as the verbs use them; a build without the feature `live` says so.

use std::num::NonZeroU32;
use std::path::PathBuf;

use alertstorm_model::scenario::{Indivisible, Part, Plan, nearest};
use anyhow::Result;

use crate::exit::WrongInput;

/// What a build without live worlds says.
#[cfg(not(feature = "live"))]
pub const ABSENT: &str =
    "this build has the twin alone; the default build has it: `cargo build --release`";

/// The error of a build without live worlds.
#[cfg(not(feature = "live"))]
pub fn absent() -> anyhow::Error {
    anyhow::anyhow!(ABSENT)
}

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
            let last = Part::new(of.get() - 1, of).unwrap_or(Part::WHOLE);
            let wrong = |error: Indivisible| WrongInput::of("--shards", error.to_string());
            last.of_plan(plan).map_err(wrong)?;
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

#[cfg(not(feature = "live"))]
mod without {
    use alertstorm_model::event::Sink;
    use alertstorm_model::scenario::Plan;
    use alertstorm_model::time::Time;
    use anyhow::Result;

    use super::{Choice, absent};

    /// No platform can be made.
    pub enum Platform {}

    pub fn start(_: &Plan, _: &Choice) -> Result<Platform> {
        Err(absent())
    }

    pub fn run(
        _: &Plan,
        platform: &Platform,
        _: Vec<(String, String)>,
        _: &mut dyn Sink,
        _: &mut dyn FnMut(u64, Time),
    ) -> Result<()> {
        match *platform {}
    }

    pub fn stop(platform: Platform) -> Result<()> {
        match platform {}
    }
}

#[cfg(not(feature = "live"))]
pub use without::*;

#[cfg(feature = "live")]
pub use with::*;

#[cfg(feature = "live")]
mod with {
    use std::num::NonZeroU32;
    use std::ops::ControlFlow;
    use std::path::Path;
    use std::sync::Arc;

    use alertstorm_live::RunError;
    use alertstorm_live::provider::cluster::{self, Cluster};
    use alertstorm_live::provider::kind::{self, Kind};
    use alertstorm_live::provider::local::{Local, LocalError, UnknownFlag};
    use alertstorm_live::provider::{self, Failure};
    use alertstorm_live::shard::{FleetError, Shards};
    use alertstorm_model::event::{Event, Fact, Sink};
    use alertstorm_model::investigation::Stage;
    use alertstorm_model::scenario::{Plan, Problem};
    use alertstorm_model::time::Time;
    use anyhow::{Context, Result, anyhow};

    use super::{Choice, ClusterArgs, Provider};
    use crate::exit::WrongInput;
    use crate::{interrupt, ui};

    /// A platform, and the runtime that its tasks live in.
    pub struct Platform {
        runtime: tokio::runtime::Runtime,
        provider: Option<Arc<dyn provider::Provider>>,
        /// How many shards make the load, and of which image; none where it is made here.
        shards: Option<(NonZeroU32, String)>,
        /// What a person must know at the end.
        stays: Option<String>,
    }

    impl Drop for Platform {
        fn drop(&mut self) {
            // What a provider holds ends within its runtime.
            let _within = self.runtime.enter();
            self.provider = None;
        }
    }

    fn options(choice: &Choice) -> cluster::Options {
        let chosen = choice.cluster.clone();
        cluster::Options {
            context: chosen.context,
            yes: chosen.yes,
            agent_image: choice.agent_image.clone(),
            vault_for_pods: chosen.vault_for_pods,
            api_server_for_vault: chosen.api_server_for_vault,
            priority_level: chosen.priority_level,
            shard_image: choice.shards.map(|_| shard_image(choice)),
        }
    }

    /// The image of shards, where none was made.
    fn shard_image(choice: &Choice) -> String {
        choice.shard_image.clone().unwrap_or_else(|| kind::SHARD_IMAGE.to_owned())
    }

    fn failed(failure: Failure) -> anyhow::Error {
        anyhow!(failure)
    }

    /// Makes a platform for a plan, or takes the one that is kept.
    pub fn start(plan: &Plan, choice: &Choice) -> Result<Platform> {
        let runtime = runtime()?;
        let bar = ui::spinner();
        let tell = |line: &str| ui::tell(&bar, line);
        let started = runtime.block_on(async {
            Ok::<_, anyhow::Error>(match choice.provider {
                Provider::Local => {
                    let local = Local::start(&plan.scenario, false, &tell).await.map_err(sorted)?;
                    (Arc::new(local) as Arc<dyn provider::Provider>, None)
                }
                Provider::Kind => {
                    let chosen = choice.kind.clone();
                    let shard_image = match (choice.shards, &choice.shard_image) {
                        (None, _) => None,
                        (Some(_), Some(image)) => Some(image.clone()),
                        (Some(_), None) => {
                            tell("making the shards' image of this program");
                            let program = std::env::current_exe()?;
                            Some(kind::image::of_shards(&program).await.map_err(failed)?)
                        }
                    };
                    let options = kind::Options {
                        name: chosen.kind_name,
                        image: chosen.kind_image,
                        config: chosen.kind_config,
                        agent_image: choice.agent_image.clone(),
                        shard_image,
                        keep: chosen.keep,
                    };
                    let kind = Kind::start(plan, &options, &tell).await.map_err(failed)?;
                    let stays = kind.stays().map(|name| {
                        format!("the kind cluster {name} stays: kind delete cluster --name {name}")
                    });
                    (Arc::new(kind) as Arc<dyn provider::Provider>, stays)
                }
                Provider::Cluster => {
                    let options = options(choice);
                    let confirm = |text: &str| bar.suspend(|| ui::confirm(text));
                    let cluster = Cluster::start(plan, &options, &confirm).await.map_err(failed)?;
                    (Arc::new(cluster) as Arc<dyn provider::Provider>, None)
                }
            })
        });
        bar.finish_and_clear();
        let (provider, stays) = started?;
        let shards = choice.shards.map(|count| (count, shard_image(choice)));
        Ok(Platform { runtime, provider: Some(provider), shards, stays })
    }

    /// The log, and how many investigations have ended.
    struct Counted<'l> {
        log: &'l mut dyn Sink,
        finished: &'l std::cell::Cell<u64>,
    }

    impl Sink for Counted<'_> {
        fn take(&mut self, event: &Event) {
            if event.fact == (Fact::Stage { stage: Stage::JobFinished }) {
                self.finished.set(self.finished.get() + 1);
            }
            self.log.take(event);
        }

        fn flush(&mut self) {
            self.log.flush();
        }
    }

    /// Runs a plan, whose files shards are given; `watch` hears how many investigations have ended,
    /// and the run's time.
    pub fn run(
        plan: &Plan,
        platform: &Platform,
        files: Vec<(String, String)>,
        log: &mut dyn Sink,
        watch: &mut dyn FnMut(u64, Time),
    ) -> Result<()> {
        let Some(provider) = platform.provider.clone() else { return Ok(()) };
        let shards = platform.shards.clone().map(|(count, image)| Shards { count, image, files });
        let finished = std::cell::Cell::new(0);
        let mut counted = Counted { log, finished: &finished };
        let bar = ui::spinner();
        let tell = |line: &str| ui::tell(&bar, line);
        let done = platform.runtime.block_on(alertstorm_live::run(
            plan,
            provider,
            shards.as_ref(),
            &mut counted,
            &tell,
            &mut |now| {
                bar.finish_and_clear();
                watch(finished.get(), now);
                if interrupt::asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            },
        ));
        bar.finish_and_clear();
        done.map_err(|error| match error {
            RunError::Fault(_) | RunError::Fleet(FleetError::PlanTooLarge(_)) => {
                WrongInput::of("the scenario", error.to_string())
            }
            other => other.into(),
        })
    }

    /// The end of a platform.
    pub fn stop(platform: Platform) -> Result<()> {
        if let Some(provider) = &platform.provider {
            platform.runtime.block_on(provider.end()).map_err(failed)?;
        }
        if let Some(stays) = &platform.stays {
            anstream::eprintln!("{stays}");
        }
        Ok(())
    }

    /// Runs the shard of this pod.
    pub fn shard(folder: &Path) -> Result<()> {
        runtime()?.block_on(alertstorm_live::shard::run(folder, |folder| {
            crate::source::load(&folder.join(crate::run_folder::SCENARIO), &[])
        }))
    }

    /// Takes back what killed runs left behind on this machine; what there was.
    pub fn clean() -> Result<Vec<String>> {
        let local = provider::state::clean()?;
        let mut swept = Vec::new();
        if local > 0 {
            swept.push(format!("{local} local platforms"));
        }
        let kind = runtime()?.block_on(kind::clean()).map_err(failed)?;
        if kind > 0 {
            swept.push(format!("{kind} kind clusters"));
        }
        Ok(swept)
    }

    /// Takes back what killed runs left behind in a cluster; what there was.
    pub fn clean_cluster(args: &ClusterArgs) -> Result<Vec<String>> {
        let context = args.context.clone();
        let options = cluster::Options { context, ..cluster::Options::default() };
        runtime()?.block_on(cluster::clean(&options)).map_err(failed)
    }

    /// Makes the agent's image; its name.
    pub fn agent_image(binary: Option<&Path>) -> Result<String> {
        let bar = ui::spinner();
        let tell = |line: &str| ui::tell(&bar, line);
        let made = runtime()?.block_on(kind::image::make(binary, &tell));
        bar.finish_and_clear();
        made.map_err(failed)
    }

    fn runtime() -> Result<tokio::runtime::Runtime> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.enable_all().build().context("could not start the runtime")
    }

    /// Unknown flags are the scenario's fault; all else is the environment's.
    fn sorted(error: LocalError) -> anyhow::Error {
        let LocalError::UnknownFlags(flags) = error else {
            return error.into();
        };
        let problem = |flag: &UnknownFlag| {
            let help = flag.nearest.as_ref().map(|name| format!("did you mean `{name}`?"));
            Problem {
                source: "the scenario's flags".to_owned(),
                place: None,
                message: flag.to_string(),
                help,
            }
        };
        WrongInput { files: Vec::new(), problems: flags.iter().map(problem).collect() }.into()
    }

    /// Starts a platform with a plan's settings and keeps it.
    pub fn up(plan: &Plan) -> Result<()> {
        let bar = ui::spinner();
        let local = runtime()?.block_on(async {
            let tell = |line: &str| ui::tell(&bar, line);
            let local = Local::start(&plan.scenario, true, &tell).await.map_err(sorted)?;
            local.stop().map(|()| local).map_err(anyhow::Error::from)
        });
        bar.finish_and_clear();
        let local = local?;
        anstream::eprintln!("the platform is up; `alertstorm down` ends it");
        anstream::eprintln!("its administrator's kubeconfig: {}", local.kubeconfig().display());
        Ok(())
    }
}
