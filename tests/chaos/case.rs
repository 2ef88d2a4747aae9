//! One case of the matrix: a fault at a moment of a run, and what comes of it.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use alertstorm_platform::provider::Program as Server;

use crate::cluster;
use crate::expected;
use crate::fault::Fault;
use crate::leftovers;
use crate::outcome;
use crate::place::{Ended, Place, Program};
use crate::servers::Servers;

/// When the fault begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// While the run is prepared, or its servers start.
    Launch,
    /// While agents work.
    Run,
    /// While the servers' records are read, after the last agent.
    Verdict,
    /// While the run's objects are deleted.
    CleanUp,
}

/// Whose servers the run uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    /// Its own, which end with it.
    Own,
    /// Those of a platform that is kept, on which its objects are deleted one by one.
    Kept,
    /// Pods in a kind cluster that is kept, with containers of Vault and PostgreSQL of their own.
    Kind,
}

/// A fault at a moment in a world.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub fault: Fault,
    pub moment: Moment,
    pub world: World,
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Launch => "launch",
            Self::Run => "run",
            Self::Verdict => "verdict",
            Self::CleanUp => "clean-up",
        })
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Own => "local",
            Self::Kept => "local, kept",
            Self::Kind => "kind",
        })
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}, {}", self.fault, self.moment, self.world)
    }
}

/// A case that was run.
#[derive(Clone, Debug)]
pub struct Row {
    pub case: Case,
    /// Outcomes of agents and leases that the fault changed.
    pub lost: String,
    /// How the run ended.
    pub ended: String,
    /// How long the program ran.
    pub took: Duration,
    /// From the fault to the end of the program.
    pub after: Duration,
    /// What must not be so.
    pub wrong: Vec<String>,
}

impl Moment {
    /// The line of progress, or the event, with which it begins.
    fn has_come(self, world: World, program: &Program, folder: &Path) -> bool {
        let line = match (self, world) {
            (Self::Launch, World::Own) => "waiting for kube-apiserver",
            (Self::Launch, World::Kept | World::Kind) => {
                "setting up the namespace, the identities and Vault"
            }
            (Self::Verdict, _) | (Self::CleanUp, World::Own) => {
                "reading the servers' counters and audit logs"
            }
            (Self::CleanUp, World::Kept | World::Kind) => {
                "removing the hollow nodes from the kept platform"
            }
            (Self::Run, _) => {
                let events = fs::read_to_string(folder.join("events.jsonl")).unwrap_or_default();
                // The journal of a pod's agent arrives when it ends.
                let stage = if world == World::Kind { "pod_running" } else { "credentials_ready" };
                return events.contains(stage);
            }
        };
        program.printed().lines().any(|printed| printed == line)
    }
}

impl Case {
    /// Runs the case in a place, which has a kept platform if that is its world.
    pub fn run(self, place: &mut Place) -> Row {
        let mut wrong = Vec::new();
        let before = self.remains(place, &mut wrong);
        let (mut program, folder) = place.run(&self.fault.settings(), self.fault.shards());
        let world = self.world;
        let came = program.wait_until(|program| self.moment.has_come(world, program, &folder));
        let at = Instant::now();
        match came {
            true => wrong.extend(self.make(place, &mut program).err()),
            false => wrong.push(format!("the {} did not come", self.moment)),
        }
        if self.fault == Fault::Sealed && self.moment == Moment::Run && world == World::Kept {
            std::thread::sleep(Duration::from_secs(4));
            Servers::of(place).expect("a platform").unseal();
        }
        let ended = program.end();
        let after = at.elapsed();
        if self.fault == Fault::Killed {
            wrong.extend(self.killed(place, &folder));
        }
        let report = outcome::report(&folder);
        wrong.extend(outcome::violations(&ended, report.as_ref()));
        wrong.extend(expected::wrong_end(self, &ended, report.as_ref()));
        wrong.extend(expected::missing(self, &ended, report.as_ref(), &folder));
        if self.fault == Fault::Gone {
            let log = fs::read_to_string(folder.join("harness.log")).unwrap_or_default();
            if log.matches("the watch of Jobs begins with a list").count() < 2 {
                wrong.push("the watch of Jobs was not listed anew".to_owned());
            }
        }
        let left = self.remains(place, &mut wrong);
        wrong.extend(left.difference(&before).map(|what| format!("left behind: {what}")));
        if world == World::Own {
            wrong.extend(left.into_iter().map(|what| format!("left behind: {what}")));
        }
        if !wrong.is_empty() {
            eprintln!("{self}: {wrong:#?}\n{}", ended.stderr);
        }
        let how = how(&ended, report.as_ref());
        Row {
            case: self,
            lost: outcome::lost(report.as_ref()),
            ended: how,
            took: ended.took,
            after,
            wrong,
        }
    }

