//! Configures Vault for a run: audit device, auth method, secrets engines, and a policy and a login
//! role for each domain. Each write is idempotent, so it can be repeated.

use std::sync::{Mutex, PoisonError};

use alertstorm_agent::names::{Names, certificate_domain, credential_role, method, role};
use alertstorm_agent::postgres::Address;
use alertstorm_agent::vault::{Vault, VaultError};
use alertstorm_model::investigation::{Domain, IdentityKind};
use alertstorm_model::phase::{Action, Phase, Verb};
use alertstorm_model::scenario::Scenario;
use alertstorm_model::scenario::knobs::{self, AuthMethod, Engine};
use alertstorm_model::time::Span;
use futures::FutureExt;
use serde_json::{Value, json};

use crate::identity;
use crate::platform::Surroundings;

/// The HCL policy of an agent on `home` in `phase`, from the table of [`Phase`]. Its first line marks
/// it as the owner's.
pub fn policy(scenario: &Scenario, phase: Phase, home: Domain, names: &Names) -> String {
    let mut text = format!("# {}\n", names.marker());
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
                grant(&names.credential_path(engine.engine, target, &role), capability);
            }
        }
        if !matches!(target, Domain::Network | Domain::Security) {
            continue;
        }
        for &verb in Verb::ALL {
            let action = Action { verb, target };
            if phase.allows(home, action) {
                let capability = if verb.writes() { "\"create\", \"update\"" } else { "\"read\"" };
                grant(&names.system_path(action), capability);
            }
        }
    }
    text
}

fn seconds(span: Span) -> String {
    format!("{}s", span.0.div_ceil(1_000_000_000))
}

/// Where the configuration is written: a server, or a list for `alertstorm render`.
enum To<'a> {
    Server(&'a Vault),
    List(Mutex<Vec<(String, Value)>>),
}

impl To<'_> {
    async fn write(&self, path: &str, body: Value) -> Result<(), VaultError> {
        match self {
            Self::Server(vault) => vault.write(path, body).await.map(drop),
            Self::List(list) => {
                let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
                list.push((path.to_owned(), body));
                Ok(())
            }
        }
    }

    async fn list(&self, path: &str) -> Result<Vec<String>, VaultError> {
        match self {
            Self::Server(vault) => vault.list(path).await,
            Self::List(_) => Ok(Vec::new()),
        }
    }

    async fn policy_owner(&self, path: &str, names: &Names) -> Result<Owner, VaultError> {
        match self {
            Self::Server(vault) => policy_owner(vault, path, names).await,
            Self::List(_) => Ok(Owner::Nobody),
        }
    }
}

/// The whole configuration as the writes that [`configure`] makes: path and body, in their order.
///
/// # Errors
/// Never: nothing is sent.
pub fn listed(
    scenario: &Scenario,
    around: &Surroundings,
    reviewer: &str,
    names: &Names,
) -> Result<Vec<(String, Value)>, VaultError> {
    let to = To::List(Mutex::default());
    // A list is written at once, so nothing is pending.
    let written = write_all(&to, scenario, around, reviewer, names).now_or_never();
    written.unwrap_or(Ok(()))?;
    match to {
        To::List(list) => Ok(list.into_inner().unwrap_or_else(PoisonError::into_inner)),
        To::Server(_) => Ok(Vec::new()),
    }
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
    names: &Names,
) -> Result<(), VaultError> {
    write_all(&To::Server(vault), scenario, around, reviewer, names).await
}

