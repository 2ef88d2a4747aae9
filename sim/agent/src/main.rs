//! The program in an agent's pod. It reads its task from the environment and its tokens from the
//! projected volume, writes a journal to the termination message, and revokes its credentials on
//! SIGTERM.

use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alertstorm_agent::journal::Writer;
use alertstorm_agent::names::application_object;
use alertstorm_agent::{Acted, AgentReport, Places, Task, World, trust, vault};
use alertstorm_model::investigation::Outcome;
use alertstorm_model::phase::{Refuser, Verb};
use alertstorm_model::quantity::Bytes;
use alertstorm_model::time::Time;
use reqwest::StatusCode;
use serde::Deserialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// The mount path of the projected volume.
const TOKENS: &str = "/var/run/tokens";
/// `terminationMessagePath`.
const MESSAGE: &str = "/dev/termination-log";
/// A request to the API server is retried for this long.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a page of memory: writing one of them makes the page resident.
const PAGE: usize = 4096;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The variable `ALERTSTORM_PLACES`: the servers that the agent connects to.
#[derive(Debug, Deserialize)]
struct Around {
    /// A URL.
    vault: String,
    /// The authority of Vault's certificate in PEM format; empty for plain HTTP.
    #[serde(default)]
    vault_ca: String,
    /// Vault's namespace; none for the root namespace.
    #[serde(default)]
    vault_namespace: Option<String>,
    /// PostgreSQL's address, and the authority of its certificate.
    postgres: alertstorm_agent::postgres::Address,
}

/// The environment of an agent in a pod.
struct Pod {
    started: Instant,
    journal: Mutex<Writer>,
    held: Mutex<Vec<u8>>,
    api: reqwest::Client,
    objects: String,
    token: String,
    task: Arc<Task>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn since(started: Instant) -> Time {
    Time(u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

impl World for Pod {
    fn now(&self) -> Time {
        since(self.started)
    }

    fn report(&self, report: AgentReport) {
        let mut journal = lock(&self.journal);
        let entry = (since(self.started), report);
        if let Err(error) = journal.add(entry) {
            eprintln!("failed to write the journal: {error}");
        }
    }

    async fn on_kubernetes(&self, verb: Verb) -> Acted {
        let url = format!("{}/{}", self.objects, application_object(verb));
        let until = Instant::now() + PATIENCE;
        let mut pause = Duration::from_millis(50);
        loop {
            let asked = if verb.writes() {
                let change = format!(r#"{{"data":{{"changed":"{}"}}}}"#, since(self.started).0);
                let patch = self.api.patch(&url).body(change);
                patch.header("Content-Type", "application/merge-patch+json")
            } else {
                self.api.get(&url)
            };
            match asked.bearer_auth(&self.token).send().await.map(|answer| answer.status()) {
                Ok(status) if status.is_success() => return Acted::Done,
                Ok(StatusCode::FORBIDDEN) => return Acted::Refused(Refuser::Rbac),
                Ok(status) if status != 429 && !status.is_server_error() => return Acted::Failed,
                _ if Instant::now() + pause > until => return Acted::Failed,
                _ => sleep(pause).await,
            }
            pause *= 2;
        }
    }

    fn hold(&self, memory: Bytes) -> bool {
        let mut held = lock(&self.held);
        let wanted = usize::try_from(memory.0).unwrap_or(usize::MAX);
        held.truncate(wanted);
        held.shrink_to(wanted);
        let had = held.len();
        // Above the container's limit the kernel's OOM killer ends the process here.
        held.resize(wanted, 0);
        held[had..].iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
        memory <= self.task.memory_limit
    }
}

fn variable(name: &str) -> Result<String, Failure> {
    std::env::var(name).map_err(|_| format!("the environment variable {name} is not set").into())
}

fn token(name: &str) -> Result<String, Failure> {
    token_in(Path::new(TOKENS), name)
}

/// A token, or the certificate authority, from the projected volume.
fn token_in(folder: &Path, name: &str) -> Result<String, Failure> {
    let path = folder.join(name);
    let text = std::fs::read_to_string(&path)
        .map_err(|error| format!("failed to read the token {}: {error}", path.display()))?;
    match text.trim() {
        "" => Err(format!("the token {} is empty", path.display()).into()),
        token => Ok(token.to_owned()),
    }
}

fn settle() -> Result<(Arc<Pod>, Places), Failure> {
    let started = Instant::now();
    let journal = Writer::begin(Path::new(MESSAGE))?;
    let task: Task = serde_json::from_str(&variable("ALERTSTORM_TASK")?)?;
    let around: Around = serde_json::from_str(&variable("ALERTSTORM_PLACES")?)?;
    let host = variable("KUBERNETES_SERVICE_HOST")?;
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let server = format!("https://{host}:{}", variable("KUBERNETES_SERVICE_PORT")?);
    let api = reqwest::Client::builder()
        .tls_backend_preconfigured(trust::only(&token("ca.crt")?)?)
        .timeout(PATIENCE)
        .no_proxy()
        .build()?;
    let places = Places {
        vault: vault::Address {
            url: around.vault,
            namespace: around.vault_namespace,
            tls: trust::only(&around.vault_ca)?,
        },
        postgres: around.postgres,
        from: None,
        token: token("vault")?,
    };
    let pod = Pod {
        started,
        journal: Mutex::new(journal),
        held: Mutex::default(),
        api,
        objects: format!("{server}/api/v1/namespaces/{}/configmaps", task.names.namespace()),
        token: token("kubernetes")?,
        task: Arc::new(task),
    };
    Ok((Arc::new(pod), places))
}

async fn live() -> Result<Outcome, Failure> {
    let (stopper, stop) = watch::channel(false);
    let mut asked = signal(SignalKind::terminate())?;
    let (pod, places) = settle()?;
    tokio::spawn(async move {
        asked.recv().await;
        let _ = stopper.send(true);
        // Keeps the sender: the agent would take a closed channel for an error.
        std::future::pending::<()>().await;
        drop(stopper);
    });
    let task = Arc::clone(&pod.task);
    let outcome = alertstorm_agent::run(&task, &places, &pod, stop).await;
    if outcome != Outcome::Crashed {
        lock(&pod.journal).end(outcome)?;
    }
    Ok(outcome)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match live().await {
        Ok(outcome) if outcome.concluded() => ExitCode::SUCCESS,
        // A shell's exit code for a process that SIGTERM ended: 128 + 15.
        Ok(Outcome::Evicted) => ExitCode::from(143),
        // A crash writes nothing.
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("failed to start the agent: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_token_is_an_error_that_names_its_file() {
        let folder = std::env::temp_dir().join(format!("alertstorm-tokens-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        for (text, expected) in [("\n", None), ("a-token\n", Some("a-token"))] {
            std::fs::write(folder.join("vault"), text).expect("a file");
            let token = token_in(&folder, "vault");
            assert_eq!(token.as_deref().ok(), expected);
            if let Err(error) = token {
                assert!(error.to_string().ends_with("vault is empty"), "{error}");
            }
        }
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
