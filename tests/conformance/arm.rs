//! The two arms.

use alertstorm_analysis::measure::Measures;
use alertstorm_model::event::{Event, Sink as _};
use alertstorm_model::scenario::Plan;

use crate::common;

/// Where a scenario is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arm {
    /// In virtual time.
    Twin,
    /// On real servers.
    #[cfg(feature = "live")]
    Local,
    /// In real pods on a kind cluster.
    #[cfg(feature = "live")]
    Kind,
}

/// A run, whole.
pub struct Ran {
    /// The plan.
    pub plan: Plan,
    /// Its events.
    pub events: Vec<Event>,
    /// What they come to.
    pub measures: Measures,
}

impl Arm {
    /// Runs a scenario; an invalid run is a failure.
    pub fn run(self, text: &str, set: &[(&str, &str)]) -> Ran {
        let mut set = set.to_vec();
        #[cfg(feature = "live")]
        if self == Self::Kind {
            set.extend(live::SMALL);
        }
        self.run_plan(common::plan(text, &set))
    }

    /// Runs a plan; an invalid run is a failure.
    pub fn run_plan(self, plan: Plan) -> Ran {
        let mut events: Vec<Event> = Vec::new();
        match self {
            Self::Twin => common::run(&plan, &mut events),
            #[cfg(feature = "live")]
            Self::Local | Self::Kind => live::run(self, &plan, &mut events),
        }
        Ran::of(plan, events)
    }
}

impl Ran {
    /// What the events of a run come to; an invalid run is a failure.
    pub fn of(plan: Plan, mut events: Vec<Event>) -> Self {
        // Of a live run some become known late.
        events.sort_by_key(|event| event.at);
        let mut measures = Measures::default();
        events.iter().for_each(|event| measures.take(event));
        measures.close();
        // How late the harness was is the shared machine's doing, and no promise.
        let broken = |why: &&String| !why.starts_with("the harness was the bottleneck");
        let broken: Vec<&String> = measures.invalid.iter().filter(broken).collect();
        assert_eq!(broken, Vec::<&String>::new(), "{:#?}", measures.remarks);
        Self { plan, events, measures }
    }
}

#[cfg(feature = "live")]
pub mod live {
    use std::ops::ControlFlow;
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

    use alertstorm_live::provider::Provider;
    use alertstorm_live::provider::kind::{Kind, Options};
    use alertstorm_live::provider::local::Local;
    use alertstorm_model::event::Sink;
    use alertstorm_model::scenario::Plan;

    use super::Arm;

    /// What a pod asks for, so that a dozen find their place on two cores.
    pub const SMALL: [(&str, &str); 3] = [
        ("controller.job.cpu_request_millis", "10"),
        ("controller.job.memory_request", "32Mi"),
        ("controller.job.memory_limit", "1Gi"),
    ];

    /// The cluster that all tests share, one after another.
    pub const CLUSTER: &str = "alertstorm-test";
    static ALONE: Mutex<()> = Mutex::new(());

    /// Has the cluster for itself.
    pub fn alone() -> MutexGuard<'static, ()> {
        ALONE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the cluster where it is not there, with the agent's image in its nodes.
    pub fn make_cluster() {
        let plan = crate::common::plan(crate::promises::BUSY, &SMALL);
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            kind(&plan).await.end().await.expect("the platform ends");
        });
    }

    /// Makes the shards' image of the program under test, and loads it into the cluster; its name.
    pub fn shards_image() -> String {
        let program = std::path::Path::new(env!("CARGO_BIN_EXE_alertstorm"));
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let image = runtime.block_on(alertstorm_live::provider::kind::image::of_shards(program));
        let image = image.unwrap_or_else(|error| panic!("{error}"));
        let load = ["load", "docker-image", &image, "--name", CLUSTER];
        let loaded = std::process::Command::new("kind").args(load).output().expect("kind");
        assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stderr));
        image
    }

    pub fn run(arm: Arm, plan: &Plan, sink: &mut dyn Sink) {
        let _alone = (arm == Arm::Kind).then(alone);
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let silent = |_: &str| {};
            let provider: Arc<dyn Provider> = match arm {
                Arm::Kind => Arc::new(kind(plan).await),
                _ => {
                    let local = Local::start(&plan.scenario, false, &silent).await;
                    Arc::new(local.unwrap_or_else(|error| panic!("{error}")))
                }
            };
            let mut watch = |_| ControlFlow::Continue(());
            let of = Arc::clone(&provider);
            let ran = alertstorm_live::run(plan, of, None, sink, &silent, &mut watch).await;
            provider.end().await.expect("the platform ends");
            ran.unwrap_or_else(|error| panic!("{error:?}"));
        });
    }

    async fn kind(plan: &Plan) -> Kind {
        let named = |name| std::env::var(name).ok();
        let options = Options {
            name: Some(CLUSTER.to_owned()),
            image: named("ALERTSTORM_KIND_IMAGE"),
            config: named("ALERTSTORM_KIND_CONFIG").map(Into::into),
            agent_image: None,
            shard_image: None,
            keep: true,
        };
        let kind = Kind::start(plan, &options, &|_: &str| {}).await;
        kind.unwrap_or_else(|error| panic!("{error}"))
    }
}
