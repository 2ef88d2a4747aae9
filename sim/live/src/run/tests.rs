//! Runs on a provider whose platform fails.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use alertstorm_agent::names::Names;
use alertstorm_agent::vault::{Address, Vault, VaultError};
use alertstorm_agent::{postgres, trust};
use alertstorm_model::event::{Event, Fact};
use alertstorm_model::scenario::{FaultKind, NoFiles, Plan, load};
use alertstorm_platform::provider::{Program, Provider, ProviderError, Usage};
use alertstorm_platform::reach::{Dns, Reach};
use alertstorm_platform::{
    Agents, Identities, NodeTokens, Platform, PodSpec, Surroundings, Tokens, Trails,
};
use futures::future::BoxFuture;
use kube::Client;
use kube::client::Body;

use super::error::{RunError, TeardownError};
use super::teardown::Made;

/// A kept platform whose API server accepts everything, and whose Vault is down.
#[derive(Clone, Default)]
struct NoVault {
    /// Method and path of every request to the API server.
    requests: Arc<Mutex<Vec<String>>>,
    /// Where a Vault answers as long as the run is prepared, which then has nothing to set up, and whose
    /// agents run in pods.
    prepared_at: Option<String>,
}

/// A Vault that answers what a run reads while it is prepared (an auth mount and four roles), and then
/// closes its port; its address.
fn vault_until_prepared() -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for _ in 0..5 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = BufReader::new(&stream).lines();
            while head.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            let body = r#"{"request_id": "", "lease_id": "", "renewable": false,
                "lease_duration": 0, "data": {}, "wrap_info": null, "warnings": null, "auth": null}"#;
            let answer = format!(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    format!("http://{address}")
}

impl NoVault {
    fn client(&self) -> Client {
        let requests = Arc::clone(&self.requests);
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let line = format!("{} {}", request.method(), request.uri().path());
            requests.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            let status = "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"status\":\"Success\"}";
            async move {
                Ok::<_, std::io::Error>(http::Response::new(Body::from(status.as_bytes().to_vec())))
            }
        });
        Client::new(service, "default")
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn done<'a>() -> BoxFuture<'a, Result<(), ProviderError>> {
    Box::pin(async { Ok(()) })
}

impl Provider for NoVault {
    fn platform(&self) -> Result<Platform, ProviderError> {
        let token = || "token".to_owned();
        let postgres = postgres::Address::plain(([127, 0, 0, 1], 5432).into());
        let url = "http://127.0.0.1:8200".to_owned();
        let tls = trust::only("").unwrap();
        let pods = PodSpec {
            image: "agent".to_owned(),
            vault: url.clone(),
            vault_ca: String::new(),
            vault_namespace: None,
            postgres: postgres.clone(),
            reach: Reach {
                api_server: Vec::new(),
                vault: Vec::new(),
                postgres: Vec::new(),
                dns: Dns::None,
            },
        };
        let nodes = NodeTokens { kubelets: vec![token()], kwok: token() };
        Ok(Platform {
            provider: "fake",
            names: Names::of_run(&"a1".parse().unwrap()),
            is_prepared: self.prepared_at.is_some(),
            api_server: "https://127.0.0.1:6443".to_owned(),
            ca: String::new(),
            admin: self.client(),
            identities: Identities::Users(Tokens {
                backend: token(),
                scraper: token(),
                vault: token(),
            }),
            agents: match self.prepared_at.is_some() {
                true => Agents::Pods(Box::new(pods)),
                false => Agents::Hollow(nodes),
            },
            vault: Address { url, namespace: None, tls },
            around: Surroundings {
                api_server: String::new(),
                api_server_ca: String::new(),
                accounts_key: String::new(),
                issuer: String::new(),
                postgres: postgres.clone(),
                postgres_user: (String::new(), String::new()),
                audit: None,
            },
            postgres,
            trails: Trails::default(),
            metrics: Vec::new(),
            remarks: Vec::new(),
        })
    }

    fn can(&self, _: FaultKind) -> bool {
        true
    }

    fn vault(&self) -> Result<Vault, VaultError> {
        let Some(url) = self.prepared_at.clone() else {
            return Err(VaultError::Unavailable("it is down".to_owned()));
        };
        Vault::new(&Address { url, namespace: None, tls: trust::only("").unwrap() }, None, "")
    }

