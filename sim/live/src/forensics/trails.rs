//! Parses the three trails: Vault's audit device, the API server's audit log, PostgreSQL's log.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use alertstorm_agent::names::Names;
use alertstorm_model::event::Attributed;
use alertstorm_model::investigation::InvestigationId;
use alertstorm_model::scenario::knobs::AuthMethod;
use alertstorm_platform::Trails;
use alertstorm_platform::identity::investigation_of;
use jiff::Timestamp;
use serde_json::Value;

/// A trail could not be read.
#[derive(Debug, thiserror::Error)]
#[error("failed to read the audit log {path}")]
pub struct TrailError {
    path: PathBuf,
    source: io::Error,
}

/// The length of each trail in bytes at the run's start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Read {
    vault: u64,
    api_server: u64,
    postgres: u64,
}

impl Read {
    /// The current lengths; zero for a trail that does not exist yet.
    pub fn now(trails: &Trails) -> Self {
        let length = |path: &Option<PathBuf>| {
            let file = path.as_ref().and_then(|path| std::fs::metadata(path).ok());
            file.map_or(0, |file| file.len())
        };
        Self {
            vault: length(&trails.vault),
            api_server: length(&trails.api_server),
            postgres: length(&trails.postgres),
        }
    }
}

/// A login in Vault's trail.
#[derive(Clone, Debug)]
struct Login {
    /// The time of the response in nanoseconds since 1970.
    at: i128,
    /// The time-to-live of its token, in seconds.
    ttl_s: u64,
    account: String,
    address: String,
    /// The pod's name from the ServiceAccount token; empty if the token has none.
    pod: String,
    /// Whether it was made at the run's own auth method.
    is_own: bool,
}

/// The accessor of a Vault token, which identifies a login's session in the trail.
pub type Session = String;

/// A lease that Vault issued to a session.
#[derive(Clone, Debug)]
pub struct IssuedLease {
    /// Its id.
    pub id: String,
    /// The session that requested it.
    pub session: Session,
    /// The time of the response in nanoseconds since 1970.
    pub at: i128,
}

/// A request of an agent that has no response in the trail: Vault ended before.
#[derive(Clone, Debug)]
pub struct Unanswered {
    /// Its path.
    pub path: String,
    /// The session that sent it; empty for a login.
    pub session: Session,
    /// Its time in nanoseconds since 1970.
    pub at: i128,
}

/// What the trails contain about agents.
#[derive(Debug, Default)]
pub struct Found {
    /// The leases that Vault issued to agents.
    pub leases: Vec<IssuedLease>,
    /// When a session's agent revoked its token, in nanoseconds since 1970.
    pub revoked: BTreeMap<Session, i128>,
    /// When a lease was renewed last, in nanoseconds since 1970.
    pub renewed: BTreeMap<String, i128>,
    /// Requests without a response, by their ids.
    pending: BTreeMap<String, Unanswered>,
    /// Requests that the API server denied (403).
    pub rbac_denials: u64,
    /// Requests that a Vault policy denied.
    pub vault_denials: u64,
    /// Statements and logins that PostgreSQL denied.
    pub database_denials: u64,
    logins: BTreeMap<Session, Login>,
    /// The session that requested a PostgreSQL user, by user.
    users: BTreeMap<String, Session>,
    /// The session of each request to Vault.
    requests: Vec<Session>,
    /// The user of each statement.
    statements: Vec<String>,
    /// ServiceAccount and pod of each write to Kubernetes.
    writes: Vec<(String, String)>,
    /// The pod of each IP.
    pods: BTreeMap<String, String>,
}

fn each_line(path: Option<&Path>, from: u64, mut take: impl FnMut(&str)) -> Result<(), TrailError> {
    let Some(path) = path else { return Ok(()) };
    let failed = |source| TrailError { path: path.to_owned(), source };
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file.map_err(failed)?,
    };
    file.seek(SeekFrom::Start(from)).map_err(failed)?;
    let mut reader = BufReader::with_capacity(1 << 18, file);
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line).map_err(failed)? == 0 {
            return Ok(());
        }
        take(&String::from_utf8_lossy(&line));
    }
}

