//! The secrets of a kept platform, and a token of a real API server that is renewed while its connection
//! stays open.

use std::time::SystemTime;

use alertstorm_model::scenario::{self, NoFiles};
use http::Request;
use serde_json::json;

use super::*;
use crate::bearer::Bearer;
use crate::bootstrap::{self, Own};
use crate::connection::Lanes;
use crate::manifests::{namespace, service_account};
use crate::provider::Provider;

#[test]
fn the_secrets_of_a_kept_platform_are_found_and_no_debug_output_contains_one() {
    let folder = std::env::temp_dir().join(format!("alertstorm-{}", secret::name()));
    let private = folder.join("private");
    std::fs::create_dir_all(&private).expect("a folder");
    ca::Certificates::make(&private).expect("certificates");
    let secrets = Secrets::random(2);
    let unsealed = Unsealed { key: "the-key".to_owned(), root: "the-root".to_owned() };
    let ports = Ports::free().expect("ports");
    let kept = Kept { secrets: secrets.clone(), unsealed, ports };
    let text = serde_json::to_vec(&kept).expect("JSON");
    state::write_private(&private.join("kept.json"), &text).expect("written");
    let found = secrets_of_kept(&folder);
    std::fs::remove_dir_all(&folder).expect("removed");
    let found = found.expect("read");
    for secret in ["the-key", "the-root", &secrets.admin, &secrets.nodes[1]] {
        assert!(found.iter().any(|one| one == secret), "{secret} is missing");
    }
    // Three private keys of several lines each.
    assert!(found.len() >= secrets.all().len() + 2 + 6, "{} secrets", found.len());
    let text = format!("{secrets:?}");
    assert!(found.iter().all(|secret| !text.contains(secret.as_str())), "{text}");
}

/// The least that kube-apiserver grants.
const TEN_MINUTES: i64 = 600;

/// The user and the token's id (`jti`), as the API server authenticates the request.
async fn who_am_i(client: &kube::Client) -> (String, String) {
    let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let request = Request::post("/apis/authentication.k8s.io/v1/selfsubjectreviews")
        .header("Content-Type", "application/json")
        .body(body.to_string().into_bytes())
        .unwrap();
    let answer: Value = client.request(request).await.unwrap();
    let user = &answer["status"]["userInfo"];
    let id = &user["extra"]["authentication.kubernetes.io/credential-id"][0];
    (user["username"].to_string(), id.to_string())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the servers of `alertstorm setup local`"]
async fn a_renewed_token_is_used_by_the_next_request_of_the_same_client() {
    let plan = scenario::load("alerts: [{flood: 1}]", "test", &[], &NoFiles).unwrap();
    let local = Local::start(plan.scenario(), false, &|_: &str| {}).await;
    let local = local.unwrap_or_else(|error| panic!("{error}"));
    let platform = local.platform().unwrap();
    let (admin, names) = (&platform.admin, &platform.names);
    for object in [namespace(names.namespace()), service_account("alertstorm-backend")] {
        bootstrap::create_one(admin, object, names).await.unwrap();
    }
    let first = bootstrap::issue(admin, "backend", names, TEN_MINUTES).await.unwrap();
    assert_eq!(first.validity.life, Duration::from_secs(600));
    let due = first.validity.renew_after(SystemTime::now(), 0.0);
    assert!(due <= Duration::from_secs(480) && due > Duration::from_secs(400), "{due:?}");

    let tls = trust::only(&platform.ca).unwrap();
    let lanes = Lanes::new("test", &platform.api_server, &tls, 1).unwrap();
    let bearer = Bearer::new(&first.token).unwrap();
    let client = lanes.client_of("backend", &bearer, names.namespace());
    let before = who_am_i(&client).await;
    assert!(before.0.contains("alertstorm-backend"), "{before:?}");
    let second = bootstrap::renew(admin, Own::Backend, names).await.unwrap();
    bearer.replace(&second.token).unwrap();
    let after = who_am_i(&client).await;
    assert_eq!(before.0, after.0);
    assert_ne!(before.1, after.1, "the request has the new token");
    local.end().await.unwrap();
}