    fn generation(&self) -> u64 {
        1
    }

    fn vault_ready(&self) -> BoxFuture<'_, Result<(), ProviderError>> {
        done()
    }

    fn usage(&self) -> BoxFuture<'_, BTreeMap<Program, Usage>> {
        Box::pin(async { BTreeMap::new() })
    }

    fn outage(&self, _: Program, _: bool) -> BoxFuture<'_, Result<(), ProviderError>> {
        done()
    }

    fn deaths(&self) -> Vec<Program> {
        Vec::new()
    }

    fn power(&self, _: u32, _: bool) -> BoxFuture<'_, Result<(), ProviderError>> {
        done()
    }

    fn settle_trails(&self) -> BoxFuture<'_, Result<(), ProviderError>> {
        done()
    }

    fn is_kept(&self) -> bool {
        true
    }

    fn end(&self) -> BoxFuture<'_, Result<(), ProviderError>> {
        done()
    }
}

fn plan() -> Plan {
    let plan = load("alerts: [{flood: 1}]", "plan", &[], &NoFiles);
    plan.unwrap_or_else(|problems| panic!("{problems:?}"))
}

#[tokio::test]
async fn a_preparation_that_fails_ends_the_run_with_its_error() {
    let provider = NoVault::default();
    let mut events: Vec<Event> = Vec::new();
    let mut go_on = |_| ControlFlow::Continue(());
    let of = Arc::new(provider.clone());
    let ran = super::run(&plan(), of, None, &mut events, &|_| {}, &mut go_on).await;
    assert!(matches!(ran, Err(RunError::Vault(_))), "{ran:?}");
    let created = "POST /api/v1/namespaces/alertstorm-a1/configmaps".to_owned();
    assert!(provider.requests().contains(&created), "{:?}", provider.requests());
}

#[tokio::test]
async fn a_run_is_invalid_with_the_reason_if_the_servers_records_cannot_be_read() {
    let prepared_at = Some(vault_until_prepared());
    let provider = NoVault { prepared_at, ..NoVault::default() };
    let text = "alerts: [{flood: 1}]\nlimits: {run_for: 100ms}";
    let plan = load(text, "plan", &[], &NoFiles).unwrap_or_else(|wrong| panic!("{wrong:?}"));
    let mut events: Vec<Event> = Vec::new();
    let mut go_on = |_| ControlFlow::Continue(());
    let ran = super::run(&plan, Arc::new(provider), None, &mut events, &|_| {}, &mut go_on).await;
    ran.expect("what was measured is reported");
    let is_reason = |event: &Event| match &event.fact {
        Fact::Invalid { why } => why.contains("records could not be read"),
        _ => false,
    };
    assert!(events.iter().any(is_reason), "{events:?}");
}

#[tokio::test]
async fn a_panic_of_the_run_is_torn_down_and_becomes_its_error() {
    let provider = NoVault::default();
    let mut events: Vec<Event> = Vec::new();
    let mut go_on = |_| ControlFlow::Continue(());
    let first = AtomicBool::new(true);
    let progress = |_: &str| assert!(!first.swap(false, Ordering::SeqCst), "of the test");
    let of = Arc::new(provider.clone());
    let ran = super::run(&plan(), of, None, &mut events, &progress, &mut go_on).await;
    let error = ran.expect_err("the run panicked");
    assert!(matches!(error.first(), RunError::Panicked), "{error:?}");
}

#[tokio::test]
async fn a_step_of_the_teardown_runs_even_if_another_step_fails() {
    let provider = NoVault::default();
    let mut made = Made::new(Arc::new(plan()), Arc::new(provider.clone()));
    made.admin = Some(provider.client());
    made.hollow_nodes = 2;
    // The answer to the request for their Job is not a Job.
    made.sharded = true;
    made.tasks.spawn(std::future::pending());
    let left = made.teardown(&|_| {}).await;
    assert!(matches!(left[..], [TeardownError::Shards(_)]), "{left:?}");
    let nodes = [0, 1].map(|n| format!("DELETE /api/v1/nodes/node-000{n}"));
    assert_eq!(provider.requests()[1..], nodes);
}
