//! Settings of the cluster provider, from the command line and from environment variables, and its
//! error type.

use std::net::{IpAddr, SocketAddr};

use alertstorm_agent::names::RunId;
use alertstorm_agent::postgres::{self, Login, PostgresError, Tls};
use alertstorm_agent::trust;
use alertstorm_agent::vault::{Address, VaultError};

use super::production::looks_like_production;
use crate::bootstrap::BootstrapError;
use crate::provider::causes::with_causes;
use crate::reach::{self, Peer};
use crate::sweep::SweepError;

/// Options of the command line.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The kubeconfig's context; `None` for the current one.
    pub context: Option<String>,
    /// Whether to skip the confirmation (`--yes`).
    pub yes: bool,
    /// The agent's image, which the cluster's nodes have to be able to pull. There is no default: a
    /// public registry may give its name to others.
    pub agent_image: Option<String>,
    /// Vault's URL from inside a pod; `None` if it is the same as from here.
    pub vault_for_pods: Option<String>,
    /// The API server's URL from Vault; `None` if it is the same as from here.
    pub api_server_for_vault: Option<String>,
    /// The image of the shards; `None` without shards.
    pub shard_image: Option<String>,
    /// The priority level of the agents' requests; `None` for no FlowSchema.
    pub priority_level: Option<String>,
    /// The run's id, which the names of its objects contain; `None` for a random one.
    pub run_id: Option<RunId>,
    /// Hosts of Vault and PostgreSQL that look like production and may be used.
    pub production: Vec<String>,
    /// The servers that agents may connect to, instead of the addresses that the run finds.
    pub egress: Egress,
}

/// Addresses of the servers that agents may connect to, as the NetworkPolicy allows them. Where a
/// list is empty, the run finds the addresses itself.
#[derive(Clone, Debug, Default)]
pub struct Egress {
    /// The API server.
    pub api_server: Vec<Peer>,
    /// Vault, such as the pods behind its Service.
    pub vault: Vec<Peer>,
    /// PostgreSQL.
    pub postgres: Vec<Peer>,
    /// DNS, such as a cache on each node; empty for the pods of the cluster's DNS.
    pub dns: Vec<Peer>,
}

