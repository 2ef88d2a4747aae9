//! What an agent that does not follow its phase is refused, by the real servers.

use alertstorm_agent::names::{Names, credential_role, role};
use alertstorm_agent::postgres::{Address, Client, Login, PostgresError, Tls, act, connect};
use alertstorm_agent::vault::{Answer, Vault, VaultError};
use alertstorm_model::controller::job;
use alertstorm_model::investigation::{Domain, IdentityKind, InvestigationId};
use alertstorm_model::phase::{Action, Phase, Verb};
use alertstorm_model::scenario::knobs::{AuthMethod, Engine};
use alertstorm_model::scenario::{self, NoFiles, Scenario};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use super::Local;
use crate::platform::{Identities, Platform};
use crate::provider::{Program, Provider};
use crate::{bootstrap, manifests, vault};

fn scenario(phase: Phase) -> Scenario {
    let text = format!(
        "alerts: [{{flood: 1}}]\nphase: {phase}\nidentity: per-investigation\n\
         vault: {{secrets: {{network: {{engine: pki}}, database: {{engine: postgresql}}}}}}\n"
    );
    scenario::load(&text, "test", &[], &NoFiles).unwrap().scenario().clone()
}

/// A local platform that is configured for a phase.
struct Place {
    local: Local,
    platform: Platform,
    vault: Vault,
    phase: Phase,
}

impl Place {
    async fn new(phase: Phase) -> Self {
        let local = Local::start(&scenario(phase), false, &|_: &str| {}).await;
        let local = local.unwrap_or_else(|error| panic!("{error}"));
        let (platform, vault) = (local.platform().unwrap(), Provider::vault(&local).unwrap());
        let place = Self { local, platform, vault, phase };
        place.configure(phase).await;
        place
    }

    const fn names(&self) -> &Names {
        &self.platform.names
    }

    fn reviewer(&self) -> &str {
        let Identities::Users(tokens) = &self.platform.identities else { panic!("no users") };
        &tokens.vault
    }

    /// What a run does before it begins.
    async fn configure(&self, phase: Phase) {
        let scenario = scenario(phase);
        bootstrap::apply(&scenario, &self.platform).await.unwrap();
        let around = &self.platform.around;
        let (reviewer, names) = (self.reviewer(), self.names());
        vault::configure(&self.vault, &scenario, around, reviewer, names).await.unwrap();
    }

    /// A PostgreSQL user of an agent in its own domain: lease, user and password.
    async fn database_user(&self) -> (String, String, String) {
        let role = credential_role(self.phase, Domain::Database, Domain::Database, 0);
        let path = self.names().credential_path(Engine::Postgresql, Domain::Database, &role);
        let answer = self.vault.read(&path).await.unwrap();
        let text = |field: &str| answer.data[field].as_str().unwrap().to_owned();
        (answer.lease_id.clone(), text("username"), text("password"))
    }

    async fn connect(&self, who: (&str, &str), database: &str) -> Result<Client, PostgresError> {
        let (user, password) = (who.0, Some(who.1));
        connect(Login { to: self.local.postgres(), from: None, user, password, database }).await
    }

    /// What the superuser is answered, as text.
    async fn superuser(&self, statement: &str) -> Vec<String> {
        let client = self.connect(self.local.superuser(), "postgres").await.unwrap();
        client.query(statement, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    }

    /// The account of investigation `id`, and a token of it for Vault.
    async fn account(&self, phase: Phase, home: Domain, id: u64) -> String {
        let name =
            job::service_account(IdentityKind::PerInvestigation, phase, home, InvestigationId(id));
        self.token(&name).await
    }

    async fn token(&self, account: &str) -> String {
        let admin = &self.platform.admin;
        let object = manifests::service_account(account);
        bootstrap::create_one(admin, object, self.names()).await.unwrap();
        let namespace = self.names().namespace();
        let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), namespace);
        let request = json!({"spec": {"audiences": ["vault"], "expirationSeconds": 600}});
        let request: TokenRequest = serde_json::from_value(request).unwrap();
        let params = PostParams::default();
        let answer = accounts.create_token_request(account, &params, &request).await.unwrap();
        answer.status.unwrap().token.unwrap()
    }

    /// A login of an agent.
    async fn login(&self, token: &str, role: &str) -> Result<Vault, VaultError> {
        let mut vault = Vault::new(&self.platform.vault, None, "")?;
        let body = json!({"role": role, "jwt": token});
        let answer: Answer =
            vault.write(&self.names().login_path(AuthMethod::Kubernetes), body).await?;
        vault.set_token(&answer.token.unwrap().secret);
        Ok(vault)
    }
}

