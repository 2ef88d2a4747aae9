//! The Lease of a run in its namespace. It is renewed while the run lives, so that nobody takes the
//! run's objects for those of a killed one.

use std::time::Duration;

use alertstorm_agent::names::{Names, RUN_LABEL, RunId};
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::bootstrap::{BootstrapError, create_one};
use crate::call;
use crate::manifests::{self, OURS, object};
use crate::objects;

/// The Lease's name.
const NAME: &str = "alertstorm";
/// `leaseDurationSeconds`: a run whose Lease is older is dead, unless it renews it after all.
const DURATION_S: i64 = 60;
/// The interval of its renewal.
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// How long an expired Lease is observed. A run whose clock is late renews it within this time.
pub const OBSERVED_FOR: Duration = Duration::from_secs(25);

/// Renews the Lease of a run until it is dropped.
#[derive(Debug)]
pub struct Holder(JoinHandle<()>);

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Who holds the Lease, for people: user, host and process.
fn identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    let user = user.unwrap_or_else(|_| "alertstorm".to_owned());
    format!("{user}@{}:{}", host.trim(), std::process::id())
}

/// The time format of `renewTime`, a MicroTime.
fn micro_time(at: Timestamp) -> String {
    format!("{at:.6}")
}

fn path(names: &Names) -> String {
    format!("{}/{NAME}", objects::collection("Lease", names.namespace()))
}

/// Creates the namespace of a run, and its Lease.
///
/// # Errors
/// If one of them cannot be created, or exists and is not the run's.
pub async fn hold(client: &Client, names: &Names) -> Result<Holder, BootstrapError> {
    create_one(client, manifests::namespace(names.namespace()), names).await?;
    let now = micro_time(Timestamp::now());
    let spec = json!({
        "holderIdentity": identity(), "leaseDurationSeconds": DURATION_S,
        "acquireTime": now, "renewTime": now,
    });
    let lease = object("Lease", "coordination.k8s.io/v1", NAME, json!({"spec": spec}));
    create_one(client, lease, names).await?;
    Ok(Holder(tokio::spawn(renew(client.clone(), path(names)))))
}

async fn renew(client: Client, path: String) {
    let mut ticks = interval(RENEW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let change = json!({"spec": {"renewTime": micro_time(Timestamp::now())}});
        // The client of a kubeconfig waits for 295 s, and the Lease has expired long before.
        let renewed = timeout(RENEW_EVERY, objects::merge(&client, &path, &change)).await;
        let Ok(renewed) = renewed else {
            tracing::warn!(path, "the renewal of the run's Lease was not answered in time");
            continue;
        };
        let Err(error) = renewed else { continue };
        let gone = call::is_gone(&error);
        let error = call::describe(&error);
        tracing::warn!(error, path, "the run's Lease could not be renewed");
        if gone {
            return;
        }
    }
}

/// A run that has a namespace in a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its names.
    pub names: Names,
    /// The Lease's `holderIdentity`; empty if there is no Lease.
    pub holder: String,
    /// When the Lease was renewed last; or when the namespace was created, if there is none.
    renewed: Option<Timestamp>,
    /// How long the Lease is valid after that.
    duration: SignedDuration,
    /// The Lease's `resourceVersion`; empty if there is no Lease.
    version: String,
}

impl Run {
    fn of(namespace: &Value, lease: Option<&Value>) -> Option<Self> {
        let id: RunId = namespace["metadata"]["labels"][RUN_LABEL].as_str()?.parse().ok()?;
        let names = Names::of_run(&id);
        if namespace["metadata"]["name"] != names.namespace() {
            return None;
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let nothing = Value::Null;
        let lease = lease.unwrap_or(&nothing);
        let created = text(&namespace["metadata"]["creationTimestamp"]);
        let renewed = lease["spec"]["renewTime"].as_str().unwrap_or(&created);
        let duration = lease["spec"]["leaseDurationSeconds"].as_i64().unwrap_or(DURATION_S);
        Some(Self {
            names,
            holder: text(&lease["spec"]["holderIdentity"]),
            renewed: renewed.parse().ok(),
            duration: SignedDuration::from_secs(duration),
            version: text(&lease["metadata"]["resourceVersion"]),
        })
    }

    /// How long ago the Lease was renewed, by the clock of this machine.
    pub fn age(&self, now: Timestamp) -> SignedDuration {
        self.renewed.map_or(SignedDuration::MAX, |renewed| now.duration_since(renewed))
    }

    /// Whether the Lease is valid, by the clock of this machine.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.age(now) <= self.duration
    }
}

