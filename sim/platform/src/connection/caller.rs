//! Requests that are sent for every investigation. kube's client hands each request to another task,
//! converts the object to its type before it is sent, and parses the whole response; a caller sends
//! JSON from the task that asks, and reads of the response what it needs.

use std::sync::Arc;

use futures::future::{BoxFuture, poll_fn};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use kube::client::Body;
use kube::core::Status;
use kube::{Client, Error};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tower::BoxError;

use super::body::Bounded;

/// The connections of one identity.
pub(super) trait Sends: Send + Sync {
    /// Sends a request.
    fn send(
        &self,
        request: Request<Body>,
    ) -> BoxFuture<'static, Result<Response<Bounded>, BoxError>>;
}

/// How the API server combines a patch with the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// `application/merge-patch+json`: lists are replaced.
    Merge,
    /// `application/strategic-merge-patch+json`: lists are merged by the keys of their type.
    Strategic,
}

/// One identity's requests to the API server; clones share its connections.
#[derive(Clone)]
pub struct Caller {
    client: Client,
    /// The connections; `None` for a caller made from a client.
    direct: Option<Arc<dyn Sends>>,
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a caller for the namespace {}", self.client.default_namespace())
    }
}

/// A caller that sends its requests through the client.
impl From<Client> for Caller {
    fn from(client: Client) -> Self {
        Self { client, direct: None }
    }
}

impl Caller {
    pub(super) fn new(client: Client, direct: Arc<dyn Sends>) -> Self {
        Self { client, direct: Some(direct) }
    }

    /// kube's client with the same identity, for watches and for requests that are rare.
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// Reads an object, as far as `T` has its fields.
    ///
    /// # Errors
    /// If the request fails, or its response is not a `T`.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let read = self.send(Method::GET, path, None, Vec::new(), true).await?;
        serde_json::from_slice(&read).map_err(Error::SerdeError)
    }

    /// Reads an object, and of the response only whether it succeeded.
    ///
    /// # Errors
    /// If the request fails.
    pub async fn check(&self, path: &str) -> Result<(), Error> {
        self.send(Method::GET, path, None, Vec::new(), false).await.map(drop)
    }

    /// Creates an object.
    ///
    /// # Errors
    /// If the request fails.
    pub async fn create(&self, path: &str, object: &impl Serialize) -> Result<(), Error> {
        let body = serde_json::to_vec(object).map_err(Error::SerdeError)?;
        self.send(Method::POST, path, Some(JSON), body, false).await.map(drop)
    }

    /// Sends an object, and reads the response, as far as `T` has its fields.
    ///
    /// # Errors
    /// If the request fails, or its response is not a `T`.
    pub async fn request<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        object: &impl Serialize,
    ) -> Result<T, Error> {
        let body = serde_json::to_vec(object).map_err(Error::SerdeError)?;
        let read = self.send(method, path, Some(JSON), body, true).await?;
        serde_json::from_slice(&read).map_err(Error::SerdeError)
    }

    /// Patches an object.
    ///
    /// # Errors
    /// If the request fails.
    pub async fn patch(
        &self,
        path: &str,
        kind: PatchKind,
        patch: &impl Serialize,
    ) -> Result<(), Error> {
        let body = serde_json::to_vec(patch).map_err(Error::SerdeError)?;
        let content = match kind {
            PatchKind::Merge => "application/merge-patch+json",
            PatchKind::Strategic => "application/strategic-merge-patch+json",
        };
        self.send(Method::PATCH, path, Some(content), body, false).await.map(drop)
    }

    /// Deletes an object with these options.
    ///
    /// # Errors
    /// If the request fails.
    pub async fn delete(&self, path: &str, options: &impl Serialize) -> Result<(), Error> {
        let body = serde_json::to_vec(options).map_err(Error::SerdeError)?;
        self.send(Method::DELETE, path, Some(JSON), body, false).await.map(drop)
    }

    /// The body of a response. Unless it is to be `read`, that of a success is empty.
    async fn send(
        &self,
        method: Method,
        path: &str,
        content: Option<&'static str>,
        body: Vec<u8>,
        read: bool,
    ) -> Result<Vec<u8>, Error> {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(content) = content {
            request = request.header(CONTENT_TYPE, HeaderValue::from_static(content));
        }
        let request = request.body(Body::from(body)).map_err(Error::HttpError)?;
        let (status, body) = match &self.direct {
            Some(direct) => {
                let answer = direct.send(request).await.map_err(unsent)?;
                received(answer, read).await.map_err(unsent)?
            }
            None => received(self.client.send(request).await?, read).await.map_err(unsent)?,
        };
        if status.is_client_error() || status.is_server_error() {
            return Err(Error::Api(refusal(status, &body).boxed()));
        }
        Ok(body)
    }
}

