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
    use alertstorm_reports::Report;
    use anyhow::Result;

    use super::absent;

    /// No platform can be made.
    pub enum Platform {}

    pub fn check(_: &Plan) -> Result<()> {
        Err(absent())
    }

    pub fn start(_: &Plan) -> Result<Platform> {
        Err(absent())
    }

    pub fn run(
        _: &Plan,
        platform: &Platform,
        _: &mut dyn Sink,
        _: &mut dyn FnMut(u64, Time),
    ) -> Result<Report> {
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
    use std::cell::RefCell;
    use std::ops::ControlFlow;
    use std::sync::Arc;
    use std::time::Instant;

    use alertstorm_live::local::{Local, LocalError};
    use alertstorm_model::event::Sink;
    use alertstorm_model::measure::Measures;
    use alertstorm_model::scenario::Plan;
    use alertstorm_model::time::Time;
    use alertstorm_reports::Report;
    use anyhow::{Context, Result};

    use crate::exit::WrongInput;
    use crate::trial::Both;
    use crate::{interrupt, ui};

    /// A platform, and the runtime that its tasks live in.
    pub struct Platform {
        runtime: tokio::runtime::Runtime,
        local: Arc<Local>,
    }

    /// Checks that the plan can run there; its flags the platform checks before it starts.
    pub fn check(plan: &Plan) -> Result<()> {
        alertstorm_live::check_faults(plan)
            .map_err(|error| WrongInput::of("the scenario's faults", error.to_string()))
    }

    /// Starts a platform for a plan, or takes the one that is kept.
    pub fn start(plan: &Plan) -> Result<Platform> {
        let runtime = runtime()?;
        let bar = ui::spinner();
        let tell = |line: &str| ui::tell(&bar, line);
        let local = runtime.block_on(Local::start(&plan.scenario, false, &tell)).map_err(sorted);
        bar.finish_and_clear();
        Ok(Platform { local: Arc::new(local?), runtime })
    }

    /// Runs a plan; `watch` hears how many investigations have ended, and the run's time.
    pub fn run(
        plan: &Plan,
        platform: &Platform,
        log: &mut dyn Sink,
        watch: &mut dyn FnMut(u64, Time),
    ) -> Result<Report> {
        let began = Instant::now();
        let measures = RefCell::new(Measures::default());
        let mut both = Both { measures: &measures, log: Some(log) };
        let bar = ui::spinner();
        let tell = |line: &str| ui::tell(&bar, line);
        let done = platform.runtime.block_on(alertstorm_live::run(
            plan,
            Arc::clone(&platform.local),
            &mut both,
            &tell,
            &mut |now| {
                bar.finish_and_clear();
                watch(measures.borrow().accounting.finished, now);
                if interrupt::asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            },
        ));
        bar.finish_and_clear();
        done?;
        let mut measures = measures.into_inner();
        measures.close();
        let wall_s = began.elapsed().as_secs_f64();
        Ok(Report::new(plan, &measures, wall_s))
    }

    /// The end of a platform.
    pub fn stop(platform: Platform) -> Result<()> {
        platform.local.stop()?;
        platform.runtime.shutdown_background();
        Ok(())
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
        let problem = |flag: &alertstorm_live::local::UnknownFlag| {
            let help = flag.nearest.as_ref().map(|name| format!("did you mean `{name}`?"));
            alertstorm_model::scenario::Problem {
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
