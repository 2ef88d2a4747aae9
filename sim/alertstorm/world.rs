//! `--on`: where a scenario runs. The options of every verb that runs one.

use alertstorm_model::scenario::knobs::NodeRuntime;
use alertstorm_model::scenario::{Indivisible, Part, Problems, nearest};
use anyhow::Result;

use crate::exit::WrongInput;
use crate::live::Live;
use crate::options::{LiveArgs, Provider};
use crate::source::Loaded;

/// Where a scenario runs, and the options of that place.
#[derive(Clone, Debug, clap::Args)]
pub struct WorldArgs {
    /// Where to run: `twin` (the platform in virtual time), `local` (real servers on this machine),
    /// `kind` (real pods in a kind cluster) or `cluster` (the cluster of a kubeconfig's context)
    #[arg(long, value_name = "WORLD", default_value = "twin")]
    on: String,
    #[command(flatten)]
    live: LiveArgs,
}

/// Where a scenario runs.
#[derive(Clone, Debug)]
pub enum World {
    /// In virtual time.
    Twin,
    /// On real servers.
    Live(Box<Servers>),
}

/// Real servers: who makes them, and how.
#[derive(Clone, Debug)]
pub struct Servers {
    /// The part of this build that drives them.
    pub live: Live,
    /// Who makes them.
    pub provider: Provider,
    /// What was chosen on the command line.
    pub args: LiveArgs,
}

impl WorldArgs {
    /// The options as command-line arguments, for another program of this kind.
    pub fn as_typed(&self) -> Vec<String> {
        let mut typed = vec!["--on".to_owned(), self.on.clone()];
        typed.extend(self.live.as_typed());
        typed
    }

    /// Where to run a scenario.
    ///
    /// # Errors
    /// [`WrongInput`] if `--on` is unknown, if the plan cannot be divided into the shards, or if a value
    /// of the scenario has no effect there; and if this build does not include the real servers.
    pub fn world(&self, loaded: &Loaded) -> Result<World> {
        let plan = &loaded.plan;
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
        if let Some(of) = self.live.shards {
            if !matches!(provider, Some(Provider::Kind | Provider::Cluster)) {
                let why = "shards are pods of a cluster: use --on kind or --on cluster";
                return Err(WrongInput::of("--shards", why));
            }
            // Before anything starts.
            let wrong = |error: Indivisible| WrongInput::of("--shards", error.to_string());
            Part::divides(of, plan).map_err(wrong)?;
        }
        let Some(provider) = provider else { return Ok(World::Twin) };
        let real_kubelets = matches!(provider, Provider::Kind | Provider::Cluster);
        if real_kubelets && plan.scenario().cluster.node.runtime == NodeRuntime::Kwok {
            let mut found = Problems::default();
            let message = format!(
                "expected `kubelet` with --on {}: its nodes run real kubelets, and `kwok` has no effect",
                self.on
            );
            let help = "remove it, or use --on twin or --on local".to_owned();
            found.add("cluster.node.runtime", message, Some(help));
            return Err(loaded.wrong(found));
        }
        let live = Live::of_this_build(&format!("--on {}", self.on))?;
        Ok(World::Live(Box::new(Servers { live, provider, args: self.live.clone() })))
    }
}
