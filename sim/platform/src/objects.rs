//! Objects of the API server as JSON: their paths, and requests for them. An object is created only
//! if there is none of its name, or if that one is marked as the run's own.

use std::time::Duration;

use alertstorm_agent::names::Names;
use http::Request;
use kube::Client;
use serde_json::Value;

use crate::call;
use crate::manifests::FLOW_CONTROL;

/// A call is retried for this long: the control plane may have started just now.
const PATIENCE: Duration = Duration::from_secs(30);

/// The kinds of objects outside of a namespace that a run creates.
pub const CLUSTER_WIDE: [&str; 4] =
    ["Namespace", "ClusterRole", "ClusterRoleBinding", "FlowSchema"];

/// The path of a kind's objects at the API server.
pub fn collection(kind: &str, namespace: &str) -> String {
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let core = format!("/api/v1/namespaces/{namespace}");
    match kind {
        "Namespace" => "/api/v1/namespaces".to_owned(),
        "ConfigMap" => format!("{core}/configmaps"),
        "Pod" => format!("{core}/pods"),
        "Event" => format!("{core}/events"),
        "ServiceAccount" => format!("{core}/serviceaccounts"),
        "LimitRange" => format!("{core}/limitranges"),
        "ResourceQuota" => format!("{core}/resourcequotas"),
        "NetworkPolicy" => {
            format!("/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies")
        }
        "Job" => format!("/apis/batch/v1/namespaces/{namespace}/jobs"),
        "Lease" => format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"),
        "Role" => format!("{rbac}/namespaces/{namespace}/roles"),
        "RoleBinding" => format!("{rbac}/namespaces/{namespace}/rolebindings"),
        "FlowSchema" => format!("/apis/{FLOW_CONTROL}/flowschemas"),
        "ClusterRole" => format!("{rbac}/clusterroles"),
        _ => format!("{rbac}/clusterrolebindings"),
    }
}

/// Kind and name of an object.
pub fn kind_and_name(object: &Value) -> (&str, &str) {
    let kind = object["kind"].as_str().unwrap_or_default();
    (kind, object["metadata"]["name"].as_str().unwrap_or_default())
}

/// Adds the label that marks an object as the owner's.
pub fn mark(object: &mut Value, names: &Names) {
    let (key, value) = names.label();
    object["metadata"]["labels"][key] = value.into();
}

/// Whether an object is marked as the owner's.
pub fn is_marked(object: &Value, names: &Names) -> bool {
    let (key, value) = names.label();
    object["metadata"]["labels"][key] == value.as_str()
}

