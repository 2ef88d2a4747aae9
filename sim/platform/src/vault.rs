//! Configures Vault for a run: audit device, auth method, secrets engines, and a policy and a login
//! role for each domain. Each write is idempotent, so it can be repeated.

use alertstorm_agent::names::{
    self, SYSTEMS, credential_path, credential_role, login_mount, method, mount, role, system_path,
};
use alertstorm_agent::vault::{Vault, VaultError};
use alertstorm_model::investigation::{Domain, IdentityKind};
use alertstorm_model::phase::{Action, Phase, Verb};
use alertstorm_model::scenario::Scenario;
use alertstorm_model::scenario::knobs::{self, AuthMethod, Engine};
use alertstorm_model::time::Span;
use serde_json::{Value, json};

use crate::identity;
use crate::platform::{NAMESPACE, Surroundings};

/// The HCL policy of an agent on `home` in `phase`, from the table of [`Phase`].
pub fn policy(scenario: &Scenario, phase: Phase, home: Domain) -> String {
    let mut text = String::new();
    let mut grant = |path: &str, capabilities: &str| {
        text.push_str(&format!("path \"{path}\" {{ capabilities = [{capabilities}] }}\n"));
    };
    for own in ["auth/token/lookup-self", "auth/token/renew-self", "auth/token/revoke-self"] {
        let what = if own.ends_with("lookup-self") { "\"read\"" } else { "\"update\"" };
        grant(own, what);
    }
    grant("sys/leases/renew", "\"update\"");
    for &target in Domain::ALL {
        if phase.grants_credential(home, target) {
            let engine = scenario.vault.secrets.of(target);
            for config in 0..engine.configs.get() {
                let role = credential_role(phase, home, target, config);
                let capability = match engine.engine {
                    Engine::Postgresql | Engine::Kv => "\"read\"",
                    Engine::Pki | Engine::Kubernetes => "\"update\"",
                };
                grant(&credential_path(engine.engine, target, &role), capability);
            }
        }
        if !matches!(target, Domain::Network | Domain::Security) {
            continue;
        }
        for &verb in Verb::ALL {
            let action = Action { verb, target };
            if phase.allows(home, action) {
                let capability = if verb.writes() { "\"create\", \"update\"" } else { "\"read\"" };
                grant(&system_path(action), capability);
            }
        }
    }
    text
}

fn seconds(span: Span) -> String {
    format!("{}s", span.0.div_ceil(1_000_000_000))
}

/// Writes the whole configuration.
///
/// # Errors
/// The first request that fails.
pub async fn configure(
    vault: &Vault,
    scenario: &Scenario,
    around: &Surroundings,
    reviewer: &str,
) -> Result<(), VaultError> {
    tracing::info!(phase = ?scenario.phase, auth = ?scenario.vault.auth, "configuring Vault");
    if let Some(path) = &around.audit {
        tracing::debug!(path, "enabling Vault's audit device");
        let audit = json!({"type": "file", "options": {"file_path": path, "mode": "0600"}});
        once(vault.write("sys/audit/file", audit).await)?;
    }
    tracing::debug!("configuring the login method");
    login_method(vault, scenario, around, reviewer).await?;
    systems(vault).await?;
    for &domain in Domain::ALL {
        tracing::debug!(%domain, "configuring the secrets engine");
        engine(vault, scenario, around, reviewer, domain).await?;
    }
    for &home in Domain::ALL {
        let name = role(scenario.phase, home);
        tracing::debug!(name, "writing the policy and the role");
        let text = policy(scenario, scenario.phase, home);
        vault
            .write(
                &format!("sys/policies/acl/{}", names::policy(scenario.phase, home)),
                json!({"policy": text}),
            )
            .await?;
        let body = login_role(&scenario.vault, scenario.identity, scenario.phase, home, NAMESPACE);
        let path = format!("auth/{}/role/{name}", login_mount(scenario.vault.auth));
        vault.write(&path, body).await?;
    }
    Ok(())
}

