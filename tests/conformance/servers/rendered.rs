//! What `alertstorm render` writes, applied to fresh servers as an administrator does: a run on them
//! creates nothing but its Jobs.

use std::ops::ControlFlow;
use std::sync::Arc;

use alertstorm_agent::names::Names;
use alertstorm_agent::postgres::{Address, Login, connect};
use alertstorm_model::event::Event;
use alertstorm_model::scenario::Plan;
use alertstorm_platform::provider::Provider;
use alertstorm_platform::provider::local::Local;
use alertstorm_platform::reach::Reach;
use alertstorm_platform::{Identities, Platform, bootstrap, objects, render};
use serde_json::Value;

use super::altered::Altered;
use super::runtime;
use crate::arm::Ran;
use crate::{common, promises};

/// Replaces the placeholders in every text of a value, as `envsubst` does in its file.
fn replace(value: &mut Value, known: &[(&str, String)]) {
    match value {
        Value::String(text) => {
            for (name, with) in known {
                *text = text.replace(name, with);
            }
        }
        Value::Array(all) => all.iter_mut().for_each(|one| replace(one, known)),
        Value::Object(all) => all.values_mut().for_each(|one| replace(one, known)),
        _ => {}
    }
}

/// Applies the rendered set for the plan's phase in the environment `staging`.
async fn apply(plan: &Plan, local: &Local) -> Platform {
    let (scenario, phase) = (plan.scenario(), plan.scenario().phase);
    let environments = render::environments().expect("the environments");
    let (staging, limits) =
        environments.iter().find(|(name, _)| name.to_string() == "staging").expect("staging");
    let names = Names::of_environment(staging, phase);
    let mut platform = local.platform().expect("a platform");
    for object in render::objects(scenario, phase, staging, *limits, &Reach::default()) {
        let (kind, _) = objects::kind_and_name(&object);
        let path = objects::collection(kind, names.namespace());
        let done = objects::post(&platform.admin, &path, &object).await;
        done.unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    let reviewer = bootstrap::token(&platform.admin, "vault", &names).await.expect("a token");
    let (to, user, admin_password) = local.postgres_admin();
    let address = Address::plain(to);
    let around = &platform.around;
    let known = [
        ("${KUBERNETES_HOST}", around.api_server.clone()),
        ("${KUBERNETES_CA}", around.api_server_ca.clone()),
        ("${KUBERNETES_ISSUER}", around.issuer.clone()),
        ("${KUBERNETES_ACCOUNTS_KEY}", around.accounts_key.clone()),
        ("${VAULT_REVIEWER_JWT}", reviewer),
        ("${POSTGRES_ADDRESS}", to.to_string()),
        ("${POSTGRES_CA}", platform.ca.clone()),
        ("${POSTGRES_VAULT_PASSWORD}", "of-vault".to_owned()),
    ];
    assert!(
        known.iter().map(|(name, _)| name).eq(render::PLACEHOLDERS.iter().map(|(name, _)| name))
    );
    let database = names.database();
    for ((_, text), database) in
        render::postgres_files(phase, staging).iter().zip(["postgres", database.as_str()])
    {
        let mut text = Value::from(text.as_str());
        replace(&mut text, &known);
        let (user, password) = (user.as_str(), Some(admin_password.as_str()));
        let login = Login { to: &address, from: None, user, password, database };
        let client = connect(login).await;
        let client = client.expect("a login");
        let text = text.as_str().expect("a text");
        // Like psql: a database cannot be created together with others.
        let apart = if database == "postgres" { text.split(";\n").collect() } else { vec![text] };
        for statement in apart {
            client.batch_execute(statement).await.expect(statement);
        }
    }
    let vault = local.vault().expect("a client");
    for (path, mut body) in render::vault_writes(scenario, phase, staging).expect("writes") {
        replace(&mut body, &known);
        vault.write(&path, body).await.unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    let audit = serde_json::json!({"type": "file", "options": {
        "file_path": platform.around.audit, "mode": "0600", "hmac_accessor": "false",
    }});
    vault.write("sys/audit/file", audit).await.expect("an audit device");
    platform.names = names;
    platform.identities = Identities::Accounts;
    platform.is_prepared = true;
    platform
}

fn runs_with_the_rendered_set(text: &str, set: &[(&str, &str)]) -> Ran {
    let plan = common::plan(text, set);
    let mut events: Vec<Event> = Vec::new();
    runtime().block_on(async {
        let local = Local::start(plan.scenario(), false, &|_: &str| {}).await;
        let local = local.unwrap_or_else(|error| panic!("{error}"));
        let platform = apply(&plan, &local).await;
        let provider = Arc::new(Altered { local, platform });
        let of = Arc::clone(&provider);
        let mut go_on = |_| ControlFlow::Continue(());
        let ran =
            alertstorm_live::run(&plan, of, None, &mut events, &|_: &str| {}, &mut go_on).await;
        provider.end().await.expect("the platform ends");
        ran.unwrap_or_else(|error| panic!("{error:?}"));
    });
    Ran::of(plan, events)
}

/// Every engine, and Vault's Kubernetes auth: what the phase forbids is refused, and every lease is in
/// the ledger, as on a platform that the run configured.
#[test]
#[ignore = "needs the servers of `alertstorm setup local`"]
fn a_run_works_with_the_rendered_set_and_an_identity_per_investigation() {
    let engines = "{network: {engine: pki, ttl: 20s}, database: {engine: postgresql, ttl: 20s}, \
                   application: {engine: kubernetes, ttl: 600s}, security: {engine: kv}}";
    let set = [("identity", "per-investigation"), ("vault.secrets", engines)];
    let ran = runs_with_the_rendered_set(promises::BUSY, &set);
    promises::accounts_for_all(&ran);
    assert!(ran.measures.leases().issued > 0);
}

#[test]
#[ignore = "needs the servers of `alertstorm setup local`"]
fn a_run_works_with_the_rendered_set_and_shared_identities() {
    let ran = runs_with_the_rendered_set(promises::BUSY, &[("identity", "shared-agent")]);
    promises::accounts_for_all(&ran);
    assert!(ran.measures.leases().issued > 0);
}
