//! The live worlds, as the verbs use them; a build without the feature `live` says so.

/// What a build without live worlds says.
#[cfg(not(feature = "live"))]
pub const ABSENT: &str =
    "this build has the twin alone; the default build has it: `cargo build --release`";

/// The error of a build without live worlds.
#[cfg(not(feature = "live"))]
pub fn absent() -> anyhow::Error {
    anyhow::anyhow!(ABSENT)
}

#[cfg(not(feature = "live"))]
mod without {
    use alertstorm_model::event::Sink;
    use alertstorm_model::scenario::Plan;
    use alertstorm_model::time::Time;
    use anyhow::Result;

    use super::absent;
    use crate::world::Choice;

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
    use alertstorm_live::shard::{self, FleetError, Shards};
    use alertstorm_model::event::{Event, Fact, Sink};
    use alertstorm_model::investigation::Stage;
    use alertstorm_model::scenario::{Plan, Problem};
    use alertstorm_model::time::Time;
    use anyhow::{Context, Result, anyhow};

    use crate::exit::WrongInput;
    use crate::world::{Choice, ClusterArgs, Provider};
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
                    let local =
                        Local::start(plan.scenario(), false, &tell).await.map_err(sorted)?;
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
        let orders = shard::orders(folder)?;
        let plan = crate::source::load(&folder.join(crate::run_folder::SCENARIO), &[])?;
        Ok(runtime()?.block_on(shard::run(plan, orders))?)
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
            let local = Local::start(plan.scenario(), true, &tell).await.map_err(sorted)?;
            local.stop().map(|()| local).map_err(anyhow::Error::from)
        });
        bar.finish_and_clear();
        let local = local?;
        anstream::eprintln!("the platform is up; `alertstorm down` ends it");
        anstream::eprintln!("its administrator's kubeconfig: {}", local.kubeconfig().display());
        Ok(())
    }
}
