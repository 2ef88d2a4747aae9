//! A platform of real servers, from its start to its end.

use std::cell::Cell;
use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::sync::Arc;

use alertstorm_live::RunError;
use alertstorm_live::shard::{FleetError, Shards};
use alertstorm_model::event::{Event, Fact, Sink};
use alertstorm_model::investigation::Stage;
use alertstorm_model::scenario::{Plan, Problem};
use alertstorm_model::time::Time;
use alertstorm_platform::provider;
use alertstorm_platform::provider::cluster::{self, Cluster, Egress};
use alertstorm_platform::provider::kind::{self, Kind};
use alertstorm_platform::provider::local::{Local, LocalError, UnknownFlag};
use alertstorm_platform::reach::Peer;
use alertstorm_platform::{InvalidRunId, RunId};
use anyhow::{Context, Result};

use super::console::Console;
use crate::exit::{InvalidRun, NotCleanedUp, WrongInput};
use crate::options::{EgressArgs, LiveArgs, Provider};
use crate::{interrupt, out};

/// A platform, and the runtime that its tasks run on.
pub struct Platform {
    runtime: tokio::runtime::Runtime,
    provider: Option<Arc<dyn provider::Provider>>,
    /// Number of shards that generate the load, and their image; `None` without `--shards`.
    shards: Option<(NonZeroU32, String)>,
    /// A line to print at the end, about what is kept.
    stays: Option<String>,
}

impl Drop for Platform {
    fn drop(&mut self) {
        // A provider's handles must be dropped inside its runtime.
        let _within = self.runtime.enter();
        self.provider = None;
    }
}

/// The image of the shards, if none has to be built.
fn shard_image(args: &LiveArgs) -> String {
    args.shard_image.clone().unwrap_or_else(|| provider::images::SHARD.to_owned())
}

impl Platform {
    /// Creates a platform for a plan, or takes over the one that is kept.
    pub fn start(plan: &Plan, provider: Provider, args: &LiveArgs) -> Result<Self> {
        let runtime = runtime()?;
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            scenario = plan.scenario().name,
            seed = plan.scenario().seed,
            plan = plan.digest(),
            ?provider,
            "starting the platform"
        );
        let console = Console::new();
        let started = runtime.block_on(provide(plan, provider, args, &console));
        console.clear();
        let (provider, stays) = started?;
        let shards = args.shards.map(|count| (count, shard_image(args)));
        Ok(Self { runtime, provider: Some(provider), shards, stays })
    }

    /// Runs a plan. `files` are the inputs of the shards; `watch` is called with the number of
    /// finished investigations and the time since the run began, and can end the run.
    pub fn run(
        &self,
        plan: &Plan,
        files: Vec<(String, String)>,
        log: &mut dyn Sink,
        watch: &mut dyn FnMut(u64, Time) -> ControlFlow<()>,
    ) -> Result<()> {
        let Some(provider) = self.provider.clone() else { return Ok(()) };
        let shards = self.shards.clone().map(|(count, image)| Shards { count, image, files });
        let finished = Cell::new(0);
        let mut counted = Counted { log, finished: &finished };
        let console = Console::new();
        let print = |line: &str| console.print(line);
        let done = self.runtime.block_on(alertstorm_live::run(
            plan,
            provider,
            shards.as_ref(),
            &mut counted,
            &print,
            &mut |now| {
                console.clear();
                watch(finished.get(), now)?;
                if interrupt::asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            },
        ));
        console.clear();
        done.map_err(|error| match error.first() {
            RunError::Fault(_) | RunError::Fleet(FleetError::PlanTooLarge(_)) => {
                WrongInput::of("the scenario", error.to_string())
            }
            RunError::Teardown(_) => {
                NotCleanedUp { message: error.to_string(), invalid: None }.into()
            }
            first @ RunError::Panicked => {
                let why = first.to_string();
                match &error {
                    RunError::AndTeardown { .. } => {
                        NotCleanedUp { message: error.to_string(), invalid: Some(why) }.into()
                    }
                    _ => InvalidRun(why).into(),
                }
            }
            _ => error.into(),
        })
    }

    /// Ends the platform.
    pub fn stop(self) -> Result<()> {
        if let Some(provider) = &self.provider {
            self.runtime.block_on(provider.end())?;
            tracing::info!("the platform has ended");
        }
        if let Some(stays) = &self.stays {
            out::note(stays);
        }
        Ok(())
    }
}