/// Reads all trails.
pub fn read(trails: &Trails, names: &Names, from: &Read) -> Result<Found, TrailError> {
    let mut found = Found::default();
    let json = |line: &str| serde_json::from_str::<Value>(line).unwrap_or_default();
    each_line(trails.vault.as_deref(), from.vault, |line| found.vault(&json(line), names))?;
    each_line(trails.api_server.as_deref(), from.api_server, |line| {
        found.api_server(&json(line), names);
    })?;
    each_line(trails.postgres.as_deref(), from.postgres, |line| found.postgres(line, names))?;
    Ok(found)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A time of Vault's trail in nanoseconds since 1970.
fn nanos(value: &Value) -> i128 {
    text(value).parse::<Timestamp>().map(Timestamp::as_nanosecond).unwrap_or_default()
}

impl Found {
    /// Takes an entry of Vault's audit device.
    pub(super) fn vault(&mut self, entry: &Value, names: &Names) {
        let path = text(&entry["request"]["path"]);
        // The harness's own requests have other policies.
        let policies = entry["auth"]["policies"].as_array().into_iter().flatten();
        let is_agent =
            policies.filter_map(Value::as_str).any(|policy| policy.starts_with(&names.policies()));
        let session = text(&entry["auth"]["accessor"]).to_owned();
        let at = nanos(&entry["time"]);
        let id = text(&entry["request"]["id"]);
        let own_login = AuthMethod::ALL.iter().any(|&method| path == names.login_path(method));
        if text(&entry["type"]) != "response" {
            if is_agent || own_login {
                let request = Unanswered { path: path.to_owned(), session, at };
                self.pending.insert(id.to_owned(), request);
            }
            return;
        }
        self.pending.remove(id);
        let answer = &entry["response"];
        let is_login = path.starts_with("auth/") && path.ends_with("/login");
        if is_login && entry["error"].is_null() {
            let auth = &answer["auth"];
            let session = text(&auth["accessor"]).to_owned();
            let account = text(&auth["metadata"]["service_account_name"]).to_owned();
            let address = text(&entry["request"]["remote_address"]).to_owned();
            if !session.is_empty() {
                let pod = text(&auth["metadata"]["pod_name"]).to_owned();
                let ttl_s = auth["token_ttl"].as_u64().unwrap_or_default();
                let login = Login { at, ttl_s, account, address, pod, is_own: own_login };
                self.logins.insert(session, login);
            }
            return;
        }
        if !is_agent {
            return;
        }
        if text(&entry["error"]).contains("permission denied") {
            // After a denial an agent looks up its token, which is no action.
            if !path.starts_with("auth/token/") {
                self.vault_denials += 1;
            }
            return;
        }
        self.requests.push(session.clone());
        if path == "auth/token/revoke-self" && entry["error"].is_null() {
            self.revoked.insert(session.clone(), at);
        }
        let lease = text(&answer["secret"]["lease_id"]).to_owned();
        if !lease.is_empty() && path.starts_with("sys/leases/") {
            self.renewed.insert(lease, at);
        } else if !lease.is_empty() {
            self.leases.push(IssuedLease { id: lease, session: session.clone(), at });
        }
        let user = text(&answer["data"]["username"]);
        if !user.is_empty() {
            self.users.insert(user.to_owned(), session);
        }
    }

    fn api_server(&mut self, entry: &Value, names: &Names) {
        let user = &entry["user"];
        let object = &entry["objectRef"];
        if text(&object["subresource"]) == "status" {
            let pod = text(&object["name"]);
            let address = text(&entry["requestObject"]["status"]["podIP"]);
            if !address.is_empty() {
                self.pods.insert(address.to_owned(), pod.to_owned());
            }
            return;
        }
        let prefix = format!("system:serviceaccount:{}:", names.namespace());
        let Some(account) = text(&user["username"]).strip_prefix(&prefix) else { return };
        // Skips the harness's own ServiceAccounts.
        if !account.starts_with("agent-") && !account.starts_with("inv-") {
            return;
        }
        if entry["responseStatus"]["code"] == 403 {
            self.rbac_denials += 1;
        } else if text(&entry["verb"]) == "patch" {
            let pods = &user["extra"]["authentication.kubernetes.io/pod-name"];
            self.writes.push((account.to_owned(), text(&pods[0]).to_owned()));
        }
    }

    fn postgres(&mut self, line: &str, names: &Names) {
        let Some((_, rest)) = line.split_once(" user=") else { return };
        let Some((user, rest)) = rest.split_once(" db=") else { return };
        let Some((database, rest)) = rest.split_once(" host=") else { return };
        if database != names.database() {
            return;
        }
        let no_login = rest.contains(" FATAL: ")
            && (rest.contains("authentication failed") || rest.contains("permission denied"));
        if no_login || rest.contains(" ERROR: ") && rest.contains("permission denied") {
            self.database_denials += 1;
        } else if rest.contains(" LOG: ") && rest.contains("statement: ") {
            // Skips the statements of the set-up; Vault's users start with `v-`.
            if user.starts_with("v-") {
                self.statements.push(user.to_owned());
            }
        }
    }

    /// The sessions of the run's auth method: their accessors, and when each was issued and expires, in
    /// nanoseconds since 1970.
    pub fn own_logins(&self) -> impl Iterator<Item = (&Session, i128, i128)> {
        let own = self.logins.iter().filter(|(_, login)| login.is_own);
        own.map(|(session, login)| {
            (session, login.at, login.at + i128::from(login.ttl_s) * 1_000_000_000)
        })
    }

    /// The requests that Vault did not answer.
    pub fn unanswered(&self) -> impl Iterator<Item = &Unanswered> {
        self.pending.values()
    }

    /// The investigation of a session, if its login names one.
    pub fn investigation(&self, session: &str) -> Option<InvestigationId> {
        self.by_job(session).or_else(|| self.by_identity(session))
    }

    /// The investigation that the session's ServiceAccount names; none for a shared one.
    fn by_identity(&self, session: &str) -> Option<InvestigationId> {
        investigation_of(&self.logins.get(session)?.account)
    }

    /// The investigation of the session's pod: the pod that its token names, or else the pod that
    /// had the address of its login.
    fn by_job(&self, session: &str) -> Option<InvestigationId> {
        let login = self.logins.get(session)?;
        investigation_of(&login.pod).or_else(|| investigation_of(self.pods.get(&login.address)?))
    }

    /// Attributes each statement in PostgreSQL; `truth` returns a user's investigation.
    pub fn attribute_statements(
        &self,
        truth: impl Fn(&str) -> Option<InvestigationId>,
    ) -> Attributed {
        let mut answers = Answers::new("postgresql statements");
        for user in &self.statements {
            let session = self.users.get(user);
            let by_identity = session.and_then(|session| self.by_identity(session));
            let by_job = session.and_then(|session| self.by_job(session));
            answers.add(truth(user), by_identity, by_job);
        }
        answers.0
    }

    /// Attributes each write to Kubernetes; `truth` returns a pod's investigation.
    pub fn attribute_kubernetes_writes(
        &self,
        truth: impl Fn(&str) -> Option<InvestigationId>,
    ) -> Attributed {
        let mut answers = Answers::new("kubernetes writes");
        for (account, pod) in &self.writes {
            answers.add(truth(pod), investigation_of(account), investigation_of(pod));
        }
        answers.0
    }

    /// Attributes each request to Vault. There is no other truth for these: attributions by
    /// identity and by Job are compared with each other.
    pub fn attribute_vault_requests(&self) -> Attributed {
        let mut answers = Answers::new("vault requests");
        for session in &self.requests {
            let (by_identity, by_job) = (self.by_identity(session), self.by_job(session));
            answers.add(by_job.or(by_identity), by_identity, by_job);
        }
        answers.0
    }
}

struct Answers(Attributed);

impl Answers {
    fn new(what: &str) -> Self {
        Self(Attributed { what: what.to_owned(), ..Attributed::default() })
    }

    fn add(
        &mut self,
        truth: Option<InvestigationId>,
        by_identity: Option<InvestigationId>,
        by_job: Option<InvestigationId>,
    ) {
        let sum = &mut self.0;
        sum.asked += 1;
        sum.by_identity += u64::from(by_identity.is_some());
        sum.by_identity_rightly += u64::from(by_identity.is_some() && by_identity == truth);
        sum.by_job += u64::from(by_job.is_some());
        sum.by_job_rightly += u64::from(by_job.is_some() && by_job == truth);
    }
}
