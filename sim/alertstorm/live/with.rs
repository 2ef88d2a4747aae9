//! A build with the feature `live`: real servers, as the verbs use them.

mod console;
mod logging;
mod platform;

use std::path::{Path, PathBuf};

use alertstorm_live::shard;
use alertstorm_model::phase::Phase;
use alertstorm_model::scenario::{Plan, Scenario};
use alertstorm_platform::doctor::{self, Finding};
use alertstorm_platform::provider::cluster::{self, Egress};
use alertstorm_platform::provider::kind;
use alertstorm_platform::provider::local::{self, Local, setup};
use alertstorm_platform::provider::state;
use alertstorm_platform::reach::{Dns, Reach};
use alertstorm_platform::render;
use anyhow::{Context, Result};

use crate::options::{CleanArgs, EgressArgs, LiveArgs, Provider};
use crate::readiness::{Need, Readiness};
use crate::{out, source};
use console::Console;
use platform::runtime;

pub use logging::{RunLog, log_to_stderr};
pub use platform::Platform;

/// Name of this kind of build.
pub const BUILD: &str = "live";
/// Cargo's options for a build with the same features as this one.
pub const FEATURES: &[&str] = &["--no-default-features", "--features", "live"];

/// The part of this build that drives real servers.
#[derive(Clone, Copy, Debug)]
pub struct Live(());

impl Live {
    /// The part of this build that drives real servers, for an option or a verb.
    ///
    /// # Errors
    /// Never in this build.
    pub fn of_this_build(_: &str) -> Result<Self> {
        Ok(Self(()))
    }

    /// Creates a platform for a plan, or takes over the one that `alertstorm up` keeps.
    pub fn start(self, plan: &Plan, provider: Provider, args: &LiveArgs) -> Result<Platform> {
        Platform::start(plan, provider, args)
    }

    /// Starts a platform with a plan's settings and keeps it; its administrator's kubeconfig.
    pub fn up(self, plan: &Plan) -> Result<PathBuf> {
        let console = Console::new();
        let started = runtime()?.block_on(async {
            let print = |line: &str| console.print(line);
            let local = Local::start(plan.scenario(), true, &print).await;
            let local = local.map_err(platform::wrong_input)?;
            local.stop().map(|()| local).map_err(anyhow::Error::from)
        });
        console.clear();
        Ok(started?.kubeconfig())
    }

    /// Stops the platforms that are kept; their number.
    pub fn down(self) -> Result<usize> {
        Ok(local::down()?)
    }

    /// Removes what killed runs left on this machine; a line for each kind of leftover.
    pub fn clean(self) -> Result<Vec<String>> {
        let local = state::clean().context("could not remove what killed local runs left")?;
        let kind = runtime()?.block_on(kind::clean())?;
        let counted = [(local, "local platforms"), (kind, "kind clusters")];
        let found = counted.into_iter().filter(|(count, _)| *count > 0);
        Ok(found.map(|(count, what)| format!("{count} {what}")).collect())
    }

    /// Removes what killed runs left in a cluster; a line for each object. `None` if the confirmation
    /// was declined.
    pub fn clean_cluster(self, args: &CleanArgs) -> Result<Option<Vec<String>>> {
        let (context, production) = (args.target.context.clone(), args.target.production.clone());
        let options = cluster::Options { context, production, ..cluster::Options::default() };
        let which = platform::run_id("--run", args.run.as_deref())?;
        let runtime = runtime()?;
        out::note("looking for runs whose Lease has expired, for half a minute");
        let found = runtime.block_on(cluster::Found::of(&options, which.as_ref()))?;
        for alive in &found.alive {
            out::note(alive);
        }
        let list = found.list();
        if list.is_empty() {
            return Ok(Some(Vec::new()));
        }
        if args.dry_run {
            out::line(format_args!("{list}nothing was deleted"))?;
            return Ok(None);
        }
        let question = format!("{list}All of this will be deleted.\n");
        if !args.target.yes && !console::confirm(&question) {
            return Ok(None);
        }
        Ok(Some(runtime.block_on(found.remove())?))
    }