/// Why a run on an existing cluster could not start, or not end.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// An environment variable is missing: its name and its meaning.
    #[error("the environment variable {0} is not set: it has to be {1}")]
    Unset(&'static str, &'static str),
    /// The current context looks like production, and `--context` does not name it.
    #[error("the context `{0}` looks like production; to use it, name it: --context {0}")]
    Production(String),
    /// The host of Vault or PostgreSQL looks like production, and `--production` does not name it.
    #[error("{what} {host} looks like production; to use it, name it: --production {host}")]
    ProductionHost {
        /// Which server.
        what: &'static str,
        /// Its host, or its namespace.
        host: String,
    },
    /// No image of the agent is named.
    #[error(
        "no image of the agent is named, and none is taken from a public registry; build one with \
         kind-config/agent/Dockerfile, push it, and name it, best by its digest: --agent-image \
         REGISTRY/NAME@sha256:DIGEST"
    )]
    NoAgentImage,
    /// A URL would send tokens in clear text to another machine.
    #[error(
        "{what} is {url}, which would send tokens in clear text over the network; use https://, or \
         an address of this machine such as http://127.0.0.1:8200"
    )]
    PlainHttp {
        /// The variable or the option.
        what: &'static str,
        /// Its value.
        url: String,
    },
    /// A URL is not one of HTTP.
    #[error("{what} is {url}, which is no URL like https://vault.example:8200")]
    NoUrl {
        /// The variable or the option.
        what: &'static str,
        /// Its value.
        url: String,
    },
    /// The NetworkPolicy lacks the address of the API server.
    #[error(
        "could not read the Service and the EndpointSlice `kubernetes` in the namespace `default`, \
         which hold the API server's addresses for the agents' NetworkPolicy; grant get, \
         or name the addresses: --api-server-at CIDR:PORT"
    )]
    ApiServerAddresses(#[source] kube::Error),
    /// The NetworkPolicy lacks the address of Vault.
    #[error(
        "could not resolve the host of {url} for the agents' NetworkPolicy; name its addresses: \
         --vault-at CIDR:PORT"
    )]
    VaultAddresses {
        /// Vault's URL for pods.
        url: String,
        /// The error of the resolver.
        source: std::io::Error,
    },
    /// RBAC does not allow all that a run needs: the missing verbs and resources.
    #[error(
        "the context's user lacks these rights, which an administrator has to grant:\n  {}",
        .0.join("\n  ")
    )]
    Rights(Vec<String>),
    /// Objects with the run's names exist: each, and whose it is.
    #[error(
        "these objects exist, so the run does not begin, and nothing was written:\n  {}",
        .0.join("\n  ")
    )]
    Exists(Vec<String>),
    /// The run that was named is alive.
    #[error("{0}; it is not removed while it is alive")]
    Alive(String),
    /// The run could not begin, and what it had created could not be deleted.
    #[error(
        "{}; and then what it had created could not be deleted: {}; \
         `alertstorm clean --on cluster` deletes it",
        with_causes(.first),
        with_causes(.cleanup)
    )]
    AndCleanup {
        /// Why the run could not begin.
        first: Box<Self>,
        /// Why the deletion failed.
        cleanup: Box<Self>,
    },
    /// The confirmation was declined.
    #[error("the confirmation was declined; nothing was written")]
    Refused,
    /// `ALERTSTORM_POSTGRES` has another form: what is wrong with it.
    #[error(
        "the environment variable ALERTSTORM_POSTGRES is not of the form \
         USER@HOST:PORT[?sslmode=verify-full&sslrootcert=FILE]: {0}"
    )]
    PostgresAddress(&'static str),
    /// A value of `sslmode` other than `verify-full` and `disable`.
    #[error(
        "sslmode={0} is not supported, as it does not verify the server; use verify-full, or \
         disable to send everything in clear text"
    )]
    SslMode(String),
    /// The CA certificate of PostgreSQL cannot be read.
    #[error("could not read {path}, the file of PostgreSQL's CA certificate")]
    PostgresAuthority {
        /// The value of `sslrootcert` or of `PGSSLROOTCERT`.
        path: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The name of PostgreSQL's host cannot be resolved.
    #[error("could not resolve {host}, the host of ALERTSTORM_POSTGRES")]
    NoAddress {
        /// Host and port.
        host: String,
        /// The error of the resolver; `None` if it returned no address.
        source: Option<std::io::Error>,
    },
    /// The CA certificate of Vault cannot be read.
    #[error("could not read {path}, the file that VAULT_CACERT names")]
    VaultAuthority {
        /// The value of `VAULT_CACERT`.
        path: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A CA certificate is not valid PEM, or not a certificate: the variable that names its file.
    #[error("could not build a TLS configuration from the certificates of {0}")]
    Tls(&'static str, #[source] Box<rustls::Error>),
    /// The kubeconfig is missing or not valid.
    #[error("could not read the kubeconfig; KUBECONFIG names its file")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// The kubeconfig has no such context.
    #[error("the kubeconfig has no context `{name}`; its contexts are: {known}")]
    NoContext {
        /// The name of `--context`, or of the current context.
        name: String,
        /// The names of all contexts.
        known: String,
    },
    /// The namespace, its Lease or the FlowSchema could not be created.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// The API server rejected a request, or did not answer.
    #[error("a request to the cluster's API server failed")]
    Api(#[from] kube::Error),
    /// A request has an invalid URL or header.
    #[error("could not build a request to the cluster's API server")]
    Request(#[from] http::Error),
    /// A request body cannot be serialised.
    #[error("could not serialise the body of a request to the cluster's API server")]
    Body(#[from] serde_json::Error),
    /// A request to Vault failed.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// PostgreSQL rejected a login or a statement, or did not answer.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// The run's objects in the cluster could not be deleted.
    #[error(transparent)]
    Sweep(#[from] SweepError),
    /// A fault of a server that does not belong to the run.
    #[error("the provider `cluster` cannot stop {0}, which does not belong to the run")]
    NotOurs(&'static str),
    /// A setting that the provider does not support, in a sentence.
    #[error("{0}")]
    Unsupported(&'static str),
}

/// Address and administrator of PostgreSQL.
#[derive(Clone)]
pub(super) struct Postgres {
    pub at: postgres::Address,
    /// The host as it was typed.
    pub host: String,
    pub user: String,
    pub password: String,
}

/// `ALERTSTORM_POSTGRES`, and what libpq's variables add to it.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    user: String,
    host: String,
    port: u16,
    mode: Option<Mode>,
    /// The file of the CA certificate.
    root: Option<String>,
}

/// The values of `sslmode` that are supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Disable,
    VerifyFull,
}

impl Mode {
    fn parse(text: &str) -> Result<Self, ClusterError> {
        match text {
            "disable" => Ok(Self::Disable),
            "verify-full" => Ok(Self::VerifyFull),
            _ => Err(ClusterError::SslMode(text.to_owned())),
        }
    }
}

impl Place {
    fn parse(
        text: &str,
        variable: impl Fn(&'static str) -> Option<String>,
    ) -> Result<Self, ClusterError> {
        let wrong = ClusterError::PostgresAddress;
        let (place, settings) = text.split_once('?').unwrap_or((text, ""));
        let (user, address) = place.rsplit_once('@').ok_or(wrong("it has no `@`"))?;
        if user.is_empty() || user.contains(':') || user.contains("//") {
            return Err(wrong("the part before `@` has to be a user; the password is PGPASSWORD"));
        }
        let (host, port) = address.rsplit_once(':').ok_or(wrong("it has no port"))?;
        let port = port.parse().map_err(|_| wrong("its port is not a number"))?;
        let host = match host.strip_prefix('[').and_then(|inside| inside.strip_suffix(']')) {
            Some(inside) => inside,
            None if host.contains(':') => return Err(wrong("an IPv6 address belongs in brackets")),
            None => host,
        };
        let mut mode = variable("PGSSLMODE").as_deref().map(Mode::parse).transpose()?;
        let mut root = variable("PGSSLROOTCERT");
        for setting in settings.split('&').filter(|setting| !setting.is_empty()) {
            match setting.split_once('=') {
                Some(("sslmode", text)) => mode = Some(Mode::parse(text)?),
                Some(("sslrootcert", path)) => root = Some(path.to_owned()),
                _ => return Err(wrong("its settings are sslmode and sslrootcert")),
            }
        }
        let (user, host) = (user.to_owned(), host.to_owned());
        Ok(Self { user, host, port, mode, root })
    }

    /// The connection to `at`, the host's address. Without a setting it is in plain text only on
    /// this machine.
    fn secured(&self, at: SocketAddr) -> Result<postgres::Address, ClusterError> {
        let local = at.ip().is_loopback() && self.root.is_none();
        if self.mode == Some(Mode::Disable) || self.mode.is_none() && local {
            return Ok(postgres::Address::plain(at));
        }
        let path = self.root.clone().ok_or(ClusterError::Unset(
            "PGSSLROOTCERT",
            "the file of PostgreSQL's CA certificate; or say sslmode=disable in ALERTSTORM_POSTGRES",
        ))?;
        let ca = std::fs::read_to_string(&path)
            .map_err(|source| ClusterError::PostgresAuthority { path, source })?;
        let tls = Tls::new(&self.host, &ca)
            .map_err(|error| ClusterError::Tls("sslrootcert", Box::new(error)))?;
        Ok(postgres::Address { at, tls: Some(tls) })
    }
}

/// The value of an environment variable that is not empty.
fn set(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn variable(name: &'static str, what: &'static str) -> Result<String, ClusterError> {
    std::env::var(name).map_err(|_| ClusterError::Unset(name, what))
}

impl Postgres {
    /// Reads `ALERTSTORM_POSTGRES`, like `admin@db.example:5432`, `PGPASSWORD`, and libpq's
    /// `PGSSLMODE` and `PGSSLROOTCERT`.
    pub async fn from_environment() -> Result<Self, ClusterError> {
        let place = variable("ALERTSTORM_POSTGRES", "PostgreSQL's administrator, USER@HOST:PORT")?;
        let password = variable("PGPASSWORD", "the password of PostgreSQL's administrator")?;
        let place = Place::parse(&place, set)?;
        let none = |source| ClusterError::NoAddress { host: place.host.clone(), source };
        let found = tokio::net::lookup_host((place.host.as_str(), place.port)).await;
        let at = found.map_err(|error| none(Some(error)))?.next().ok_or_else(|| none(None))?;
        Ok(Self { at: place.secured(at)?, host: place.host, user: place.user, password })
    }

    pub fn login<'a>(&'a self, database: &'a str) -> Login<'a> {
        let (user, password) = (&self.user, Some(self.password.as_str()));
        Login { to: &self.at, from: None, user, password, database }
    }
}

/// The CA certificate of Vault in PEM format; empty if `VAULT_CACERT` is not set.
pub(super) fn authority_of_vault() -> Result<String, ClusterError> {
    let Some(path) = set("VAULT_CACERT") else { return Ok(String::new()) };
    std::fs::read_to_string(&path).map_err(|source| ClusterError::VaultAuthority { path, source })
}

/// Refuses a URL with which tokens would leave this machine in clear text.
pub(super) fn check_url(what: &'static str, url: &str) -> Result<(), ClusterError> {
    let owned = || url.to_owned();
    let Some((host, _)) = reach::host_of(url) else {
        return Err(ClusterError::NoUrl { what, url: owned() });
    };
    let here = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    let secure = url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"));
    if secure || here { Ok(()) } else { Err(ClusterError::PlainHttp { what, url: owned() }) }
}

/// The address and the token of Vault, from `VAULT_ADDR`, `VAULT_CACERT`, `VAULT_NAMESPACE` and
/// `VAULT_TOKEN`.
pub(super) fn vault_from_environment() -> Result<(Address, String), ClusterError> {
    let url = variable("VAULT_ADDR", "Vault's address, like https://vault.example:8200")?;
    let token = variable("VAULT_TOKEN", "a token that may mount engines and write policies")?;
    let url = url.trim_end_matches('/').to_owned();
    check_url("VAULT_ADDR", &url)?;
    let secure = !url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http:"));
    if secure {
        variable("VAULT_CACERT", "the file of the CA certificate of Vault")?;
    }
    let namespace = set("VAULT_NAMESPACE").map(|name| name.trim_matches('/').to_owned());
    let trusted = |error| ClusterError::Tls("VAULT_CACERT", Box::new(error));
    let ca = authority_of_vault()?;
    let tls = if secure { trust::only_nonempty(&ca) } else { trust::only(&ca) };
    Ok((Address { url, namespace, tls: tls.map_err(trusted)? }, token))
}

/// Refuses a Vault and a PostgreSQL whose names look like production, unless they are named.
pub(super) fn check_production(
    vault: Option<&Address>,
    for_pods: Option<&str>,
    postgres: Option<&str>,
    named: &[String],
) -> Result<(), ClusterError> {
    let host = |url: &str| reach::host_of(url).map_or_else(|| url.to_owned(), |(host, _)| host);
    let names = [
        ("Vault at", vault.map(|at| host(&at.url))),
        ("Vault at", for_pods.map(host)),
        ("Vault's namespace", vault.and_then(|at| at.namespace.clone())),
        ("PostgreSQL at", postgres.map(str::to_owned)),
    ];
    for (what, host) in names {
        if let Some(host) = host.filter(|host| looks_like_production(host))
            && !named.contains(&host)
        {
            return Err(ClusterError::ProductionHost { what, host });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str, variables: &[(&str, &str)]) -> Result<Place, ClusterError> {
        Place::parse(text, |name| {
            variables.iter().find(|(of, _)| *of == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_address_of_postgresql_names_its_user_host_port_and_tls_settings() {
        let plain = place("admin@db.example:5432", &[]).unwrap();
        assert_eq!((plain.host.as_str(), plain.port, plain.mode), ("db.example", 5432, None));
        let full = "admin@[fd00::1]:5433?sslmode=verify-full&sslrootcert=/etc/ca.crt";
        let full = place(full, &[("PGSSLMODE", "disable")]).unwrap();
        assert_eq!((full.host.as_str(), full.mode), ("fd00::1", Some(Mode::VerifyFull)));
        assert_eq!(full.root.as_deref(), Some("/etc/ca.crt"));
        let environment = [("PGSSLMODE", "disable"), ("PGSSLROOTCERT", "ca.crt")];
        let from = place("admin@db.example:5432", &environment).unwrap();
        assert_eq!((from.mode, from.root.as_deref()), (Some(Mode::Disable), Some("ca.crt")));
        for wrong in [
            "db.example:5432",
            "admin@db.example",
            "admin@db.example:postgres",
            "admin:secret@db.example:5432",
            "postgresql://admin@db.example:5432",
            "@db.example:5432",
            "admin@fd00::1:5432",
            "admin@db.example:5432?sslcert=x",
        ] {
            let error = place(wrong, &[]).unwrap_err();
            assert!(matches!(error, ClusterError::PostgresAddress(_)), "{wrong}: {error:?}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn modes_that_do_not_verify_the_server_are_refused() {
        for mode in ["allow", "prefer", "require", "verify-ca", "VERIFY-FULL", ""] {
            let text = format!("admin@db.example:5432?sslmode={mode}");
            assert!(matches!(place(&text, &[]), Err(ClusterError::SslMode(_))), "{mode}");
        }
    }

    #[test]
    fn postgresql_in_plain_text_is_refused_off_loopback_unless_it_is_asked_for() {
        let open = place("admin@db.example:5432", &[]).unwrap();
        assert_eq!(open.secured(at("127.0.0.1:5432")).unwrap().tls, None);
        for remote in ["10.0.0.5:5432", "[::ffff:127.0.0.1]:5432", "0.0.0.0:5432"] {
            let refused = open.secured(at(remote));
            assert!(matches!(refused, Err(ClusterError::Unset("PGSSLROOTCERT", _))), "{remote}");
        }
        let asked = place("admin@db.example:5432?sslmode=disable", &[]).unwrap();
        assert_eq!(asked.secured(at("10.0.0.5:5432")).unwrap().tls, None);
    }

    #[test]
    fn a_certificate_authority_asks_for_verification_also_on_loopback() {
        let folder =
            std::env::temp_dir().join(format!("alertstorm-{}", crate::provider::secret::name()));
        std::fs::create_dir_all(&folder).unwrap();
        let (good, empty) = (folder.join("ca.crt"), folder.join("empty.crt"));
        let key = rcgen::generate_simple_self_signed(["db.example".to_owned()]).unwrap();
        std::fs::write(&good, key.cert.pem()).unwrap();
        std::fs::write(&empty, "").unwrap();
        let with = |path: &std::path::Path| {
            let place =
                place("admin@db.example:5432", &[("PGSSLROOTCERT", path.to_str().unwrap())]);
            place.unwrap().secured(at("127.0.0.1:5432"))
        };
        let (trusted, no_certificate, missing) =
            (with(&good), with(&empty), with(&folder.join("none")));
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(trusted.unwrap().tls.unwrap().host(), "db.example");
        assert!(matches!(no_certificate, Err(ClusterError::Tls("sslrootcert", _))));
        assert!(matches!(missing, Err(ClusterError::PostgresAuthority { .. })));
    }

    #[test]
    fn http_is_refused_off_loopback() {
        for url in [
            "https://vault.example:8200",
            "HTTPS://vault.example",
            "http://127.0.0.1:8200",
            "http://127.8.9.1",
            "http://[::1]:8200",
            "http://localhost:8200",
        ] {
            check_url("VAULT_ADDR", url).unwrap_or_else(|error| panic!("{error}"));
        }
        for url in [
            "http://vault.example:8200",
            "HTTP://10.0.0.1:8200",
            "http://localhost.evil.example",
            "http://127.0.0.1.evil.example",
            "http://127.0.0.1@evil.example",
            "http://0.0.0.0:8200",
            "http://[::ffff:10.0.0.1]:8200",
        ] {
            let refused = check_url("VAULT_ADDR", url);
            assert!(matches!(refused, Err(ClusterError::PlainHttp { .. })), "{url}: {refused:?}");
        }
        for url in ["vault.example:8200", "unix:///run/vault", "ftp://127.0.0.1", ""] {
            let refused = check_url("VAULT_ADDR", url);
            assert!(matches!(refused, Err(ClusterError::NoUrl { .. })), "{url}: {refused:?}");
        }
    }

    #[test]
    fn a_vault_or_a_postgresql_that_looks_like_production_has_to_be_named() {
        let vault = |url: &str, namespace: Option<&str>| Address {
            url: url.to_owned(),
            namespace: namespace.map(str::to_owned),
            tls: trust::only("").unwrap(),
        };
        let check = |vault: &Address, postgres: &str, named: &[&str]| {
            let named: Vec<String> = named.iter().map(|name| (*name).to_owned()).collect();
            check_production(Some(vault), Some(&vault.url), Some(postgres), &named)
        };
        let staging = vault("https://vault.staging.example:8200", Some("teams/reproduce"));
        check(&staging, "db.preproduction-like.example", &[]).unwrap();
        for (of, postgres, host) in [
            (vault("https://vault.prod.example:8200", None), "db", "vault.prod.example"),
            (vault("https://vault.example", Some("prod/agents")), "db", "prod/agents"),
            (staging.clone(), "db-prod1.example", "db-prod1.example"),
        ] {
            let refused = check(&of, postgres, &[]).unwrap_err();
            assert!(refused.to_string().ends_with(&format!("--production {host}")), "{refused}");
            check(&of, postgres, &[host]).unwrap();
        }
    }
}
