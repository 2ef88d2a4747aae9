//! Access to the servers of a place's platform, past the proxy: their processes, an administrator's
//! clients, and the settings of a kept platform.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use alertstorm_agent::postgres::{Address as Database, Login, connect};
use alertstorm_agent::trust;
use alertstorm_agent::vault::{Address, Vault};
use alertstorm_platform::connection::Lanes;
use alertstorm_platform::provider::Program;
use alertstorm_platform::provider::state::{ProcessId, Record};
use alertstorm_platform::{Client, objects};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::place::{LOOK_EVERY, Place};

/// How long an administrator waits for a server that was started again.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);

/// The servers of the platform that exists now.
pub struct Servers<'a> {
    place: &'a Place,
    folder: PathBuf,
    runtime: tokio::runtime::Runtime,
}

impl<'a> Servers<'a> {
    /// Those of the only platform of a place; `None` if it has none.
    pub fn of(place: &'a Place) -> Option<Self> {
        let mut folders = fs::read_dir(place.state()).ok()?;
        let folder = folders.next()?.ok()?.path();
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        Some(Self { place, folder, runtime })
    }

    fn record(&self) -> Option<Record> {
        serde_json::from_slice(&fs::read(self.folder.join("platform.json")).ok()?).ok()
    }

    /// The process of a server, if it runs.
    pub fn process(&self, program: Program) -> Option<ProcessId> {
        let servers = self.record()?.servers;
        let found = servers.into_iter().find(|(of, _)| *of == program);
        found.map(|(_, process)| process).filter(|process| process.is_alive())
    }

    /// The servers that run.
    pub fn alive(&self) -> Vec<Program> {
        let servers = self.record().map(|record| record.servers).unwrap_or_default();
        servers.into_iter().filter(|(_, id)| id.is_alive()).map(|(program, _)| program).collect()
    }

    /// Kills a server, which must run.
    pub fn kill(&self, program: Program) {
        let until = Instant::now() + ANSWERS_WITHIN;
        let process = loop {
            match self.process(program) {
                Some(process) => break process,
                None => assert!(Instant::now() < until, "{} does not run", program.file()),
            }
            sleep(LOOK_EVERY);
        };
        signal("-KILL", process.pid.unsigned_abs());
        assert!(process.wait(Duration::from_secs(10)), "{} was not killed", program.file());
    }

    /// Kills a server as often as it is started, for some time; how often it was killed.
    pub fn keep_down(&self, program: Program, for_: Duration) -> usize {
        let until = Instant::now() + for_;
        let mut killed = Vec::new();
        while Instant::now() < until {
            if let Some(process) = self.process(program)
                && signal("-KILL", process.pid.unsigned_abs())
            {
                killed.push(process.pid);
            }
            sleep(LOOK_EVERY);
        }
        killed.dedup();
        killed.len()
    }

    fn file(&self, name: &str) -> String {
        let path = self.folder.join("private").join(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.file(name)).expect("JSON")
    }

    /// An administrator's client of the API server.
    pub fn admin(&self) -> Client {
        let config = self.json("admin.kubeconfig");
        let token = config["users"][0]["user"]["token"].as_str().expect("a token").to_owned();
        let tls = trust::only(&self.file("ca.crt")).expect("a CA");
        let _within = self.runtime.enter();
        let lanes = Lanes::new("test", &self.place.proxy().direct(), &tls, 1).expect("an address");
        lanes.client("test", &token, "default").expect("a client")
    }