async fn write_all(
    vault: &To<'_>,
    scenario: &Scenario,
    around: &Surroundings,
    reviewer: &str,
    names: &Names,
) -> Result<(), VaultError> {
    tracing::info!(phase = ?scenario.phase, auth = ?scenario.vault.auth, "configuring Vault");
    if let Some(path) = &around.audit {
        tracing::debug!(path, "enabling Vault's audit device");
        audit_device(vault, path).await?;
    }
    tracing::debug!("configuring the login method");
    login_method(vault, scenario, around, reviewer, names).await?;
    systems(vault, names).await?;
    for &domain in Domain::ALL {
        tracing::debug!(%domain, "configuring the secrets engine");
        engine(vault, scenario, around, reviewer, domain, names).await?;
    }
    for &home in Domain::ALL {
        let name = role(scenario.phase, home);
        tracing::debug!(name, "writing the policy and the role");
        let path = format!("sys/policies/acl/{}", names.policy(scenario.phase, home));
        let text = policy(scenario, scenario.phase, home, names);
        if vault.policy_owner(&path, names).await? == Owner::Other {
            return Err(foreign("policy", &path, names));
        }
        vault.write(&path, json!({"policy": text})).await?;
        let body = login_role(&scenario.vault, scenario.identity, scenario.phase, home, names);
        let path = format!("auth/{}/role/{name}", names.login_mount(scenario.vault.auth));
        vault.write(&path, body).await?;
    }
    Ok(())
}

/// Enables the audit device. Accessors are in clear text, so that the trail's tokens can be compared with
/// those of the run by name, looked up and revoked; with an accessor alone nobody can use a token.
async fn audit_device(vault: &To<'_>, path: &str) -> Result<(), VaultError> {
    const PATH: &str = "sys/audit/file";
    let options = json!({"file_path": path, "mode": "0600", "hmac_accessor": "false"});
    let device = json!({"type": "file", "options": options});
    match (vault.write(PATH, device.clone()).await, vault) {
        (Err(VaultError::Wrong { code: 400, message }), To::Server(server))
            if message.contains("already in use") =>
        {
            let devices = server.read("sys/audit").await?;
            // A platform that an earlier version of the program keeps.
            if devices.data["file/"]["options"]["hmac_accessor"] != "false" {
                server.delete(PATH).await?;
                server.write(PATH, device).await?;
            }
            Ok(())
        }
        (enabled, _) => enabled,
    }
}

