//! A client of Vault on top of vaultrs. It keeps the lease of a response, which vaultrs drops, and
//! distinguishes the three kinds of failure that an agent handles differently.

use std::net::IpAddr;
use std::time::Duration;

use rustify::Endpoint;
use rustify::enums::{RequestMethod, RequestType, ResponseType};
use rustify::errors::ClientError as RestError;
use serde_json::Value;
use vaultrs::api::{EndpointMiddleware as Middle, EndpointResult};
use vaultrs::client::{VaultClient, VaultClientSettingsBuilder};

/// A request that takes longer has failed as [`VaultError::Unavailable`].
const TIMEOUT: Duration = Duration::from_secs(30);

/// Why a request failed. No variant contains a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// No answer, 429 or 5xx: Vault is down, sealed or overloaded. A retry may succeed.
    #[error("vault is unavailable: {0}")]
    Unavailable(String),
    /// 403: the token's policy does not allow the request, or the token was revoked or expired.
    #[error("vault denies permission (403)")]
    Denied,
    /// Any other status: a retry will not succeed.
    #[error("vault answered {code}: {message}")]
    Wrong {
        /// The HTTP status; 0 if the client could not be built.
        code: u16,
        /// Vault's list of errors, separated by semicolons.
        message: String,
    },
}

/// A response of Vault.
#[derive(Default)]
pub struct Answer {
    /// `data`; null if there is none.
    pub data: Value,
    /// `auth.client_token`: the token that a login creates.
    pub token: Option<Token>,
    /// Empty if the response has no lease.
    pub lease_id: String,
    /// The lease's time-to-live in seconds.
    pub lease_duration_s: u32,
    /// Whether the lease can be renewed.
    pub renewable: bool,
}

impl std::fmt::Debug for Answer {
    /// Without `data`, which may be a credential.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer")
            .field("token", &self.token)
            .field("lease_id", &self.lease_id)
            .field("lease_duration_s", &self.lease_duration_s)
            .field("renewable", &self.renewable)
            .finish_non_exhaustive()
    }
}

/// A Vault token. Its `Debug` output does not contain it.
#[derive(Clone)]
pub struct Token {
    /// The token itself.
    pub secret: String,
    /// Its accessor, with which it can be looked up and revoked, and not used.
    pub accessor: String,
    /// Its time-to-live in seconds.
    pub ttl_s: u64,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a token of {} s", self.ttl_s)
    }
}

/// How to connect to Vault.
#[derive(Clone, Debug)]
pub struct Address {
    /// Like `https://127.0.0.1:8200`.
    pub url: String,
    /// The namespace of every request, which Vault receives as `X-Vault-Namespace`; `None` for the
    /// root namespace.
    pub namespace: Option<String>,
    /// Trusts Vault's certificate authority and no other.
    pub tls: rustls::ClientConfig,
}

/// A client with one token.
pub struct Vault {
    client: VaultClient,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a client of Vault")
    }
}

impl Vault {
    /// Builds a client. `from` is the source address of its connections; `token` is empty before a
    /// login.
    ///
    /// # Errors
    /// If the HTTP client cannot be built.
    pub fn new(address: &Address, from: Option<IpAddr>, token: &str) -> Result<Self, VaultError> {
        let wrong = |message: String| VaultError::Wrong { code: 0, message };
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(address.tls.clone())
            .timeout(TIMEOUT)
            .tcp_nodelay(true)
            .local_address(from)
            .no_proxy()
            .build()
            .map_err(|error| wrong(error.to_string()))?;
        if let Some(namespace) = &address.namespace
            && http::HeaderValue::from_str(namespace).is_err()
        {
            return Err(wrong(format!("{namespace:?} is not the name of a Vault namespace")));
        }
        let settings = VaultClientSettingsBuilder::default()
            .address(&address.url)
            .token(token)
            .ca_certs(Vec::new())
            .identity(None)
            .verify(true)
            .build()
            .map_err(|error| wrong(error.to_string()))?;
        let middle = Middle {
            token: token.to_owned(),
            version: "v1".to_owned(),
            wrap: None,
            namespace: address.namespace.clone(),
        };
        let http = rustify::clients::reqwest::Client::new(&address.url, http);
        Ok(Self { client: VaultClient { http, middle, settings } })
    }