/// Reads an object, or a list; `None` if it does not exist.
///
/// # Errors
/// If the call fails for longer than 30 s, or with an error that is not transient.
pub async fn get(client: &Client, path: &str) -> Result<Option<Value>, kube::Error> {
    let found = call::patiently(PATIENCE, || async {
        let request = Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
        client.request::<Value>(request).await
    });
    match found.await {
        Ok(found) => Ok(Some(found)),
        Err(error) if call::is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Why an object could not be created.
#[derive(Debug)]
pub enum CreateError {
    /// One of its name exists, and is not the owner's.
    Foreign,
    /// The last response of the API server.
    Api(kube::Error),
}

/// Creates an object of the owner. One that exists and is marked as the owner's counts as success: an
/// earlier attempt created it, and its response was lost.
///
/// # Errors
/// [`CreateError`].
pub async fn create(client: &Client, object: &Value, names: &Names) -> Result<(), CreateError> {
    let (kind, name) = kind_and_name(object);
    tracing::debug!(kind, name, "creating an object");
    let path = collection(kind, names.namespace());
    match post(client, &path, object).await {
        Ok(_) => Ok(()),
        Err(error) if call::is_conflict(&error) => {
            let found = get(client, &format!("{path}/{name}")).await.map_err(CreateError::Api)?;
            match found.is_some_and(|found| is_marked(&found, names)) {
                true => Ok(()),
                false => Err(CreateError::Foreign),
            }
        }
        Err(error) => Err(CreateError::Api(error)),
    }
}

/// Sends an object to a path, and returns the answer.
///
/// # Errors
/// If the call fails for longer than 30 s, or with an error that is not transient.
pub async fn post(client: &Client, path: &str, object: &Value) -> Result<Value, kube::Error> {
    send(client, Request::post(path), "application/json", object).await
}

/// Applies an object of the owner's namespace with server-side apply.
///
/// # Errors
/// If the call fails for longer than 30 s, or with an error that is not transient.
pub async fn apply(client: &Client, object: &Value, names: &Names) -> Result<(), kube::Error> {
    let (kind, name) = kind_and_name(object);
    tracing::debug!(kind, name, "applying an object");
    let path = collection(kind, names.namespace());
    let uri = format!("{path}/{name}?fieldManager=alertstorm&force=true");
    send(client, Request::patch(uri), "application/apply-patch+yaml", object).await.map(drop)
}

/// Changes an object with a merge patch.
///
/// # Errors
/// If the call fails for longer than 30 s, or with an error that is not transient.
pub async fn merge(client: &Client, path: &str, change: &Value) -> Result<Value, kube::Error> {
    send(client, Request::patch(path), "application/merge-patch+json", change).await
}

async fn send(
    client: &Client,
    request: http::request::Builder,
    content: &str,
    body: &Value,
) -> Result<Value, kube::Error> {
    let body = serde_json::to_vec(body).map_err(kube::Error::SerdeError)?;
    let request = request.header("content-type", content).body(body);
    let request = request.map_err(kube::Error::HttpError)?;
    call::patiently(PATIENCE, || async { client.request::<Value>(request.clone()).await }).await
}

/// Deletes an object that was read before, and nothing else: another one that has its name by then
/// stays. One that does not exist counts as deleted.
///
/// # Errors
/// If the call fails for longer than 30 s, or with an error that is not transient.
pub async fn delete(client: &Client, path: &str, found: &Value) -> Result<(), kube::Error> {
    let same = serde_json::json!({
        "apiVersion": "v1", "kind": "DeleteOptions",
        "preconditions": {"uid": found["metadata"]["uid"]},
        "propagationPolicy": "Background",
    });
    // 409: the object that was read is gone, and another one has its name.
    match delete_with(client, path, &same).await {
        Err(error) if call::is_conflict(&error) => Ok(()),
        done => done,
    }
}

/// Deletes an object with `DeleteOptions`. One that does not exist counts as deleted.
///
/// # Errors
/// If the call fails for longer than 30 s, or with an error that is not transient.
pub async fn delete_with(client: &Client, path: &str, options: &Value) -> Result<(), kube::Error> {
    call::deleted(send(client, Request::delete(path), "application/json", options).await)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use kube::client::Body;
    use serde_json::json;

    use super::*;

    /// An API server that has an object of every name, with this label's value.
    fn client(run: &'static str) -> (Client, Arc<Mutex<Vec<String>>>) {
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&requests);
        let service = tower::service_fn(move |request: Request<Body>| {
            seen.lock().unwrap().push(format!("{} {}", request.method(), request.uri().path()));
            let (status, answer) = match request.method().as_str() {
                "GET" => (200, json!({"metadata": {"labels": {"alertstorm.dev/run": run}}})),
                _ => (
                    409,
                    json!({"kind": "Status", "status": "Failure", "code": 409,
                                  "reason": "AlreadyExists", "message": "it exists"}),
                ),
            };
            async move {
                let body = Body::from(answer.to_string().into_bytes());
                Ok::<_, std::io::Error>(
                    http::Response::builder().status(status).body(body).unwrap(),
                )
            }
        });
        (Client::new(service, "default"), requests)
    }

    #[tokio::test]
    async fn an_object_that_exists_is_the_runs_own_or_an_error_and_is_never_changed() {
        let names = Names::of_run(&"mine".parse().unwrap());
        let role = json!({"kind": "ClusterRole", "metadata": {"name": "alertstorm-mine-scraper"}});
        let (own, _) = client("mine");
        assert!(create(&own, &role, &names).await.is_ok());
        let (foreign, requests) = client("theirs");
        let refused = create(&foreign, &role, &names).await;
        assert!(matches!(refused, Err(CreateError::Foreign)), "{refused:?}");
        let path = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
        let expected = [format!("POST {path}"), format!("GET {path}/alertstorm-mine-scraper")];
        assert_eq!(*requests.lock().unwrap(), expected);
    }
}