/// The first login role of the run that issues batch tokens, if there is one. A batch token has no
/// accessor, so that nobody can look it up or revoke it.
///
/// # Errors
/// If a request fails.
pub async fn batch_role(
    vault: &Vault,
    scenario: &Scenario,
    names: &Names,
) -> Result<Option<String>, VaultError> {
    let at = names.login_mount(scenario.vault.auth);
    let mount = vault.read(&format!("sys/auth/{at}")).await?;
    for &home in Domain::ALL {
        let path = format!("auth/{at}/role/{}", role(scenario.phase, home));
        let login = vault.read(&path).await?;
        if issues_batch(&mount.data["config"]["token_type"], &login.data["token_type"]) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Whether logins return batch tokens, by the types of the mount and of the role: that of the mount is
/// either an order or a default (`RouteRequest` in vault/router.go v1.21.1).
fn issues_batch(mount: &Value, role: &Value) -> bool {
    match (mount.as_str().unwrap_or_default(), role.as_str().unwrap_or_default()) {
        ("batch", _) => true,
        ("service", _) => false,
        (_, "batch" | "default-batch") => true,
        (mount, role) => mount == "default-batch" && matches!(role, "" | "default"),
    }
}

/// Who owns an object in Vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// There is no such object.
    Nobody,
    /// The run: the object carries its marker.
    Run,
    /// Somebody else.
    Other,
}

/// The owner of a mount (`sys/mounts/…`) or an auth method (`sys/auth/…`), by its description.
///
/// # Errors
/// If the request fails.
pub async fn mount_owner(vault: &Vault, path: &str, names: &Names) -> Result<Owner, VaultError> {
    match vault.read(path).await {
        // Vault answers 400 for a path where nothing is mounted.
        Err(VaultError::Wrong { code: 400 | 404, .. }) => Ok(Owner::Nobody),
        Err(error) => Err(error),
        Ok(answer) if answer.data["description"] == names.marker() => Ok(Owner::Run),
        Ok(_) => Ok(Owner::Other),
    }
}

/// The owner of a policy (`sys/policies/acl/…`), by its first line.
///
/// # Errors
/// If the request fails.
pub async fn policy_owner(vault: &Vault, path: &str, names: &Names) -> Result<Owner, VaultError> {
    let answer = match vault.read(path).await {
        Err(VaultError::Wrong { code: 404, .. }) => return Ok(Owner::Nobody),
        answer => answer?,
    };
    let first = answer.data["policy"].as_str().and_then(|text| text.lines().next());
    let ours = first.and_then(|line| line.strip_prefix("# ")).is_some_and(|m| m == names.marker());
    Ok(if ours { Owner::Run } else { Owner::Other })
}

fn foreign(what: &str, path: &str, names: &Names) -> VaultError {
    let marker = names.marker();
    let message =
        format!("the {what} {path} exists without the marker `{marker}`, so it is not changed");
    VaultError::Wrong { code: 400, message }
}

/// Mounts something with the run's marker; a mount that carries it counts as success.
async fn mount(
    vault: &To<'_>,
    path: &str,
    mut body: Value,
    names: &Names,
) -> Result<(), VaultError> {
    body["description"] = names.marker().into();
    match vault.write(path, body).await {
        Err(VaultError::Wrong { code: 400, message })
            if message.contains("already in use") || message.contains("existing mount") =>
        {
            match vault {
                To::Server(server) if mount_owner(server, path, names).await? != Owner::Run => {
                    Err(foreign("mount", path, names))
                }
                _ => Ok(()),
            }
        }
        done => done,
    }
}

/// The settings with which Vault requests TokenReviews.
fn reviews(around: &Surroundings, reviewer: &str) -> Value {
    json!({
        "kubernetes_host": around.api_server,
        "kubernetes_ca_cert": around.api_server_ca,
        "token_reviewer_jwt": reviewer,
        "disable_local_ca_jwt": true,
    })
}

/// The settings with which a secrets engine of Vault requests tokens of ServiceAccounts.
fn token_requests(around: &Surroundings, reviewer: &str) -> Value {
    json!({
        "kubernetes_host": around.api_server,
        "kubernetes_ca_cert": around.api_server_ca,
        "service_account_jwt": reviewer,
        "disable_local_ca_jwt": true,
    })
}

/// Gives Vault another token for its requests to the API server.
///
/// # Errors
/// The first request that fails.
pub async fn replace_reviewer(
    vault: &Vault,
    scenario: &Scenario,
    around: &Surroundings,
    reviewer: &str,
    names: &Names,
) -> Result<(), VaultError> {
    if scenario.vault.auth == AuthMethod::Kubernetes {
        let at = names.login_mount(AuthMethod::Kubernetes);
        vault.write(&format!("auth/{at}/config"), reviews(around, reviewer)).await?;
    }
    for &domain in Domain::ALL {
        if scenario.vault.secrets.of(domain).engine == Engine::Kubernetes {
            let path = format!("{}/config", names.mount(domain));
            vault.write(&path, token_requests(around, reviewer)).await?;
        }
    }
    Ok(())
}

async fn login_method(
    vault: &To<'_>,
    scenario: &Scenario,
    around: &Surroundings,
    reviewer: &str,
    names: &Names,
) -> Result<(), VaultError> {
    let (name, at) = (method(scenario.vault.auth), names.login_mount(scenario.vault.auth));
    mount(vault, &format!("sys/auth/{at}"), json!({"type": name}), names).await?;
    let config = match scenario.vault.auth {
        AuthMethod::Kubernetes => reviews(around, reviewer),
        AuthMethod::Jwt => json!({
            "jwt_validation_pubkeys": [around.accounts_key],
            "bound_issuer": around.issuer,
        }),
    };
    vault.write(&format!("auth/{at}/config"), config).await?;
    Ok(())
}

/// The login role of agents on `home` in `phase`: the bound ServiceAccounts, and the policy and TTL
/// of its tokens.
pub fn login_role(
    knobs: &knobs::Vault,
    identity: IdentityKind,
    phase: Phase,
    home: Domain,
    names: &Names,
) -> Value {
    let namespace = names.namespace();
    let accounts = identity::accounts_of(identity, phase, home);
    let ttl = seconds(knobs.token_ttl);
    let mut body = json!({
        "token_policies": [names.policy(phase, home)],
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
async fn systems(vault: &To<'_>, names: &Names) -> Result<(), VaultError> {
    let kind = json!({"type": "kv", "options": {"version": "1"}});
    mount(vault, &format!("sys/mounts/{}", names.systems()), kind, names).await?;
    for target in [Domain::Network, Domain::Security] {
        let action = Action { verb: Verb::Read, target };
        vault.write(&names.system_path(action), json!({"state": "up"})).await?;
    }
    Ok(())
}

/// The secrets engine of a domain, with the roles of the run's phase.
async fn engine(
    vault: &To<'_>,
    scenario: &Scenario,
    around: &Surroundings,
    reviewer: &str,
    domain: Domain,
    names: &Names,
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
    let at = names.mount(domain);
    mount(vault, &format!("sys/mounts/{at}"), kind, names).await?;
    if knobs.engine == Engine::Pki {
        let root = json!({"common_name": "alertstorm local", "key_type": "ec", "ttl": max_ttl});
        if vault.list(&format!("{at}/issuers")).await?.is_empty() {
            vault.write(&format!("{at}/root/generate/internal"), root).await?;
        }
    }
    if knobs.engine == Engine::Kubernetes {
        vault.write(&format!("{at}/config"), token_requests(around, reviewer)).await?;
    }
    for config in 0..knobs.configs.get() {
        if knobs.engine == Engine::Postgresql {
            database(vault, around, names, (phase, domain), config).await?;
        }
        for home in [domain, other(domain)] {
            let name = credential_role(phase, home, domain, config);
            let (path, body) = match knobs.engine {
                Engine::Postgresql => (
                    format!("{at}/roles/{name}"),
                    json!({
                        "db_name": format!("config-{config}"),
                        "creation_statements": [creation(phase, home, domain, names)],
                        "revocation_statements": [statement(include_str!(
                            "../../../kind-config/postgres/revoke.sql"
                        ))],
                        "default_ttl": ttl,
                        "max_ttl": max_ttl,
                    }),
                ),
                Engine::Pki => {
                    (format!("{at}/roles/{name}"), certificate_role(domain, &ttl, &max_ttl))
                }
                Engine::Kubernetes => (
                    format!("{at}/roles/{name}"),
                    json!({
                        "allowed_kubernetes_namespaces": [names.namespace()],
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

/// The role of the PKI engine: client certificates of names below the domain's, and nothing else.
fn certificate_role(domain: Domain, ttl: &str, max_ttl: &str) -> Value {
    json!({
        "allowed_domains": [certificate_domain(domain)],
        "allow_subdomains": true,
        "allow_bare_domains": false,
        "allow_wildcard_certificates": false,
        "allow_glob_domains": false,
        "allow_any_name": false,
        "enforce_hostnames": true,
        "cn_validations": ["hostname"],
        "require_cn": true,
        // On by default, for any name and any address.
        "allow_localhost": false,
        "allow_ip_sans": false,
        "allowed_uri_sans": [],
        "allowed_other_sans": [],
        "allowed_user_ids": [],
        "server_flag": false,
        "client_flag": true,
        // A lease for each certificate; RSA 2048 is what agents request by default.
        "generate_lease": true,
        "ttl": ttl,
        "max_ttl": max_ttl,
        "key_type": "rsa",
        "key_bits": 2048,
    })
}

/// A statement without its comments, which Vault would send each time.
fn statement(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("--")).collect();
    lines.join("\n")
}

/// Another domain: the next one in order.
fn other(domain: Domain) -> Domain {
    Domain::ALL[(domain.index() + 1) % Domain::COUNT]
}

/// The statements that create a user in PostgreSQL, as a member of the groups that the phase
/// grants.
fn creation(phase: Phase, home: Domain, target: Domain, names: &Names) -> String {
    let granted = Verb::ALL.iter().filter(|&&verb| phase.allows(home, Action { verb, target }));
    let groups: Vec<String> = granted.map(|verb| names.group(*verb)).collect();
    let member =
        if groups.is_empty() { String::new() } else { format!(" IN ROLE {}", groups.join(", ")) };
    include_str!("../../../kind-config/postgres/create.sql").trim().replace("{{member}}", &member)
}

/// The connection of Vault to PostgreSQL, for the roles of a domain and no others.
async fn database(
    vault: &To<'_>,
    around: &Surroundings,
    names: &Names,
    (phase, domain): (Phase, Domain),
    config: u32,
) -> Result<(), VaultError> {
    let (user, password) = &around.postgres_user;
    let roles = [domain, other(domain)].map(|home| credential_role(phase, home, domain, config));
    let mut body = json!({
        "plugin_name": "postgresql-database-plugin",
        "allowed_roles": roles,
        "connection_url": connection_url(&around.postgres, &names.database()),
        "username": user,
        "password": password,
        "password_authentication": "scram-sha-256",
        "max_open_connections": 4,
        "max_connection_lifetime": "0s",
    });
    if let Some(tls) = &around.postgres.tls {
        merge(&mut body, json!({"tls_ca": tls.ca()}));
    }
    vault.write(&format!("{}/config/config-{config}", names.mount(domain)), body).await?;
    Ok(())
}

/// The URL with which Vault connects to PostgreSQL. With TLS it has the host name that the
/// certificate must contain.
fn connection_url(to: &Address, database: &str) -> String {
    let (host, mode) = match &to.tls {
        Some(tls) if tls.host().contains(':') => (format!("[{}]", tls.host()), "verify-full"),
        Some(tls) => (tls.host().to_owned(), "verify-full"),
        None if to.at.is_ipv6() => (format!("[{}]", to.at.ip()), "disable"),
        None => (to.at.ip().to_string(), "disable"),
    };
    let port = to.at.port();
    format!(
        "postgresql://{{{{username}}}}:{{{{password}}}}@{host}:{port}/{database}?sslmode={mode}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use alertstorm_agent::postgres::Tls;

    #[test]
    fn the_connection_url_verifies_the_host_name_that_the_certificate_must_contain() {
        let at = "127.0.0.1:5432".parse().unwrap();
        let plain = connection_url(&Address::plain(at), "evidence");
        assert!(plain.ends_with("@127.0.0.1:5432/evidence?sslmode=disable"), "{plain}");
        let key = rcgen::generate_simple_self_signed(["db.example".to_owned()]).unwrap();
        let url = |host| {
            let tls = Tls::new(host, &key.cert.pem()).unwrap();
            connection_url(&Address { at, tls: Some(tls) }, "evidence")
        };
        let named = url("db.example");
        assert!(named.ends_with("@db.example:5432/evidence?sslmode=verify-full"));
        assert!(url("fd00::1").contains("@[fd00::1]:5432/"));
    }

    #[test]
    fn a_role_issues_batch_tokens_if_it_or_its_mount_says_so() {
        let batch = |mount: &str, role: &str| issues_batch(&json!(mount), &json!(role));
        assert!(!batch("default-service", "service") && !batch("default-service", "default"));
        assert!(!batch("default-batch", "service") && !batch("service", "batch"));
        assert!(batch("batch", "service") && batch("default-service", "batch"));
        assert!(batch("default-batch", "default") && batch("default-batch", ""));
        assert!(!issues_batch(&Value::Null, &Value::Null));
    }

    #[test]
    fn the_revocation_statement_is_sent_without_its_comments() {
        let text = statement(include_str!("../../../kind-config/postgres/revoke.sql"));
        assert!(text.starts_with("DO $$") && !text.contains("--"), "{text}");
    }
}