    /// Sends this token with every further request.
    pub fn set_token(&mut self, token: &str) {
        vaultrs::client::Client::set_token(&mut self.client, token);
    }

    /// Vault's metrics in Prometheus' text format.
    ///
    /// # Errors
    /// [`VaultError::Unavailable`] if Vault does not answer.
    pub async fn metrics(&self) -> Result<String, VaultError> {
        let url = format!("{}/v1/sys/metrics?format=prometheus", self.client.http.base);
        let Middle { token, namespace, .. } = &self.client.middle;
        let mut request = self.client.http.http.get(url).header("X-Vault-Token", token);
        if let Some(namespace) = namespace {
            request = request.header("X-Vault-Namespace", namespace);
        }
        let failed =
            |error: reqwest::Error| VaultError::Unavailable(error.without_url().to_string());
        request.send().await.map_err(failed)?.text().await.map_err(failed)
    }

    /// The client for vaultrs' own functions.
    pub const fn raw(&self) -> &VaultClient {
        &self.client
    }

    /// Reads a path.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn read(&self, path: &str) -> Result<Answer, VaultError> {
        self.ask(RequestMethod::GET, path, None).await
    }

    /// Lists the keys below a path; empty if there are none (404).
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn list(&self, path: &str) -> Result<Vec<String>, VaultError> {
        match self.ask(RequestMethod::LIST, path, None).await {
            Err(VaultError::Wrong { code: 404, .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
            Ok(answer) => {
                let keys = answer.data["keys"].as_array().into_iter().flatten();
                Ok(keys.filter_map(|key| key.as_str().map(str::to_owned)).collect())
            }
        }
    }

    /// Writes to a path.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn write(&self, path: &str, body: Value) -> Result<Answer, VaultError> {
        self.ask(RequestMethod::POST, path, Some(body)).await
    }

    /// Deletes a path. One that does not exist counts as deleted (400 and 404).
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn delete(&self, path: &str) -> Result<(), VaultError> {
        match self.ask(RequestMethod::DELETE, path, None).await {
            Err(VaultError::Wrong { code: 400 | 404, .. }) | Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn ask(
        &self,
        method: RequestMethod,
        path: &str,
        body: Option<Value>,
    ) -> Result<Answer, VaultError> {
        let request = Request { method, path, body };
        let sent = request.with_middleware(&self.client.middle).exec(&self.client.http).await;
        let answer = sent.map_err(failed).inspect_err(|error| {
            tracing::debug!(path, %error, "a request to Vault failed");
        })?;
        if answer.response.body().is_empty() {
            return Ok(Answer::default());
        }
        let parsed: EndpointResult<Value> = answer.wrap().map_err(|_| VaultError::Wrong {
            code: answer.response.status().as_u16(),
            message: "the response is not JSON as Vault sends it".to_owned(),
        })?;
        let token = parsed.auth.map(|auth| Token {
            secret: auth.client_token,
            accessor: auth.accessor,
            ttl_s: auth.lease_duration,
        });
        Ok(Answer {
            data: parsed.data.unwrap_or_default(),
            token,
            lease_id: parsed.lease_id,
            lease_duration_s: parsed.lease_duration,
            renewable: parsed.renewable,
        })
    }
}

/// Classifies a failure. Of the response's body only the list of errors is kept: the rest may hold a
/// secret.
fn failed(error: RestError) -> VaultError {
    match error {
        RestError::ServerResponseError { code: 403, .. } => VaultError::Denied,
        RestError::ServerResponseError { code, content } => {
            let parsed: Option<Value> = content.and_then(|text| serde_json::from_str(&text).ok());
            let errors = parsed.as_ref().and_then(|value| value["errors"].as_array());
            let errors: Vec<&str> =
                errors.into_iter().flatten().filter_map(Value::as_str).collect();
            let message = errors.join("; ").trim().to_owned();
            match code {
                429 | 500..=599 => VaultError::Unavailable(format!("{code} {message}")),
                _ => VaultError::Wrong { code, message },
            }
        }
        RestError::RequestError { source, .. } => {
            let root = source.chain().last().map(ToString::to_string);
            VaultError::Unavailable(root.unwrap_or_default())
        }
        other => VaultError::Unavailable(other.to_string()),
    }
}

/// A request to any path, for endpoints that vaultrs lacks or whose lease it drops.
struct Request<'a> {
    method: RequestMethod,
    path: &'a str,
    body: Option<Value>,
}

impl Endpoint for Request<'_> {
    type Response = Value;
    const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
    const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;

    fn path(&self) -> String {
        self.path.split_once('?').map_or(self.path, |(path, _)| path).to_owned()
    }

    /// What follows a `?` in `path`; within a path it would be escaped.
    fn query(&self) -> Result<Option<String>, RestError> {
        Ok(self.path.split_once('?').map(|(_, query)| query.to_owned()))
    }

    fn method(&self) -> RequestMethod {
        self.method.clone()
    }

    fn body(&self) -> Result<Option<Vec<u8>>, RestError> {
        let bytes = self.body.as_ref().map(serde_json::to_vec).transpose();
        bytes.map_err(|error| RestError::DataParseError { source: error.into() })
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn the_query_of_a_path_is_not_escaped() {
        let path = "sys/leases?type=irrevocable&limit=none";
        let request = Request { method: RequestMethod::GET, path, body: None };
        assert_eq!(request.path(), "sys/leases");
        assert_eq!(
            request.query().expect("a query").as_deref(),
            Some("type=irrevocable&limit=none")
        );
        let plain = Request { method: RequestMethod::GET, path: "sys/leases", body: None };
        assert_eq!(plain.query().expect("no query"), None);
    }

    /// The first request that `ask` sends, as text.
    async fn sent<F: Future>(namespace: Option<&str>, ask: impl FnOnce(Vault) -> F) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let namespace = namespace.map(str::to_owned);
        let address = Address { url, namespace, tls: crate::trust::only("").unwrap() };
        let vault = Vault::new(&address, None, "a-token").unwrap();
        let received = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut text, mut part) = (String::new(), [0; 4096]);
            while !text.contains("\r\n\r\n") {
                let read = stream.read(&mut part).await.unwrap();
                text.push_str(&String::from_utf8_lossy(&part[..read]));
            }
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            text.to_lowercase()
        };
        tokio::join!(received, ask(vault)).0
    }

    #[tokio::test]
    async fn every_request_names_the_namespace_of_the_address() {
        let read = async |vault: Vault| vault.read("sys/mounts").await.map(drop);
        let metrics = async |vault: Vault| vault.metrics().await.map(drop);
        for text in [sent(Some("teams/a"), read).await, sent(Some("teams/a"), metrics).await] {
            assert!(text.contains("x-vault-namespace: teams/a\r\n"), "{text}");
        }
        let none = sent(None, read).await;
        assert!(!none.contains("x-vault-namespace"), "{none}");
    }

    #[test]
    fn a_namespace_that_is_no_header_value_is_refused() {
        let tls = crate::trust::only("").unwrap();
        let namespace = Some("a\r\nX-Vault-Token: b".to_owned());
        let address = Address { url: "https://127.0.0.1".to_owned(), namespace, tls };
        assert!(matches!(Vault::new(&address, None, ""), Err(VaultError::Wrong { code: 0, .. })));
    }

    #[test]
    fn debug_output_contains_no_secret() {
        let answer = Answer {
            data: serde_json::json!({"password": "a-secret-of-the-test"}),
            token: Some(Token {
                secret: "a-secret-of-the-test".to_owned(),
                accessor: "a".to_owned(),
                ttl_s: 60,
            }),
            lease_id: "database/creds/reader/1".to_owned(),
            ..Answer::default()
        };
        let text = format!("{answer:?}");
        assert!(!text.contains("a-secret-of-the-test"), "{text}");
        assert!(text.contains("database/creds/reader/1"), "{text}");
    }
}
