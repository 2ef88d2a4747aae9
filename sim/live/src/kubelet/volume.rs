//! A pod's projected volume: the CA bundle of its namespace, and two tokens of its ServiceAccount.

use alertstorm_model::kubelet::mount_pause;
use alertstorm_platform::call;
use alertstorm_platform::connection::Caller;
use alertstorm_platform::objects::collection;
use http::Method;
use kube::ResourceExt;
use serde::Deserialize;
use serde_json::json;
use tokio::time::sleep;

use crate::reporter::{Reporter, duration};
use crate::seen::SeenPod;
use crate::throttle::Throttle;

/// The tokens of a pod's ServiceAccount.
pub(super) struct Identity {
    /// For Vault: with the audience `vault`.
    pub vault: String,
    /// For the API server.
    pub kubernetes: String,
}

/// What was read so far.
#[derive(Default)]
struct Volume {
    has_bundle: bool,
    vault: Option<String>,
    kubernetes: Option<String>,
}

/// Reads the pod's volume; `throttle` is the bucket of the kubelet's client. After an error it tries
/// again until it is dropped, as a kubelet does for as long as the pod exists; what was read is
/// kept, as in a kubelet's caches.
pub(super) async fn mounted(
    caller: &Caller,
    throttle: Option<&Throttle>,
    pod: &SeenPod,
    reporter: &Reporter,
) -> Identity {
    let (mut volume, mut failures) = (Volume::default(), 0);
    loop {
        match mount(caller, throttle, pod, &mut volume).await {
            Ok(identity) => return identity,
            Err(error) => {
                let error = format!("{}: {error}", pod.name_any());
                reporter.failed("the mount of a pod's volume", &error);
                sleep(duration(mount_pause(failures))).await;
                failures += 1;
            }
        }
    }
}

async fn turn(throttle: Option<&Throttle>) {
    if let Some(throttle) = throttle {
        throttle.take().await;
    }
}

async fn mount(
    caller: &Caller,
    throttle: Option<&Throttle>,
    pod: &SeenPod,
    volume: &mut Volume,
) -> Result<Identity, String> {
    if !volume.has_bundle {
        let path = format!("{}/kube-root-ca.crt", objects("ConfigMap", pod));
        turn(throttle).await;
        let read = caller.check(&path).await;
        read.map_err(|error| call::describe(&error))?;
        volume.has_bundle = true;
    }
    let vault = match volume.vault.clone() {
        Some(known) => known,
        None => token(caller, throttle, pod, Some("vault")).await?,
    };
    volume.vault = Some(vault.clone());
    let kubernetes = match volume.kubernetes.clone() {
        Some(known) => known,
        None => token(caller, throttle, pod, None).await?,
    };
    volume.kubernetes = Some(kubernetes.clone());
    Ok(Identity { vault, kubernetes })
}

/// Requests a token that is bound to the pod, as a kubelet does.
async fn token(
    caller: &Caller,
    throttle: Option<&Throttle>,
    pod: &SeenPod,
    audience: Option<&str>,
) -> Result<String, String> {
    let account = pod.account.as_deref().unwrap_or("default");
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {
        "audiences": audience.into_iter().collect::<Vec<_>>(),
        // What a kubelet requests for the default token volume. For its own audience the API server
        // extends exactly this lifetime to a year (WarnOnlyBoundTokenExpirationPeriod in
        // pkg/serviceaccount).
        "expirationSeconds": 3607,
        "boundObjectRef": {
            "apiVersion": "v1", "kind": "Pod", "name": pod.name_any(),
            "uid": pod.uid().unwrap_or_default(),
        },
    }});
    let path = format!("{}/{account}/token", objects("ServiceAccount", pod));
    turn(throttle).await;
    let answer: Answer = caller
        .request(Method::POST, &path, &request)
        .await
        .map_err(|error| call::describe(&error))?;
    let token = answer.status.token;
    if token.is_empty() {
        return Err("the answer to a TokenRequest has no token".to_owned());
    }
    Ok(token)
}

/// The path of a kind's objects in the pod's namespace.
fn objects(kind: &str, pod: &SeenPod) -> String {
    collection(kind, pod.metadata.namespace.as_deref().unwrap_or("default"))
}

/// The response to a TokenRequest.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    status: TokenStatus,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct TokenStatus {
    token: String,
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http::{Request, Response};
    use kube::Client;
    use kube::client::Body;
    use tokio::time::Instant;

    use super::*;
    use crate::reporter::Clock;

    /// A client of an API server that gives these answers in turn, and the paths of the requests.
    fn client(answers: Vec<(u16, serde_json::Value)>) -> (Caller, Arc<Mutex<Vec<String>>>) {
        let (answers, paths) = (Arc::new(Mutex::new(answers.into_iter())), Arc::default());
        let asked: Arc<Mutex<Vec<String>>> = Arc::clone(&paths);
        let service = tower::service_fn(move |request: Request<Body>| {
            asked.lock().unwrap().push(request.uri().path().to_owned());
            let (code, body) = answers.lock().unwrap().next().expect("an answer for each request");
            async move {
                let body = Body::from(body.to_string().into_bytes());
                Ok::<_, std::io::Error>(Response::builder().status(code).body(body).unwrap())
            }
        });
        (Client::new(service, "a").into(), paths)
    }

    fn refused(code: u16) -> (u16, serde_json::Value) {
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
                            "message": "no", "reason": "no", "code": code});
        (code, status)
    }

    fn issued(token: &str) -> (u16, serde_json::Value) {
        let status = json!({"token": token, "expirationTimestamp": "2026-01-01T00:00:00Z"});
        (201, json!({"spec": {"audiences": []}, "status": status}))
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_request_that_fails_is_retried_and_what_was_read_is_kept() {
        let bundle = json!({"metadata": {"name": "kube-root-ca.crt"}});
        let (caller, paths) = client(vec![
            refused(404),
            (200, bundle),
            issued("for-vault"),
            refused(404),
            refused(403),
            issued(""),
            issued("for-kubernetes"),
        ]);
        let (reporter, _inbox) = Reporter::new(Clock::default());
        let began = Instant::now();
        let identity = mounted(&caller, None, &SeenPod::default(), &reporter).await;
        assert_eq!(identity.vault, "for-vault");
        assert_eq!(identity.kubernetes, "for-kubernetes");
        assert_eq!(began.elapsed().as_millis().div_ceil(500), 15, "0.5 + 1 + 2 + 4 s");
        let bundles = |path: &&String| path.ends_with("kube-root-ca.crt");
        assert_eq!(paths.lock().unwrap().iter().filter(bundles).count(), 2);
        assert!(reporter.failures()[0].contains("failed 4 times"), "{:?}", reporter.failures());
    }
}