fn refused(result: &Result<(), PostgresError>) -> bool {
    matches!(result, Err(PostgresError::Refused(_)))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the servers of `alertstorm setup local`"]
async fn postgresql_refuses_an_agent_every_right_that_its_phase_does_not_grant() {
    let place = Place::new(Phase::LimitedWrite).await;
    let (_, user, password) = place.database_user().await;
    let agent = place.connect((&user, &password), &place.names().database()).await.unwrap();
    act(&agent, Verb::Read).await.unwrap();
    act(&agent, Verb::SafeWrite).await.unwrap();
    assert!(refused(&act(&agent, Verb::RiskyWrite).await));
    let names = place.names();
    let [reads, safe_writes, risky_writes] =
        [Verb::Read, Verb::SafeWrite, Verb::RiskyWrite].map(|verb| names.group(verb));
    for statement in [
        // What PUBLIC may do in a new database.
        "CREATE TEMP TABLE mine (a int)",
        "CREATE FUNCTION pg_temp.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "SELECT lo_from_bytea(0, 'a hidden note')",
        "SELECT lo_creat(-1)",
        "SELECT lo_create(4711)",
        "SELECT lo_put(4711, 0, 'a')",
        "SELECT lo_get(4711)",
        "SELECT lo_open(4711, 131072)",
        "SELECT loread(0, 1)",
        "SELECT lowrite(0, 'a')",
        "SELECT lo_unlink(4711)",
        "SELECT lo_import('/etc/passwd')",
        "SELECT lo_export(4711, '/tmp/mine')",
        "INSERT INTO pg_largeobject VALUES (4711, 0, 'a')",
        "CREATE TABLE mine (a int)",
        "CREATE SCHEMA mine",
        // Other roles.
        &format!("SET ROLE {risky_writes}"),
        &format!("SET ROLE {}", names.vault_user()),
        "SET SESSION AUTHORIZATION alertstorm",
        &format!("GRANT {risky_writes} TO CURRENT_USER"),
        "CREATE ROLE mine",
        &format!("DROP ROLE {reads}"),
        "ALTER ROLE CURRENT_USER VALID UNTIL 'infinity'",
        "ALTER ROLE CURRENT_USER CONNECTION LIMIT 100",
        // The log, files and programs.
        "SET log_statement = 'none'",
        "SELECT set_config('log_statement', 'none', false)",
        &format!("ALTER DATABASE {} SET log_statement = 'none'", names.database()),
        "ALTER SYSTEM SET log_statement = 'none'",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT pg_rotate_logfile()",
        "COPY evidence TO PROGRAM 'id'",
        "COPY evidence TO '/tmp/mine'",
        // Tables that it may only write, or not at all.
        "SELECT * FROM notes",
        "SELECT * FROM releases",
        "UPDATE evidence SET what = ''",
        "DELETE FROM notes",
        "TRUNCATE evidence",
        "DROP TABLE evidence",
        "SELECT rolpassword FROM pg_authid",
    ] {
        let result = agent.batch_execute(statement).await.map_err(PostgresError::from);
        assert!(refused(&result), "{statement}: {result:?}");
    }
    // A member may send this, but it takes no right from the group.
    for group in [&reads, &safe_writes] {
        let sent = agent.batch_execute(&format!("DROP OWNED BY {group}")).await;
        let sent = sent.map_err(PostgresError::from);
        assert!(sent.is_ok() || refused(&sent), "{group}: {sent:?}");
    }
    act(&agent, Verb::Read).await.unwrap();
    act(&agent, Verb::SafeWrite).await.unwrap();

    // Other databases: refused by pg_hba.conf here, and by the missing right everywhere.
    for database in ["postgres", "template1"] {
        let connected = place.connect((&user, &password), database).await.map(drop);
        assert!(refused(&connected), "{database}: {connected:?}");
    }
    let open = format!(
        "SELECT datname::text FROM pg_database WHERE datallowconn \
         AND has_database_privilege('{user}', oid, 'CONNECT, TEMPORARY, CREATE')"
    );
    assert_eq!(place.superuser(&open).await, [names.database()]);
    place.local.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the servers of `alertstorm setup local`"]
async fn a_session_that_is_open_when_its_lease_is_revoked_ends_and_its_role_is_dropped() {
    let place = Place::new(Phase::Autonomous).await;
    let (lease, user, password) = place.database_user().await;
    let (_, other, of_other) = place.database_user().await;
    let session = place.connect((&user, &password), &place.names().database()).await.unwrap();
    let spared = place.connect((&other, &of_other), &place.names().database()).await.unwrap();
    // An object that depends on the role: without DROP OWNED it could not be dropped.
    let keep = "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC";
    session.batch_execute(keep).await.unwrap();
    place.vault.write("sys/leases/revoke", json!({"lease_id": lease, "sync": true})).await.unwrap();
    let after = session.batch_execute("SELECT 1").await.map_err(PostgresError::from);
    assert!(matches!(after, Err(PostgresError::Unavailable(_))), "{after:?}");
    act(&spared, Verb::Read).await.unwrap();
    let again = place.connect((&user, &password), &place.names().database()).await.map(drop);
    assert!(refused(&again), "{again:?}");
    let left = format!("SELECT rolname::text FROM pg_roles WHERE rolname = '{user}'");
    assert_eq!(place.superuser(&left).await, Vec::<String>::new());
    let sessions = format!("SELECT usename::text FROM pg_stat_activity WHERE usename = '{user}'");
    assert_eq!(place.superuser(&sessions).await, Vec::<String>::new());

    // Vault's statements are in the database whose statements are logged, and are not logged.
    let log = std::fs::read_to_string(place.local.layout.log(Program::Postgres)).unwrap();
    assert!(log.contains(keep), "the agent's statements are logged");
    assert!(!log.contains("CREATE ROLE") && !log.contains("SCRAM-SHA-256$"));
    assert!(!log.contains(&password));

    // Whatever Vault forgets is dropped with the run, and its sessions end too.
    let login = place.local.login("postgres");
    crate::postgres::take_down(login, place.names()).await.unwrap();
    assert!(spared.batch_execute("SELECT 1").await.is_err());
    let ours = "SELECT rolname::text FROM pg_roles WHERE rolname ~ '^(v-|alertstorm_)' \
                UNION SELECT datname::text FROM pg_database WHERE datname ~ '^alertstorm'";
    assert_eq!(place.superuser(ours).await, Vec::<String>::new());
    place.local.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the servers of `alertstorm setup local`"]
async fn an_agent_cannot_log_in_under_the_role_of_another_phase_or_domain() {
    // Both phases have their roles in the same Vault.
    let place = Place::new(Phase::Autonomous).await;
    place.configure(Phase::LimitedWrite).await;
    let own = role(Phase::LimitedWrite, Domain::Network);
    let token = place.account(Phase::LimitedWrite, Domain::Network, 1).await;
    let agent = place.login(&token, &own).await.unwrap();
    for (phase, home) in [
        (Phase::Autonomous, Domain::Network),
        (Phase::LimitedWrite, Domain::Database),
        (Phase::Autonomous, Domain::Application),
    ] {
        let foreign = place.login(&token, &role(phase, home)).await.map(drop);
        assert_eq!(foreign, Err(VaultError::Denied), "{phase} {home}");
    }
    // A name without a phase, or with one in the place of the domain, belongs to no role.
    for account in ["inv-0000001-network", "inv-0000001-autonomous-limited-write"] {
        let token = place.token(account).await;
        for phase in [Phase::LimitedWrite, Phase::Autonomous] {
            let foreign = place.login(&token, &role(phase, Domain::Network)).await.map(drop);
            assert_eq!(foreign, Err(VaultError::Denied), "{account} as {phase}");
        }
    }

    // What its token may not do.
    let credential = |phase, home, engine, target| {
        place.names().credential_path(engine, target, &credential_role(phase, home, target, 0))
    };
    let names = place.names();
    let (network, database) = (Domain::Network, Domain::Database);
    let path = credential(Phase::LimitedWrite, network, Engine::Postgresql, database);
    agent.read(&path).await.unwrap();
    for path in [
        credential(Phase::LimitedWrite, database, Engine::Postgresql, database),
        credential(Phase::Autonomous, network, Engine::Postgresql, database),
        format!("{}/config/config-0", names.mount(database)),
        format!("{}/roles/limited-write-own-0", names.mount(database)),
        format!("sys/policies/acl/{}", names.policy(Phase::Autonomous, network)),
        "sys/mounts".to_owned(),
        "sys/audit".to_owned(),
        names.system_path(Action { verb: Verb::RiskyWrite, target: network }),
    ] {
        let read = agent.read(&path).await.map(drop);
        assert_eq!(read, Err(VaultError::Denied), "{path}");
    }
    for path in ["auth/token/create", "sys/leases/revoke", "identity/entity"] {
        let written = agent.write(path, json!({})).await.map(drop);
        assert_eq!(written, Err(VaultError::Denied), "{path}");
    }
    place.local.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the servers of `alertstorm setup local`"]
async fn certificates_are_issued_for_names_of_the_engine_s_domain_only() {
    let place = Place::new(Phase::ReadOnlyAssist).await;
    let token = place.account(Phase::ReadOnlyAssist, Domain::Network, 7).await;
    let own = role(Phase::ReadOnlyAssist, Domain::Network);
    let agent = place.login(&token, &own).await.unwrap();
    let role = credential_role(Phase::ReadOnlyAssist, Domain::Network, Domain::Network, 0);
    let path = place.names().credential_path(Engine::Pki, Domain::Network, &role);
    let name = "inv-0000007.network.agents.alertstorm";
    let issued = agent.write(&path, json!({"common_name": name})).await.unwrap();
    assert!(!issued.lease_id.is_empty());
    for request in [
        json!({"common_name": "inv-0000007.database.agents.alertstorm"}),
        json!({"common_name": "inv-0000007.agents.alertstorm"}),
        json!({"common_name": "network.agents.alertstorm"}),
        json!({"common_name": "*.network.agents.alertstorm"}),
        json!({"common_name": "evilnetwork.agents.alertstorm"}),
        json!({"common_name": "vault.example"}),
        json!({"common_name": "localhost"}),
        json!({"common_name": ""}),
        json!({"common_name": name, "alt_names": "vault.example"}),
        json!({"common_name": name, "alt_names": "admin@vault.example"}),
        json!({"common_name": name, "ip_sans": "127.0.0.1"}),
        json!({"common_name": name, "uri_sans": "spiffe://cluster/ns/kube-system"}),
        json!({"common_name": name, "other_sans": "1.3.6.1.4.1.311.20.2.3;utf8:admin@vault.example"}),
        json!({"common_name": name, "user_ids": "root"}),
    ] {
        let refused = agent.write(&path, request.clone()).await.map(drop);
        assert!(
            matches!(refused, Err(VaultError::Wrong { code: 400, .. })),
            "{request}: {refused:?}"
        );
    }
    for path in ["root/generate/internal", "sign-verbatim", "sign/read-only-assist-own-0"] {
        let path = format!("{}/{path}", place.names().mount(Domain::Network));
        let refused = agent.write(&path, json!({"common_name": name})).await.map(drop);
        assert_eq!(refused, Err(VaultError::Denied), "{path}");
    }
    place.local.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the servers of `alertstorm setup local`"]
async fn the_rights_of_an_earlier_run_are_gone_on_a_kept_platform() {
    let place = Place::new(Phase::Autonomous).await;
    let (home, before, now) = (Domain::Database, Phase::Autonomous, Phase::Shadow);
    let token = place.account(before, home, 3).await;
    let earlier = place.login(&token, &role(before, home)).await.unwrap();
    let (_, user, password) = place.database_user().await;
    let session = place.connect((&user, &password), &place.names().database()).await.unwrap();

    // What the next run on the platform does first.
    place.local.sweep(place.names()).await.unwrap();
    place.local.begin_run().await.unwrap();
    place.configure(now).await;
    let names = place.names();

    let policies = place.vault.list("sys/policies/acl").await.unwrap();
    assert!(policies.contains(&names.policy(now, home)), "{policies:?}");
    assert!(!policies.contains(&names.policy(before, home)), "{policies:?}");
    assert_eq!(earlier.read("auth/token/lookup-self").await.map(drop), Err(VaultError::Denied));
    assert!(session.batch_execute("SELECT 1").await.is_err(), "its session ended");
    // Its token is of an account that was deleted, and one of the same name has no role.
    let token_now = place.account(before, home, 3).await;
    for (token, phase) in [(&token, before), (&token_now, before), (&token_now, now)] {
        let login = place.login(token, &role(phase, home)).await.map(drop);
        // Vault answers 400 if there is no such role.
        let no_role = matches!(&login, Err(VaultError::Wrong { code: 400, .. }));
        assert!(no_role || login == Err(VaultError::Denied), "{phase}: {login:?}");
    }
    let roles = place.vault.list(&format!("{}/roles", names.mount(home))).await.unwrap();
    assert!(roles.iter().all(|role| role.starts_with("shadow-")), "{roles:?}");
    let token = place.account(now, home, 4).await;
    place.login(&token, &role(now, home)).await.unwrap();
    place.local.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the servers of `alertstorm setup local`"]
async fn postgresql_is_trusted_only_with_the_right_authority_and_host_name() {
    let mut place = Place::new(Phase::Shadow).await;
    let at = place.local.postgres().at;
    let ours = place.platform.ca.clone();
    let foreign = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap().cert.pem();
    let (user, password) = place.local.superuser();
    let (user, password) = (user.to_owned(), password.to_owned());
    let try_with = async |host: &str, ca: &str| {
        let to = Address { at, tls: Some(Tls::new(host, ca).unwrap()) };
        let (user, password) = (user.as_str(), Some(password.as_str()));
        connect(Login { to: &to, from: None, user, password, database: "postgres" }).await
    };
    for host in ["127.0.0.1", "localhost"] {
        let client = try_with(host, &ours).await.unwrap_or_else(|error| panic!("{error}"));
        let asked = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let encrypted: bool = client.query_one(asked, &[]).await.unwrap().get(0);
        assert!(encrypted, "{host}");
    }
    for (host, ca, why) in [
        ("127.0.0.1", foreign.as_str(), "UnknownIssuer"),
        ("db.example", &ours, "not valid for"),
        ("127.0.0.2", &ours, "not valid for"),
    ] {
        let error = try_with(host, ca).await.err().unwrap();
        assert!(matches!(error, PostgresError::Untrusted(_)), "{host}: {error:?}");
        assert!(error.to_string().contains(why), "{error}");
    }

    // Vault's own connection.
    let scenario = scenario(Phase::Shadow);
    let reviewer = place.reviewer().to_owned();
    let mut configured = async |ca: &str| {
        let tls = Some(Tls::new("localhost", ca).unwrap());
        place.platform.around.postgres = Address { at, tls };
        let around = &place.platform.around;
        vault::configure(&place.vault, &scenario, around, &reviewer, &place.platform.names).await
    };
    let wrong = configured(&foreign).await.unwrap_err();
    assert!(wrong.to_string().contains("certificate"), "{wrong}");
    configured(&ours).await.unwrap();
    place.database_user().await;
    let encrypted = format!(
        "SELECT count(*)::text FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) \
         WHERE a.usename = '{}' AND s.ssl",
        place.names().vault_user()
    );
    assert_ne!(place.superuser(&encrypted).await, ["0"]);
    place.local.stop().unwrap();
}