    fn make(self, place: &Place, program: &mut Program) -> Result<(), String> {
        if self.world != World::Kind {
            return self.fault.make(place, program);
        }
        if self.moment == Moment::Run {
            // Until agents have credentials.
            std::thread::sleep(Duration::from_secs(2));
        }
        self.fault.make_in_pods(self.moment == Moment::Run, program)
    }

    /// After a SIGKILL of the harness: the run can be reported if it had begun, and the next command
    /// removes what it left.
    fn killed(self, place: &mut Place, folder: &Path) -> Vec<String> {
        let mut wrong = Vec::new();
        if folder.join("events.jsonl").exists() {
            let reported = place.alertstorm(&["report", &folder.display().to_string()]);
            // A run that was killed after its last event is complete.
            if !matches!(reported.code, Some(0 | 4 | 5)) {
                wrong.push(format!("report: {:?} {}", reported.code, reported.stderr));
            }
        }
        let next = match self.world {
            World::Own | World::Kind => place.alertstorm(&["clean"]),
            World::Kept => {
                let (program, _) = place.run(&["alerts.0.flood=1".to_owned()], None);
                program.end()
            }
        };
        if next.code != Some(0) {
            wrong.push(format!("the next command: {:?} {}", next.code, next.stderr));
        }
        wrong
    }

    /// What exists now: on a kept platform everything of runs, and else platforms and processes. A kept
    /// platform that is gone, or has lost a server, is wrong at any time.
    fn remains(self, place: &Place, wrong: &mut Vec<String>) -> BTreeSet<String> {
        let mut kept = Vec::new();
        let mut all = BTreeSet::new();
        match (self.world, Servers::of(place)) {
            (World::Kept, Some(servers)) => {
                let alive = servers.alive();
                let id = |program: &Server| servers.process(*program).map(|process| process.pid);
                kept.extend(alive.iter().filter_map(id));
                if alive.len() == 6 {
                    all.extend(leftovers::on_kept(&servers));
                } else {
                    wrong.push(format!("of the kept platform only these servers run: {alive:?}"));
                }
            }
            (World::Kept, None) => wrong.push("the kept platform is gone".to_owned()),
            (World::Own, _) => all.extend(leftovers::platforms(place)),
            (World::Kind, _) if cluster::exists() => all.extend(cluster::remains()),
            (World::Kind, _) => wrong.push("the cluster is gone".to_owned()),
        }
        all.extend(leftovers::processes(place, &kept));
        all
    }
}

/// How a run ended, in a few words.
fn how(ended: &Ended, report: Option<&serde_json::Value>) -> String {
    let reasons = report.map(outcome::invalid).unwrap_or_default();
    let short = |text: &str| {
        let text: String = text.chars().take(90).collect();
        text.replace('|', "/").replace('\n', " ")
    };
    match ended.code {
        _ if ended.hangs => "hung".to_owned(),
        None => "killed; reported and cleaned up".to_owned(),
        Some(0) => "complete (0)".to_owned(),
        Some(4) if reasons.is_empty() => "complete, on a busy machine (4)".to_owned(),
        Some(4) => format!("invalid (4): {}", short(&reasons[0])),
        Some(5) => "interrupted (5)".to_owned(),
        Some(code) => format!("failed ({code}): {}", short(&outcome::error(ended))),
    }
}