/// The result of enabling something at a path; an existing mount counts as success.
fn once<T: Default>(done: Result<T, VaultError>) -> Result<T, VaultError> {
    match done {
        Err(VaultError::Wrong { code: 400, message })
            if message.contains("already in use") || message.contains("existing mount") =>
        {
            Ok(T::default())
        }
        done => done,
    }
}

async fn login_method(
    vault: &Vault,
    scenario: &Scenario,
    around: &Surroundings,
    reviewer: &str,
) -> Result<(), VaultError> {
    let (name, mount) = (method(scenario.vault.auth), login_mount(scenario.vault.auth));
    once(vault.write(&format!("sys/auth/{mount}"), json!({"type": name})).await)?;
    let config = match scenario.vault.auth {
        AuthMethod::Kubernetes => json!({
            "kubernetes_host": around.api_server,
            "kubernetes_ca_cert": around.api_server_ca,
            "token_reviewer_jwt": reviewer,
            "disable_local_ca_jwt": true,
        }),
        AuthMethod::Jwt => json!({
            "jwt_validation_pubkeys": [around.accounts_key],
            "bound_issuer": around.issuer,
        }),
    };
    vault.write(&format!("auth/{mount}/config"), config).await?;
    Ok(())
}

/// The login role of agents on `home` in `phase`: the bound ServiceAccounts, and the policy and TTL
/// of its tokens.
pub fn login_role(
    knobs: &knobs::Vault,
    identity: IdentityKind,
    phase: Phase,
    home: Domain,
    namespace: &str,
) -> Value {
    let accounts = identity::accounts_of(identity, phase, home);
    let ttl = seconds(knobs.token_ttl);
    let mut body = json!({
        "token_policies": [names::policy(phase, home)],
        "token_no_default_policy": true,
        "token_ttl": ttl,
        "token_max_ttl": ttl,
        "token_type": "service",
    });
    let own = match knobs.auth {
        AuthMethod::Kubernetes => json!({
            "bound_service_account_names": [accounts],
            "bound_service_account_namespaces": [namespace],
            "audience": "vault",
            "alias_name_source": "serviceaccount_name",
        }),
        AuthMethod::Jwt => json!({
            "role_type": "jwt",
            "bound_audiences": ["vault"],
            "bound_claims_type": "glob",
            "bound_claims": {"sub": format!("system:serviceaccount:{namespace}:{accounts}")},
            "user_claim": "sub",
            "claim_mappings": {
                "/kubernetes.io/serviceaccount/name": "service_account_name",
                "/kubernetes.io/pod/name": "pod_name",
            },
        }),
    };
    merge(&mut body, own);
    body
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}

/// The key-value store that stands for the systems of the domains `network` and `security`.
async fn systems(vault: &Vault) -> Result<(), VaultError> {
    let mount = json!({"type": "kv", "options": {"version": "1"}});
    once(vault.write(&format!("sys/mounts/{SYSTEMS}"), mount).await)?;
    for target in [Domain::Network, Domain::Security] {
        let action = Action { verb: Verb::Read, target };
        vault.write(&system_path(action), json!({"state": "up"})).await?;
    }
    Ok(())
}

