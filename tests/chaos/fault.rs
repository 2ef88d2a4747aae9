//! The faults, and how each is made.

use std::fmt;
use std::thread::sleep;
use std::time::Duration;

use alertstorm_platform::provider::Program;

use crate::place::{LOOK_EVERY, Place, Program as Harness};
use crate::proxy::Mode;
use crate::servers::{Servers, signal};

/// How long a server refuses, fails or is silent.
const FOR: Duration = Duration::from_secs(4);

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A server is killed once.
    Kill(Program),
    /// A server is killed as often as it is started: it refuses connections.
    Refuses(Program),
    /// Vault is sealed, and if `Some` unsealed again.
    Sealed,
    /// The API server answers every request with this status, for a while.
    Answers(u16),
    /// The API server accepts connections and answers nothing, for so many seconds.
    Silent(u64),
    /// All connections to the API server are cut: each watch is lost.
    Cut,
    /// Watches are lost, and when they are started anew, etcd has no history: 410 Gone. A pod was
    /// deleted in the meantime.
    Gone,
    /// A node loses its power, as the scenario says: at this second, for so many.
    Node(u32, u32),
    /// The pod of an agent is deleted by force.
    Pod,
    /// The harness is killed.
    Killed,
    /// The harness is interrupted: Ctrl-C.
    Interrupted,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(program) => write!(f, "SIGKILL of {}", program.file()),
            Self::Refuses(program) => write!(f, "{} refuses for {FOR:?}", program.file()),
            Self::Sealed => f.write_str("Vault sealed"),
            Self::Answers(status) => write!(f, "API server answers {status} for {FOR:?}"),
            Self::Silent(seconds) => write!(f, "API server silent for {seconds}s"),
            Self::Cut => f.write_str("watches lost"),
            Self::Gone => f.write_str("410 Gone"),
            Self::Node(..) => f.write_str("node lost"),
            Self::Pod => f.write_str("pod deleted"),
            Self::Killed => f.write_str("SIGKILL of the harness"),
            Self::Interrupted => f.write_str("SIGINT of the harness"),
        }
    }
}

impl Fault {
    /// Settings of the run.
    pub fn settings(self) -> Vec<String> {
        match self {
            Self::Node(at, for_) => {
                vec![format!("faults=[{{fault: node-down, at: {at}s, for: {for_}s}}]")]
            }
            _ => Vec::new(),
        }
    }

    /// What the report, or standard error, has to name.
    pub fn is_named_by(self) -> Option<&'static str> {
        match self {
            Self::Kill(program) | Self::Refuses(program) => Some(program.file()),
            _ => None,
        }
    }

    /// Makes the fault, and ends it.
    pub fn make(self, place: &Place, harness: &mut Harness) {
        let proxy = place.proxy();
        let servers = || Servers::of(place).expect("a platform");
        let through = |mode, for_: Duration| {
            proxy.set(mode);
            sleep(for_);
            proxy.set(Mode::Pass);
        };
        match self {
            Self::Kill(program) => servers().kill(program),
            Self::Refuses(program) => servers().keep_down(program, FOR),
            Self::Sealed => servers().seal(),
            Self::Answers(status) => through(Mode::Answer(status), FOR),
            Self::Silent(seconds) => {
                proxy.set(Mode::Silent);
                let seconds = Duration::from_secs(seconds);
                let began = std::time::Instant::now();
                harness.wait_until(|_| began.elapsed() >= seconds);
                proxy.set(Mode::Pass);
            }
            Self::Cut => through(Mode::Refuse, Duration::from_millis(300)),
            Self::Gone => {
                proxy.set(Mode::Refuse);
                let servers = servers();
                delete_a_pod(&servers);
                servers.compact();
                servers.kill(Program::ApiServer);
                // The supervisor starts it again.
                servers.wait_for_api_server();
                proxy.set(Mode::Pass);
            }
            Self::Pod => {
                let servers = servers();
                harness.wait_until(|_| delete_a_pod(&servers));
            }
            Self::Node(..) => {}
            Self::Killed => signal("-KILL", harness.pid()),
            Self::Interrupted => signal("-INT", harness.pid()),
        }
        sleep(LOOK_EVERY);
    }
}

/// Deletes the pod of an agent without a grace period; whether there was one.
fn delete_a_pod(servers: &Servers<'_>) -> bool {
    let pods = servers.pods();
    // The youngest, whose agent works longest.
    let created = |pod: &&serde_json::Value| pod["metadata"]["creationTimestamp"].to_string();
    let Some(pod) = pods.iter().max_by_key(created) else { return false };
    let of = |field: &str| pod["metadata"][field].as_str().expect("a text").to_owned();
    let (namespace, name) = (of("namespace"), of("name"));
    servers.delete(&format!("/api/v1/namespaces/{namespace}/pods/{name}"))
}