    /// What a run on a cluster would create, and the objects of its names that exist already.
    pub fn difference(self, plan: &Plan, args: &LiveArgs) -> Result<(String, Vec<String>)> {
        let options = platform::cluster_options(args)?;
        let difference = runtime()?.block_on(cluster::difference(plan, &options))?;
        Ok((difference.text, difference.existing))
    }

    /// Builds the servers of the local provider; their folder, and whether the provider is ready now.
    pub fn build_servers(self) -> Result<(PathBuf, Readiness)> {
        let console = Console::new();
        let built = setup::build(&mut |step| {
            let name = step.program.file();
            console.print(&match step.ready {
                true => format!("{}/{} {name} is already built", step.number, step.of),
                false => format!("{}/{} building {name}", step.number, step.of),
            });
        });
        console.clear();
        Ok((built?, readiness("local", doctor::local())))
    }

    /// Builds the agent's image, from a static program or from the sources; its name.
    pub fn build_agent_image(self, binary: Option<&Path>) -> Result<String> {
        let console = Console::new();
        let print = |line: &str| console.print(line);
        let made = runtime()?.block_on(kind::image::make(binary, &print));
        console.clear();
        Ok(made?)
    }

    /// What each world of real servers needs.
    pub fn readiness(self) -> Vec<Readiness> {
        let mut local = readiness("local", doctor::local());
        if local.missing().next().is_some() {
            local.needs.extend(doctor::setup().into_iter().map(need));
        }
        let kind = readiness("kind", doctor::kind());
        vec![local, kind, readiness("cluster", doctor::cluster())]
    }

    /// The environments that manifests can be rendered for.
    pub fn environments(self) -> Result<Vec<String>> {
        Ok(environments()?.into_keys().map(|name| name.to_string()).collect())
    }

    /// The servers that the NetworkPolicy of these options gives agents no way to connect to.
    pub fn unreachable(self, egress: &EgressArgs) -> Result<Vec<&'static str>> {
        Ok(reach(egress)?.lacking())
    }

    /// The manifests of a phase in an environment: path below their folder, and text.
    pub fn render(
        self,
        scenario: &Scenario,
        phase: Phase,
        environment: &str,
        egress: &EgressArgs,
    ) -> Result<Vec<(PathBuf, String)>> {
        let reach = reach(egress)?;
        let table = environments()?;
        let mut of = table.iter().filter(|(name, _)| name.to_string() == environment);
        let (environment, limits) = of.next().context("no such environment")?;
        let vault = render::vault_files(scenario, phase, environment)?.into_iter();
        let mut files: Vec<(PathBuf, String)> =
            vault.map(|(name, text)| (Path::new("vault").join(name), text)).collect();
        let postgres = render::postgres_files(phase, environment).into_iter();
        files.extend(postgres.map(|(name, text)| (Path::new("postgres").join(name), text)));
        for (name, objects) in render::manifests(scenario, phase, environment, *limits, &reach) {
            let documents: Result<Vec<String>, _> =
                objects.iter().map(serde_saphyr::to_string).collect();
            let text = documents.context("could not write YAML")?.join("---\n");
            files.push((PathBuf::from(name), text));
        }
        Ok(files)
    }

    /// Runs the shard of this pod.
    pub fn shard(self, folder: &Path) -> Result<()> {
        let orders = shard::orders(folder)?;
        let plan = source::load_of_run(folder)?;
        Ok(runtime()?.block_on(shard::run(plan, orders))?)
    }
}

/// The servers of the options, and the cluster's DNS unless another is named.
fn reach(args: &EgressArgs) -> Result<Reach> {
    let Egress { api_server, vault, postgres, dns } = platform::egress(args)?;
    let dns = if dns.is_empty() { Dns::Cluster } else { Dns::At(dns) };
    Ok(Reach { api_server, vault, postgres, dns })
}

fn environments()
-> Result<std::collections::BTreeMap<alertstorm_platform::RunId, render::Environment>> {
    render::environments().context("could not read the table of environments")
}

fn need(Finding { what, found, got_by }: Finding) -> Need {
    Need { what, found, got_by }
}

fn readiness(world: &'static str, findings: Vec<Finding>) -> Readiness {
    Readiness { world, needs: findings.into_iter().map(need).collect() }
}