    /// Reads an object or a list from the API server; `None` if it does not exist.
    pub fn get(&self, path: &str) -> Option<Value> {
        let client = self.admin();
        let read = self.runtime.block_on(objects::get(&client, path));
        read.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Deletes an object without a grace period; whether it existed.
    pub fn delete(&self, path: &str) -> bool {
        let client = self.admin();
        let request = http::Request::delete(format!("{path}?gracePeriodSeconds=0"));
        let request = request.body(Vec::new()).expect("a request");
        self.runtime.block_on(client.request::<Value>(request)).is_ok()
    }

    /// The items of a list.
    pub fn items(&self, path: &str) -> Vec<Value> {
        let list = self.get(path).unwrap_or_default();
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// The agents' pods.
    pub fn pods(&self) -> Vec<Value> {
        self.items("/api/v1/pods?labelSelector=alertstorm.dev/run")
    }

    fn kept(&self) -> Value {
        self.json("kept.json")
    }

    /// A client of the Vault of a kept platform, with its root token.
    pub fn vault(&self) -> Vault {
        let kept = self.kept();
        let tls = trust::only(&self.file("ca.crt")).expect("a CA");
        let url = format!("https://127.0.0.1:{}", kept["ports"]["vault"]);
        let address = Address { url, namespace: None, tls };
        let root = kept["unsealed"]["root"].as_str().expect("a token");
        Vault::new(&address, None, root).expect("a client")
    }

    /// Seals the Vault of a kept platform.
    pub fn seal(&self) {
        let sealed = self.runtime.block_on(self.vault().write("sys/seal", json!({})));
        sealed.expect("sealed");
    }

    /// Unseals it, unless somebody did.
    pub fn unseal(&self) {
        let (kept, vault) = (self.kept(), self.vault());
        let unsealed = vault.write("sys/unseal", json!({"key": kept["unsealed"]["key"]}));
        // It answers without `data`, which the client takes for an error of its own.
        drop(self.runtime.block_on(unsealed));
    }

    /// What a request to Vault returns, once Vault answers.
    pub fn ask_vault<T, E: std::fmt::Display>(
        &self,
        ask: impl AsyncFn(&Vault) -> Result<T, E>,
    ) -> T {
        let vault = self.vault();
        self.runtime.block_on(async {
            let until = Instant::now() + ANSWERS_WITHIN;
            loop {
                match ask(&vault).await {
                    Ok(answer) => return answer,
                    Err(error) => assert!(Instant::now() < until, "Vault: {error}"),
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        })
    }

    /// The first column of a query to the PostgreSQL of a kept platform.
    pub fn sql(&self, statement: &str) -> Vec<String> {
        let kept = self.kept();
        let port = kept["ports"]["postgres"].as_u64().expect("a port");
        let to = Database::plain(([127, 0, 0, 1], u16::try_from(port).expect("a port")).into());
        let password = kept["secrets"]["postgres_admin"].as_str();
        let login =
            Login { to: &to, from: None, user: "alertstorm", password, database: "postgres" };
        self.runtime.block_on(async {
            let until = Instant::now() + ANSWERS_WITHIN;
            loop {
                match connect(login).await {
                    Ok(client) => {
                        let rows = client.query(statement, &[]).await.expect("rows");
                        return rows.iter().map(|row| row.get(0)).collect();
                    }
                    Err(error) => assert!(Instant::now() < until, "PostgreSQL: {error}"),
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        })
    }

    /// Waits until the API server itself is ready.
    pub fn wait_for_api_server(&self) {
        let client = self.admin();
        self.runtime.block_on(async {
            let until = Instant::now() + ANSWERS_WITHIN;
            let ready = || http::Request::get("/readyz").body(Vec::new()).expect("a request");
            while client.request_text(ready()).await.is_err() {
                assert!(Instant::now() < until, "the API server is not ready");
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
    }

    /// Compacts etcd up to its current revision, so that watches of earlier ones are gone.
    pub fn compact(&self) {
        self.runtime.block_on(async {
            let range = json!({"key": "L3JlZ2lzdHJ5", "count_only": true});
            let answer = self.etcd("range", &range).await;
            let revision = answer["header"]["revision"].as_str().expect("a revision").to_owned();
            self.etcd("compaction", &json!({"revision": revision, "physical": true})).await;
        });
    }

    /// A request to etcd's gateway, with the certificate of the API server.
    async fn etcd(&self, what: &str, body: &Value) -> Value {
        let flag = |name: &str| self.place.proxy().flag(name).expect("a flag");
        let url = flag("etcd-servers");
        let at = url.strip_prefix("https://").expect("an address").to_owned();
        let certificate = CertificateDer::from_pem_file(flag("etcd-certfile")).expect("PEM");
        let key = PrivateKeyDer::from_pem_file(flag("etcd-keyfile")).expect("PEM");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(flag("etcd-cafile")).expect("PEM")).expect("a CA");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate], key)
            .expect("a certificate");
        let socket = TcpStream::connect(&at).await.expect("etcd listens");
        let name = ServerName::try_from("127.0.0.1").expect("a name");
        let connector = TlsConnector::from(Arc::new(tls));
        let mut stream = connector.connect(name, socket).await.expect("TLS");
        let body = body.to_string();
        let request = format!(
            "POST /v3/kv/{what} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        // Some servers end a connection without TLS's own end.
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let json = answer.find('{').zip(answer.rfind('}')).expect("JSON");
        serde_json::from_str(&answer[json.0..=json.1]).expect("JSON")
    }
}

/// Sends a signal to a process; whether it existed.
pub fn signal(name: &str, pid: u32) -> bool {
    Command::new("kill").args([name, &pid.to_string()]).status().expect("kill").success()
}