/// Creates the platform; with it, the line to print at the end.
async fn provide(
    plan: &Plan,
    provider: Provider,
    args: &LiveArgs,
    console: &Console,
) -> Result<(Arc<dyn provider::Provider>, Option<String>)> {
    let print = |line: &str| console.print(line);
    Ok(match provider {
        Provider::Local => {
            let local = Local::start(plan.scenario(), false, &print).await.map_err(wrong_input)?;
            (Arc::new(local), None)
        }
        Provider::Kind => {
            let shard_image = match (args.shards, &args.shard_image) {
                (None, _) => None,
                (Some(_), Some(image)) => Some(image.clone()),
                (Some(_), None) => {
                    print("building the shards' image from this program");
                    let program = std::env::current_exe()?;
                    Some(kind::image::of_shards(&program).await?)
                }
            };
            let options = kind::Options {
                name: args.kind.kind_name.clone(),
                image: args.kind.kind_image.clone(),
                config: args.kind.kind_config.clone(),
                agent_image: args.agent_image.clone(),
                shard_image,
                keep: args.kind.keep,
            };
            let kind = Kind::start(plan, &options, &print).await?;
            let stays = kind.stays().map(|name| {
                format!(
                    "the kind cluster {name} was kept; to delete it: kind delete cluster --name {name}"
                )
            });
            (Arc::new(kind), stays)
        }
        Provider::Cluster => {
            let options = cluster_options(args)?;
            let confirm = |text: &str| console.confirm(text);
            let cluster = Cluster::start(plan, &options, &confirm).await?;
            (Arc::new(cluster), None)
        }
    })
}

/// The options of the cluster provider.
pub fn cluster_options(args: &LiveArgs) -> Result<cluster::Options> {
    if args.shards.is_some() && args.shard_image.is_none() {
        let why = "a cluster needs --shard-image as well: none is taken from a public registry; \
                   kind-config/shard/Dockerfile builds one";
        return Err(WrongInput::of("--shards", why.to_owned()));
    }
    Ok(cluster::Options {
        context: args.cluster.target.context.clone(),
        yes: args.cluster.target.yes,
        agent_image: args.agent_image.clone(),
        vault_for_pods: args.cluster.vault_for_pods.clone(),
        api_server_for_vault: args.cluster.api_server_for_vault.clone(),
        priority_level: args.cluster.priority_level.clone(),
        shard_image: args.shards.and(args.shard_image.clone()),
        run_id: run_id("--run-id", args.cluster.run_id.as_deref())?,
        production: args.cluster.target.production.clone(),
        egress: egress(&args.egress)?,
    })
}

/// The id of a run, as typed for an option.
pub fn run_id(option: &str, typed: Option<&str>) -> Result<Option<RunId>> {
    let wrong = |error: InvalidRunId| WrongInput::of(option, error.to_string());
    typed.map(|id| id.parse().map_err(wrong)).transpose()
}

/// The addresses of a NetworkPolicy, from the command line.
pub fn egress(args: &EgressArgs) -> Result<Egress> {
    let [api_server, vault, postgres, dns] = args.lists().map(|(option, values)| {
        let parsed = values.iter().map(|text| {
            text.parse::<Peer>().map_err(|error| WrongInput::of(option, error.to_string()))
        });
        parsed.collect::<Result<Vec<Peer>>>()
    });
    Ok(Egress { api_server: api_server?, vault: vault?, postgres: postgres?, dns: dns? })
}

/// The log, and the number of investigations whose Job has finished.
struct Counted<'l> {
    log: &'l mut dyn Sink,
    finished: &'l Cell<u64>,
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

/// A runtime for the tasks of a platform.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all().build().context("could not start the asynchronous runtime")
}

/// Unknown flags are an error of the scenario; any other error is one of the environment.
pub fn wrong_input(error: LocalError) -> anyhow::Error {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    #[test]
    fn unknown_flags_are_wrong_input_and_other_errors_are_a_lack_of_the_environment() {
        let flag = UnknownFlag { program: "etcd", flag: "quote".to_owned(), nearest: None };
        let unknown = wrong_input(LocalError::UnknownFlags(vec![flag]));
        assert_eq!(Exit::of(&unknown), Exit::WrongInput);
        let differs = wrong_input(LocalError::KeptDiffers("number of nodes".to_owned()));
        assert_eq!(Exit::of(&differs), Exit::Missing);
    }
}