/// The secrets engine of a domain, with the roles of the run's phase.
async fn engine(
    vault: &Vault,
    scenario: &Scenario,
    around: &Surroundings,
    reviewer: &str,
    domain: Domain,
) -> Result<(), VaultError> {
    let phase = scenario.phase;
    let knobs = scenario.vault.secrets.of(domain);
    let (ttl, max_ttl) = (seconds(knobs.ttl), seconds(knobs.max_ttl));
    let kind = match knobs.engine {
        // With the user name in clear text, PostgreSQL's log can be joined with Vault's audit log.
        Engine::Postgresql => {
            json!({"type": "database", "config": {"audit_non_hmac_response_keys": ["username"]}})
        }
        Engine::Pki => json!({"type": "pki", "config": {
            "max_lease_ttl": max_ttl,
            "audit_non_hmac_response_keys": ["serial_number"],
        }}),
        Engine::Kv => json!({"type": "kv", "options": {"version": "1"}}),
        Engine::Kubernetes => json!({"type": "kubernetes"}),
    };
    let at = mount(domain);
    once(vault.write(&format!("sys/mounts/{at}"), kind).await)?;
    if knobs.engine == Engine::Pki {
        let root = json!({"common_name": "alertstorm local", "key_type": "ec", "ttl": max_ttl});
        if vault.list(&format!("{at}/issuers")).await?.is_empty() {
            vault.write(&format!("{at}/root/generate/internal"), root).await?;
        }
    }
    if knobs.engine == Engine::Kubernetes {
        let config = json!({
            "kubernetes_host": around.api_server,
            "kubernetes_ca_cert": around.api_server_ca,
            "service_account_jwt": reviewer,
            "disable_local_ca_jwt": true,
        });
        vault.write(&format!("{at}/config"), config).await?;
    }
    for config in 0..knobs.configs.get() {
        if knobs.engine == Engine::Postgresql {
            database(vault, around, domain, config).await?;
        }
        for home in [domain, other(domain)] {
            let name = credential_role(phase, home, domain, config);
            let (path, body) = match knobs.engine {
                Engine::Postgresql => (
                    format!("{at}/roles/{name}"),
                    json!({
                        "db_name": format!("config-{config}"),
                        "creation_statements": [creation(phase, home, domain)],
                        "revocation_statements": [include_str!(
                            "../../../kind-config/postgres/revoke.sql"
                        ).trim()],
                        "default_ttl": ttl,
                        "max_ttl": max_ttl,
                    }),
                ),
                Engine::Pki => (
                    format!("{at}/roles/{name}"),
                    // A lease for each certificate; RSA 2048 is what agents request by default.
                    json!({"allow_any_name": true, "generate_lease": true, "ttl": ttl,
                           "max_ttl": max_ttl, "key_type": "rsa", "key_bits": 2048}),
                ),
                Engine::Kubernetes => (
                    format!("{at}/roles/{name}"),
                    json!({
                        "allowed_kubernetes_namespaces": [NAMESPACE],
                        "service_account_name": identity::evidence_account(phase, domain),
                        "token_default_ttl": ttl,
                        "token_max_ttl": max_ttl,
                    }),
                ),
                Engine::Kv => (format!("{at}/{name}"), json!({"endpoint": "https://127.0.0.1"})),
            };
            vault.write(&path, body).await?;
        }
    }
    Ok(())
}

/// Another domain: the next one in order.
fn other(domain: Domain) -> Domain {
    Domain::ALL[(domain.index() + 1) % Domain::COUNT]
}

/// The statements that create a user in PostgreSQL, as a member of the groups that the phase
/// grants.
fn creation(phase: Phase, home: Domain, target: Domain) -> String {
    let granted = Verb::ALL.iter().filter(|&&verb| phase.allows(home, Action { verb, target }));
    let groups: Vec<&str> = granted.map(|verb| crate::postgres::group(*verb)).collect();
    let member =
        if groups.is_empty() { String::new() } else { format!(" IN ROLE {}", groups.join(", ")) };
    include_str!("../../../kind-config/postgres/create.sql").trim().replace("{{member}}", &member)
}

async fn database(
    vault: &Vault,
    around: &Surroundings,
    domain: Domain,
    config: u32,
) -> Result<(), VaultError> {
    let (user, password) = &around.postgres_user;
    let url = format!(
        "postgresql://{{{{username}}}}:{{{{password}}}}@{}/postgres?sslmode=disable",
        around.postgres
    );
    let body = json!({
        "plugin_name": "postgresql-database-plugin",
        "allowed_roles": ["*"],
        "connection_url": url,
        "username": user,
        "password": password,
        "password_authentication": "scram-sha-256",
        "max_open_connections": 4,
        "max_connection_lifetime": "0s",
    });
    vault.write(&format!("{}/config/config-{config}", mount(domain)), body).await?;
    Ok(())
}