/// All runs that have a namespace in the cluster.
///
/// # Errors
/// If a request to the API server fails.
pub async fn runs(client: &Client) -> Result<Vec<Run>, kube::Error> {
    let path = format!("{}?labelSelector={OURS},{RUN_LABEL}", objects::collection("Namespace", ""));
    let found = objects::get(client, &path).await?.unwrap_or_default();
    let mut all = Vec::new();
    for namespace in found["items"].as_array().into_iter().flatten() {
        let name = namespace["metadata"]["name"].as_str().unwrap_or_default();
        let path = format!("{}/{NAME}", objects::collection("Lease", name));
        all.extend(Run::of(namespace, objects::get(client, &path).await?.as_ref()));
    }
    Ok(all)
}

/// Divides the runs of a cluster into the living and the dead. A run is dead if its Lease has expired
/// and is not renewed while it is observed: the clock of this machine alone does not decide.
///
/// # Errors
/// If a request to the API server fails.
pub async fn living_and_dead(client: &Client) -> Result<(Vec<Run>, Vec<Run>), kube::Error> {
    divide(client, OBSERVED_FOR).await
}

async fn divide(client: &Client, for_: Duration) -> Result<(Vec<Run>, Vec<Run>), kube::Error> {
    let now = Timestamp::now();
    let (mut living, mut dead): (Vec<_>, Vec<_>) =
        runs(client).await?.into_iter().partition(|run| run.is_valid(now));
    if !dead.is_empty() {
        tokio::time::sleep(for_).await;
        let after = runs(client).await?;
        // A run that began in the meantime is in neither.
        let same = |run: &Run| {
            let now = after.iter().find(|other| other.names == run.names);
            now.is_some_and(|now| now.version == run.version && now.holder == run.holder)
        };
        let renewed;
        (dead, renewed) = dead.into_iter().partition(same);
        living.extend(renewed);
    }
    Ok((living, dead))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use http::Request;
    use kube::client::Body;

    use super::*;

    /// An API server with three runs. The Lease of `slow` was renewed long ago by our clock, and is
    /// renewed again with every request; that of `dead` is not; that of `fresh` is valid.
    fn client() -> Client {
        let answers = Arc::new(AtomicU32::new(0));
        let service = tower::service_fn(move |request: Request<Body>| {
            let number = answers.fetch_add(1, Ordering::SeqCst);
            let lease = |version: &str, renewed: String| {
                json!({"metadata": {"resourceVersion": version}, "spec": {
                    "holderIdentity": "someone", "leaseDurationSeconds": 60, "renewTime": renewed,
                }})
            };
            let past = || "2020-01-01T00:00:00.000000Z".to_owned();
            let path = request.uri().path().to_owned();
            let answer = if path.ends_with("/alertstorm-slow/leases/alertstorm") {
                lease(&number.to_string(), past())
            } else if path.ends_with("/alertstorm-dead/leases/alertstorm") {
                lease("1", past())
            } else if path.ends_with("/alertstorm-fresh/leases/alertstorm") {
                lease("1", micro_time(Timestamp::now()))
            } else {
                let namespace = |name: &str, id: &str| json!({"metadata": {"name": name, "labels": {RUN_LABEL: id}}});
                json!({"items": [
                    namespace("alertstorm-slow", "slow"), namespace("alertstorm-dead", "dead"),
                    namespace("alertstorm-fresh", "fresh"),
                    // The label alone does not make a namespace a run's.
                    namespace("production", "dead"), namespace("alertstorm-x", "not an id"),
                ]})
            };
            async move {
                let body = Body::from(answer.to_string().into_bytes());
                Ok::<_, std::io::Error>(http::Response::new(body))
            }
        });
        Client::new(service, "default")
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_that_is_not_answered_is_sent_again_before_the_lease_expires() {
        let requests = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&requests);
        let service = tower::service_fn(move |_: Request<Body>| {
            counted.fetch_add(1, Ordering::SeqCst);
            std::future::pending::<Result<http::Response<Body>, std::io::Error>>()
        });
        let renewing = renew(Client::new(service, "default"), "/a-lease".to_owned());
        let expires = Duration::from_secs(DURATION_S as u64);
        assert!(timeout(expires, renewing).await.is_err(), "it is renewed until it is dropped");
        let sent = requests.load(Ordering::SeqCst);
        assert!(sent >= 3, "{sent} requests");
    }

    #[tokio::test]
    async fn a_run_whose_lease_has_expired_and_is_not_renewed_is_dead_and_no_other() {
        let (living, dead) = divide(&client(), Duration::ZERO).await.unwrap();
        let ids = |runs: &[Run]| -> Vec<String> {
            runs.iter().map(|run| run.names.id().to_string()).collect()
        };
        assert_eq!(
            (ids(&living), ids(&dead)),
            (vec!["fresh".into(), "slow".into()], vec!["dead".into()])
        );
    }
}