const JSON: &str = "application/json";

/// Why a request has no response, as kube's client would return it.
fn unsent(error: impl Into<BoxError>) -> Error {
    match error.into().downcast::<Error>() {
        Ok(error) => *error,
        Err(error) => match error.downcast::<hyper::Error>() {
            Ok(error) => Error::HyperError(*error),
            Err(error) => Error::Service(error),
        },
    }
}

/// The Status in a response that is not a success; one of its text if it contains none, as that of a
/// load balancer. The code is the response's in any case.
fn refusal(code: StatusCode, body: &[u8]) -> Status {
    let text = || {
        let text = String::from_utf8_lossy(body);
        Status::failure(text.trim(), "no Status in the response")
    };
    let is_status = serde_json::from_slice::<Tagged>(body).is_ok_and(|of| of.kind == "Status");
    let status = is_status.then(|| serde_json::from_slice::<Status>(body).ok()).flatten();
    status.unwrap_or_else(text).with_code(code.as_u16())
}

/// The type of an object, as it names it.
#[derive(Deserialize)]
struct Tagged {
    kind: String,
}

/// Status and body of a response. The body is read to its end in any case, so that the connection
/// can be used again; a successful one is kept only if it is to be `read`.
async fn received<B>(answer: Response<B>, read: bool) -> Result<(StatusCode, Vec<u8>), BoxError>
where
    B: hyper::body::Body<Data = hyper::body::Bytes> + Send,
    B::Error: Into<BoxError>,
{
    let (status, mut body) = (answer.status(), std::pin::pin!(answer.into_body()));
    let mut all = Vec::new();
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let frame = frame.map_err(Into::into)?;
        if let Some(data) = frame.data_ref()
            && (read || !status.is_success())
        {
            all.extend_from_slice(data);
        }
    }
    Ok((status, all))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::call;

    /// A client of an API server that answers every request with `code` and `body`.
    fn answering(code: u16, body: &'static str) -> Caller {
        let service = tower::service_fn(move |_: Request<Body>| async move {
            let body = Body::from(body.as_bytes().to_vec());
            Ok::<_, std::io::Error>(Response::builder().status(code).body(body).unwrap())
        });
        Client::new(service, "a").into()
    }

    #[derive(Deserialize)]
    struct Named {
        name: String,
    }

    #[tokio::test]
    async fn a_response_is_read_as_far_as_the_type_has_its_fields() {
        let caller = answering(200, r#"{"name":"b","more":[1,{"c":null}]}"#);
        assert_eq!(caller.get::<Named>("/b").await.unwrap().name, "b");
        caller.create("/", &json!({})).await.unwrap();
        let error = answering(200, r#"{"more":1}"#).get::<Named>("/b").await.err();
        assert!(matches!(error, Some(Error::SerdeError(_))), "{error:?}");
    }

    #[tokio::test]
    async fn a_refusal_is_the_status_of_the_response_or_its_text() {
        let status =
            r#"{"kind":"Status","code":409,"message":"it exists","reason":"AlreadyExists"}"#;
        let error = answering(409, status).create("/", &json!({})).await.unwrap_err();
        assert!(call::is_conflict(&error), "{error:?}");
        assert_eq!(call::describe(&error), "409 it exists");
        let error = answering(503, "busy\n").check("/b").await.unwrap_err();
        assert!(call::is_transient(&error), "{error:?}");
        assert_eq!(call::describe(&error), "503 busy");
    }

    /// Those of load balancers: HTML, JSON of other kinds, JSON with a code of its own, nothing.
    const BODIES: [&str; 6] = [
        "<html><body>Bad Gateway</body></html>",
        r#"{"error":"upstream"}"#,
        r#"{"code":"unavailable","message":"no healthy upstream"}"#,
        r#"{"kind":"Error","code":0}"#,
        "[]",
        "",
    ];

    #[tokio::test]
    async fn a_transient_code_is_transient_whatever_the_body_is() {
        for code in [429, 502, 503, 504] {
            for body in BODIES {
                let caller = answering(code, body);
                let error = caller.check("/b").await.unwrap_err();
                assert!(call::is_transient(&error), "{code} {body}: {error:?}");
                // kube's client makes its own error of the response.
                let request = Request::get("/b").body(Vec::new()).unwrap();
                let error =
                    caller.client().request::<serde_json::Value>(request).await.unwrap_err();
                assert!(call::is_transient(&error), "{code} {body}: {error:?}");
            }
        }
        for body in BODIES {
            let error = answering(404, body).check("/b").await.unwrap_err();
            assert!(call::is_gone(&error), "{body}: {error:?}");
        }
    }
}
